"""From any float ONNX file to the faster of int8 and float within the accuracy budget. Never imports torch.

    probe -> images -> simplify, fold -> search, calibrate -> race and judge -> write the graph that won

Test: tests/test_road.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack, overload

import onnx

from edgecnn import doubts
from edgecnn.choosing.contest import SEARCH_SECONDS, Contest, compete
from edgecnn.choosing.evidence import of_verdict
from edgecnn.choosing.model_identity import (
    assumed_of,
    classes_in,
    half_layers,
    identified,
    judged_as,
    prepared,
    preparing,
    settled,
)
from edgecnn.choosing.options import CPU, OTHER_RUNTIME, QuantizeOptions
from edgecnn.choosing.packing import pack_given, require_rows
from edgecnn.choosing.shipping import float_beside, portable_beside, saved_beside, shipped
from edgecnn.choosing.targeted import TargetReport, aimed
from edgecnn.choosing.trial import Trial, trial_on
from edgecnn.data.data_argument import Data
from edgecnn.data.labels import Labels
from edgecnn.data.material import Material, material_for
from edgecnn.data.one_set import both
from edgecnn.data.ready_arrays import refuse_floats
from edgecnn.evaluation.own_metric import Metric, budgeted
from edgecnn.float_passes import ready_for_int8
from edgecnn.memory import memory_is_kept
from edgecnn.opened import check_quantized_output, refuse_bundle
from edgecnn.outcomes import QuantizeReport
from edgecnn.runners import graph_outputs, probe_shapes
from exporters import artifact, calibrators
from exporters.artifact import Identity, Stage
from exporters.half_input import narrowed, widened
from exporters.isolation.probe import probe
from exporters.load import load_model, save_model
from exporters.quantization.quantize import QuantRecipe, check_patterns, refuse_quantized
from exporters.targets.cpu_target import check_target, this_cpu
from exporters.targets.target import runnable
from exporters.targets.targets_int8 import TARGETS, Int8Target
from runtimes import plugins
from runtimes.base import BadInput, Track, silent
from runtimes.bundle import SUFFIX
from runtimes.files import check_output
from runtimes.imaging.preprocess import FLOAT32, UINT8, UINT8_NHWC, Preprocess

DEFAULT_LIMIT = 128
"""Calibration images by default: with 8 instead of 128, int8 loses 9 to 10 dB."""


StrPath = str | os.PathLike[str]


@overload
def quantize(
    model: StrPath, output: StrPath, calib: Data, *, target: CPU | None = None, **options: Unpack[QuantizeOptions]
) -> QuantizeReport: ...
@overload
def quantize(
    model: StrPath, output: StrPath, calib: Data, *, target: OTHER_RUNTIME, **options: Unpack[QuantizeOptions]
) -> TargetReport: ...
@overload
def quantize(
    model: StrPath, output: StrPath, calib: Data, *, target: str | None, **options: Unpack[QuantizeOptions]
) -> QuantizeReport | TargetReport: ...
def quantize(
    model: StrPath,
    output: StrPath,
    calib: Data,
    *,
    calibrator: str = "minmax",
    per_tensor: bool = False,
    exclude: Sequence[str] = (),
    max_drop: float | None = None,
    sure: bool = False,
    data: Data | None = None,
    task: str | None = None,
    metric: str | Metric | None = None,
    limit: int | None = DEFAULT_LIMIT,
    input_shape: str | None = None,
    labels: Labels | None = None,
    preprocess: str | None = None,
    target: str | None = None,
    portable: bool = False,
    input: str = FLOAT32,
    search_budget: float = SEARCH_SECONDS,
    threads: int = 1,
    seed: int = 0,
    skip_unreadable: bool = False,
    allow_slower: bool = False,
    all_int8: bool = False,
    keep_float: bool = False,
    runtime: bool = True,
    force: bool = False,
    track: Track = silent,
    tell: doubts.Tell = doubts.unheard,
) -> QuantizeReport | TargetReport:
    """Quantize the float `.onnx` file `model` on the images `calib` and write the faster graph within `max_drop`.

    `calib` and `data` name a set or a file, or are arrays: images, or (images, labels), as .npy and .npz files hold.
    An `output` that ends in `.edge` is a bundle, proven by the answers of `model` itself.
    BatchNorms are folded first. `max_drop` (None: 0.01) is the share of top-1 (mIoU, mAP, R^2) that int8 may lose;
    without labels it is the share of answers that may change; `sure` holds it at the far end of its 95 % interval.
    `metric` judges in their place: a function of the answers to one image and its name, or `FILE.py:NAME`
    (edgecnn/evaluation/own_metric.py). `search_budget` seconds go into the
    search for the fastest integer graph; with 0 two are compared. `all_int8`: every layer that can be int8 is, also
    where float is faster, for a small file; within `max_drop` all the same. `target` is a CPU of
    `exporters.targets.cpu_target` (None: this one) or a name of `exporters.targets.targets_int8`; nothing can be raced
    for another one. `keep_float`: a bundle holds the float graph too, for `settle` there; `runtime`: it runs by itself
    (docs/device.md). `portable` also writes the graph without rewrites, `output` with the ending `.portable.onnx`.
    `input`: uint8 or uint8-nhwc for a model that takes pixels and normalizes them itself. `labels` (a file of class
    names), `preprocess` and `task` say what the model does not, and travel with it. `tell` hears what was assumed
    before the work; the report's `warnings` have it too. `skip_unreadable` leaves out pictures that cannot be read, and
    draws others to calibrate in their place. Raises `BadInput` for what cannot be used.
    """
    path, name, doubt = check_quantized_output(Path(output), force, Path(model)), os.fspath(model), ""
    beside = portable_beside(path, force, Path(model)) if portable else None
    seen, judge = both(calib, data)
    check_options(calibrator, keep_float, runtime, path)
    (own, budget), (aim, target) = budgeted(metric, max_drop, sure), aim_of(target, portable, input != FLOAT32, path)
    given, original, file_says = float_file(Path(model), input_shape, seed)
    told, identity = task is not None or file_says is not None, identified(original, file_says, path.stem, labels, task)
    images = partial(
        material_for, original, calib=seen, data=judge, limit=limit or DEFAULT_LIMIT, seed=seed,
        input_shape=input_shape, own=own, name=name, skip_unreadable=skip_unreadable, track=track,
    )  # fmt: skip
    material = images(identity, preprocess=preprocess)
    identity = said_of(identity, path.stem, original, material, preprocess, input)
    check_made(input, path, original, name, material)
    carried = input != FLOAT32 or path.suffix == SUFFIX
    early = doubts.aloud(tell, assumed_of(name, material, carried, identity, preprocess))
    float_model, ready = ready_for_int8(original, material.calibration_feeds[:2], material.sizes, track)
    early = (*early, *doubts.aloud(tell, doubts.told(half_layers(name, float_model))))
    recipe = recipe_for(material, calibrator, target, not per_tensor, exclude, float_model)
    known = identity if identity and file_says else with_pixels(identity, path, material, input)
    known, material, said = settled(name, known, told, float_model, material, tell)
    identity = known if identity else None
    trial = trial_on(material, known, budget, allow_slower, all_int8, own, threads, search_budget, seed)
    if aim is not None:
        before = (*artifact.read_stages(original), *ready)
        report = aimed(aim, float_model, recipe, material, trial, path, identity, before, force, track)
        return replace(report, warnings=doubts.told(*early, *said, *report.warnings))
    result, stage = contest_stage(float_model, recipe, material, trial, search_budget, portable, track)
    done = (*artifact.read_stages(original), *ready, stage)
    if input != FLOAT32:
        identity = known = taking(known, input)
    chosen = shipped(float_model, result.quantized, result.decision, identity, done)
    if path.suffix == SUFFIX:
        about = known if identity else replace(known, name=Path(model).stem)
        taken = material if input == FLOAT32 else judged_as(known.task, images(about), graph_outputs(original))
        doubt = pack_given(check_output(path, force), chosen, (original, Path(model).name), about, result, done, taken,
                           float_beside(keep_float, float_model, result.decision, about, done), runtime)  # fmt: skip
    else:
        save_model(narrowed(chosen, given), path, force=force)
    heard = doubts.told(*early, *said, *of_verdict(name, result, material, trial, classes_in(original)), doubt)
    return QuantizeReport(
        path, result.decision, result.quantized, prepared(identity, material, carried), material.judged_on, result,
        saved_beside(beside, result, identity, done, force, given), warnings=heard, pixels=material.pixels,
        unreadable=material.unreadable, keep_float=keep_float,
    )  # fmt: skip


MADE = (FLOAT32, UINT8, UINT8_NHWC)
"""What a quantized model can be made to take."""


def float_file(
    path: Path, input_shape: str | None, seed: int
) -> tuple[onnx.ModelProto, onnx.ModelProto, Identity | None]:
    """The float model in `path`, which was seen to run; the same with a wide input; what it says of itself.

    Raises `BadInput`.
    """
    refuse_bundle(path)
    model = runnable(load_model(path))
    refuse_quantized(model, str(path))
    identity = artifact.read_identity(model, str(path))
    probe(model, str(path), seed=seed, input_shapes=probe_shapes(model, identity, input_shape))
    return model, widened(model), identity


def recipe_for(
    material: Material, calibrator: str, target: str, per_channel: bool = True, exclude: Sequence[str] = (),
    model: onnx.ModelProto | None = None,
) -> QuantRecipe:  # fmt: skip
    """How the images of `material` are turned into int8; `BadInput` for an `exclude` that no node of `model` fits."""
    if model is not None:
        check_patterns(model, exclude)
    seen = material.calibration
    return QuantRecipe(
        calibrator, per_channel, tuple(exclude), seen.recorded, len(seen), target=target, available=seen.of,
        fingerprint=material.fingerprint, copies=material.copies,
    )  # fmt: skip


def check_input(name: str, preprocess: Preprocess | None, dynamic_size: bool = False) -> None:
    """Raise `BadInput` for an input that does not exist, or for pixels where the model takes no pictures.

    Pixels of any size are not proven yet: a bundle's second size is held to the module in floats.
    """
    if name not in MADE:
        raise BadInput(f"--input {plugins.unknown(name, MADE, 'input')}")
    if name != FLOAT32 and preprocess is None:
        raise BadInput(f"--input {name}: the model takes no pictures of 1 or 3 channels; leave it out")
    if name != FLOAT32 and preprocess is not None and not preprocess.floating:
        raise BadInput(f"--input {name}: the model takes {preprocess.input} pixels already; leave it out")
    if name != FLOAT32 and dynamic_size:
        raise BadInput(f"--input {name}: cannot be had together with --dynamic-size; leave one of them out")


def check_made(input: str, output: Path, original: onnx.ModelProto, name: str, material: Material) -> None:
    """`check_input`; and `BadInput` for a bundle of a model called `name` whose answers could not prove it."""
    check_input(input, material.preprocess)
    if output.suffix == SUFFIX:
        require_rows(original, name, material)
        refuse_floats(input, (material.calibration, material.judged))


def said_of(
    identity: Identity | None, name: str, model: onnx.ModelProto, material: Material, preprocess: str | None, input: str
) -> Identity | None:  # fmt: skip
    """`identity` with the pixels of `material`, where the user says them by `preprocess`, or where it says none itself
    and the result's `input` is made of them.
    """
    unsaid = input != FLOAT32 and identity is not None and identity.preprocess is None
    return preparing(identity, name, model, material.preprocess) if preprocess is not None or unsaid else identity


def with_pixels(identity: Identity | None, path: Path, material: Material, input: str) -> Identity:
    """What is known of a file that says nothing of itself: `identity`, as far as the user said it, and, where the
    result is a bundle, how `material` is made ready.
    """
    known = identity or Identity(path.stem)
    if known.preprocess is not None or (identity is not None and path.suffix != SUFFIX):
        return known
    return replace(known, preprocess=prepared(None, material, True, input != FLOAT32))


def taking(identity: Identity, name: str) -> Identity:
    """`identity` of a model that takes `name`: the deployed pixels follow the model's input."""
    assert identity.preprocess is not None
    return replace(identity, preprocess=replace(identity.preprocess, input=name))


def aim_of(name: str | None, portable: bool, pixels: bool, output: Path) -> tuple[Int8Target | None, str]:
    """(the target called `name` that has a quantizer of its own, else None; the CPU that is meant, or this one).

    Raises `BadInput` for one that does not exist, and for what cannot be had with it.
    """
    aim = TARGETS.get(name or "")
    if aim is not None and (portable or pixels):
        raise BadInput(f"--target {name}: has one layout and takes floats; leave out --portable and --input")
    if aim is not None and output.suffix == SUFFIX:
        raise BadInput(f"--target {name}: writes an .onnx file for another runtime; end {output.name} with .onnx")
    return aim, checked_target(None if aim else name)


def checked_target(name: str | None) -> str:
    """The CPU target called `name`, or this CPU; `BadInput` for one that does not exist, before any long work."""
    if name is None:
        return this_cpu()
    check_target(name)
    return name


def check_options(calibrator: str, keep_float: bool, runtime: bool, output: Path) -> None:
    """Raise `BadInput` for a calibrator that does not exist, and for what is of bundles where `output` is none."""
    check_calibrator(calibrator)
    if output.suffix == SUFFIX:
        return
    if keep_float:
        raise BadInput(f"--keep-float: keeps both graphs in a bundle; end {output.name} with {SUFFIX}, or leave it out")
    if not runtime:
        raise BadInput(f"--no-runtime: leaves a bundle's program out, and {output.name} is no bundle; leave that out")


def check_calibrator(name: str) -> None:
    """Raise `BadInput` for a calibrator that does not exist, before any long work."""
    if name not in plugins.names(calibrators):
        raise BadInput(plugins.unknown(name, plugins.names(calibrators), "calibrator"))


def contest_stage(
    float_model: onnx.ModelProto,
    recipe: QuantRecipe,
    material: Material,
    trial: Trial,
    seconds: float,
    portable: bool,
    track: Track,
) -> tuple[Contest, Stage]:
    """The contest and the stage that it adds to the road."""
    started = time.perf_counter()
    with memory_is_kept(float_model.ByteSize()):
        result = compete(float_model, recipe, material, trial, seconds, portable, track)
    words = f"{result.quantized.int8_nodes} int8 nodes"
    took = time.perf_counter() - started
    return result, artifact.describe("quantize", result.quantized.model, took, note=words)
