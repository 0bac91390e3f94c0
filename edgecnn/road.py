"""The road: from a PyTorch network to a proven bundle, in calls that each stand alone.

    export     SOURCE -> float .onnx                         every stage checked against the PyTorch module
    quantize   any float .onnx -> the faster of int8 and float within the accuracy budget      (quantizing.py, no torch)
    build      SOURCE -> both of these -> a bundle           checked, raced, chosen, packed with its proof

Each returns a record and prints nothing. Outputs appear whole or not at all. Test: tests/test_road.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, Unpack, overload

import onnx
from torch import nn

from edgecnn import doubts, halving, open_size, proof, stages
from edgecnn.choosing.contest import SEARCH_SECONDS
from edgecnn.choosing.device_build import DeviceBuildReport, build_for
from edgecnn.choosing.evidence import of_verdict
from edgecnn.choosing.model_identity import judging
from edgecnn.choosing.options import BuildOptions
from edgecnn.choosing.quantizing import (
    DEFAULT_LIMIT,
    check_calibrator,
    check_input,
    checked_target,
    contest_stage,
    recipe_for,
    taking,
)
from edgecnn.choosing.shipping import float_beside, portable_beside, saved_beside, shipped
from edgecnn.choosing.trial import trial_on
from edgecnn.data.data_argument import Data, Spec
from edgecnn.data.labels import Labels
from edgecnn.data.load import load_data
from edgecnn.data.material import Material, material_for
from edgecnn.data.one_set import both
from edgecnn.data.ready_arrays import for_arrays, refuse_floats, unprepared
from edgecnn.data.samples import Samples
from edgecnn.data.spread import spread
from edgecnn.evaluation.own_metric import Metric, budgeted
from edgecnn.networks.forward import InputShape
from edgecnn.networks.overrides import told
from edgecnn.networks.sources import Network, resolve
from edgecnn.networks.unstated_task import may_be, meant
from edgecnn.opened import check_model_output
from edgecnn.outcomes import BuildReport, ExportReport
from edgecnn.tasks import EMBEDDING, NUMBERS
from exporters import artifact
from exporters.artifact import Identity
from exporters.ending import SIGMOID
from exporters.ignored_inputs import ignored_inputs
from exporters.load import save_model
from exporters.torch_export import DEFAULT_OPSET
from runtimes.base import Tensors, Track, silent
from runtimes.execution import provider_options
from runtimes.files import check_output
from runtimes.imaging.preprocess import FLOAT32
from runtimes.proof.writing import check_bundle_output
from runtimes.session import open_session

StrPath = str | os.PathLike[str]
REAL_IMAGES = 16
"""Images on which the int8 graph is compared with the PyTorch module itself."""


def export(
    source: str | nn.Module,
    output: StrPath,
    *,
    weights: StrPath | None = None,
    input_shape: InputShape | None = None,
    num_classes: int | None = None,
    labels: Labels | None = None,
    preprocess: str | None = None,
    decode: str | None = None,
    task: str | None = None,
    answer: str | int | None = None,
    opset: int = DEFAULT_OPSET,
    dynamic: bool = True,
    dynamic_size: bool = False,
    fold: bool = True,
    simplify: bool = True,
    fp16: bool = False,
    provider: str = "cpu",
    allow_slower: bool = False,
    force: bool = False,
    seed: int = 0,
    track: Track = silent,
    tell: doubts.Tell = doubts.unheard,
) -> ExportReport:
    """Export the network SOURCE to the float model `output`: BatchNorm folded, simplified, each stage checked.

    `decode`: the raw head (`yolov8`, `yolov5`, `yolov10`) that the network answers with becomes boxes.
    `task` says what its answers mean (edgecnn/tasks), where its code does not; `answer` which of several outputs is
    kept, by its key or place: what only the others need is not exported.
    `fp16`: float16 where it is enough, if that is faster on `provider` or with `allow_slower` (edgecnn/halving.py).

    `dynamic_size`: height and width stay open too, and each stage is checked at two sizes. Raises `BadInput` for
    sources, weights and shapes that do not fit, `CheckFailed` when a stage changes the function. `tell` hears the
    report's `warnings` before the work.
    """
    asked = provider_options.require(provider)
    path = check_model_output(Path(output), force)
    network = told(resolve(source, _path(weights), input_shape, num_classes, decode, task, answer), labels, preprocess)
    stages.require_room(network)
    network, assumed = meant(network)
    heard = doubts.aloud(tell, doubts.told(doubts.of_input(network), network.said, assumed))
    skip = [name for name, wanted in (("fold_batchnorm", fold), ("simplify", simplify)) if not wanted]
    model, done, reference = stages.float_road(
        network, opset=opset, dynamic=dynamic, dynamic_size=dynamic_size, skip=skip, seed=seed, track=track
    )
    heard = doubts.told(*heard, ignored(network, model, tell))
    done = stages.held_to(done, reference)
    if fp16:
        halved = halving.halve(
            model, reference.feeds, reference.parity, reference.noise_db, asked.text, 1, allow_slower, (),
            network.name, track,
        )  # fmt: skip
        model, done = halved.half.model, (*done, halving.stage_of(halved))
    artifact.write_identity(model, identity_of(network))
    save_model(artifact.write_stages(model, done), path, force=force)
    return ExportReport(path, done, network.seeded, network.preprocess, heard, network.prefix)


@overload
def build(
    source: str | nn.Module,
    output: StrPath,
    *,
    calib: Data,
    provider: Literal["cpu"] = "cpu",
    **options: Unpack[BuildOptions],
) -> BuildReport: ...
@overload
def build(
    source: str | nn.Module, output: StrPath, *, calib: Data, provider: str, **options: Unpack[BuildOptions]
) -> BuildReport | DeviceBuildReport: ...
def build(
    source: str | nn.Module,
    output: StrPath,
    *,
    calib: Data,
    weights: StrPath | None = None,
    data: Data | None = None,
    input_shape: InputShape | None = None,
    num_classes: int | None = None,
    labels: Labels | None = None,
    preprocess: str | None = None,
    decode: str | None = None,
    task: str | None = None,
    answer: str | int | None = None,
    calibrator: str = "minmax",
    target: str | None = None,
    portable: bool = False,
    input: str = FLOAT32,
    max_drop: float | None = None,
    sure: bool = False,
    metric: str | Metric | None = None,
    limit: int | None = DEFAULT_LIMIT,
    search_budget: float = SEARCH_SECONDS,
    provider: str = "cpu",
    threads: int = 1,
    allow_slower: bool = False,
    all_int8: bool = False,
    keep_float: bool = False,
    dynamic: bool = True,
    dynamic_size: bool = False,
    runtime: bool = True,
    force: bool = False,
    seed: int = 0,
    skip_unreadable: bool = False,
    track: Track = silent,
    tell: doubts.Tell = doubts.unheard,
) -> BuildReport | DeviceBuildReport:
    """The whole road: SOURCE -> export, simplify, fold, quantize, check, race, choose -> the bundle `output`.

    Arguments as for `export` and `quantize`, where `calib` and `data` may be arrays.
    The race is on `threads` threads; on one, CPU time can be trusted most.
    Without `dynamic` the graph takes one image at a time, for code that fixes the batch when it is traced.
    With `dynamic_size` it is calibrated and raced at the network's own size, and proven at another one too.
    `keep_float`: the bundle holds the float graph too, and `settle` chooses between them where it runs.
    `runtime`: `python NAME.edge` runs by itself (docs/device.md).
    `tell` hears what was assumed before the work; the report's `warnings` have it too.
    On a `provider` other than the CPU float32, TF32, float16 and the provider's settings are raced instead of int8.
    """
    started = time.perf_counter()
    asked = provider_options.require(provider)
    path, (seen, judge) = check_bundle_output(Path(output), force), both(calib, data)
    beside = portable_beside(path, force) if portable else None
    check_calibrator(calibrator)
    (own, budget), target = budgeted(metric, max_drop, sure), checked_target(target)
    network = told(resolve(source, _path(weights), input_shape, num_classes, decode, task, answer), labels, preprocess)
    network, heard = named(network, seen, judge, own is not None, tell, preprocess, dynamic_size, input,
                           skip_unreadable)  # fmt: skip
    identity = identity_of(network)
    check_input(input, network.preprocess, dynamic_size)
    float_model, done, reference = stages.float_road(network, dynamic=dynamic, dynamic_size=dynamic_size, seed=seed,
                                                     track=track)  # fmt: skip
    proof.require_rows(reference(reference.feeds[0]), network.source, proof.CHOOSE)
    heard = doubts.told(*heard, ignored(network, float_model, tell))
    images = partial(material_for, float_model, calib=seen, data=judge, limit=limit or DEFAULT_LIMIT, seed=seed,
                     input_shape=open_size.built_for(network, dynamic_size), own=own,
                     skip_unreadable=skip_unreadable, track=track)  # fmt: skip
    material = images(identity)
    material, said = judging(network.source, network.task, float_model, material, tell)
    recipe = recipe_for(material, calibrator, target)
    trial = trial_on(material, identity, budget, allow_slower, all_int8, own, threads, search_budget, seed)
    if asked.name != "cpu":
        return build_for(asked, path, network, identity, float_model, done, reference, material, trial, started,
                         runtime, force, track, heard=doubts.told(*heard, *said))  # fmt: skip
    result, stage = contest_stage(float_model, recipe, material, trial, search_budget, portable, track)
    quantized, decision = result.quantized, result.decision
    judged = spread(material.judged, REAL_IMAGES).feeds(material.input_name, 1)[:]
    real = stages.Reference(network, judged, reference.output_names, reference.edges)
    done = (*stages.held_to(done, reference), artifact.with_parity(stage, real.parity(open_session(quantized.model))))
    identity, real, given = _fed(input, network, identity, real, images)
    chosen = shipped(float_model, quantized, decision, identity, done)
    session = open_session(chosen)
    manifest = proof.about(identity, result, done, session, network.values) | material.told
    sizes = stages.at_two_sizes(network, reference, judged) if dynamic_size else None
    unproven = proof.write(check_output(path, force), chosen, session, manifest, real, given, sizes,
                           float_beside(keep_float, float_model, decision, identity, done), runtime)  # fmt: skip
    beside = saved_beside(beside, result, identity, done, force)
    chosen_by = (path, decision, quantized, identity.preprocess, material.judged_on, result, beside, done)
    doubted = of_verdict(network.source, result, material, trial, trained_classes(network), network.seeded)
    heard = doubts.told(*heard, *said, *doubted, unproven)
    return BuildReport(*chosen_by, path.stat().st_size, network.seeded, time.perf_counter() - started, network.prefix,
                       warnings=heard, keep_float=keep_float, unreadable=material.unreadable)  # fmt: skip


def _fed(
    input: str, network: Network, identity: Identity, real: stages.Reference, images: Callable[[Identity], Material]
) -> tuple[Identity, stages.Reference, list[Tensors] | None]:
    """(`identity` with what the shipped graph is given, the module on real images of that, these as it is given them);
    the last is None where it is what the module is given.
    """
    if input == FLOAT32:
        return identity, real, None
    identity = taking(identity, input)
    assert identity.preprocess is not None
    made, given = stages.in_pixels(network, images(identity).judged, identity.preprocess, real.output_names)
    return identity, made, given


def ignored(network: Network, model: onnx.ModelProto, tell: doubts.Tell) -> str:
    """The line about inputs of `network` of which its graph `model` makes nothing, after it was told."""
    return "".join(doubts.aloud(tell, doubts.told(doubts.of_ignored(network, ignored_inputs(model)))))


def trained_classes(network: Network) -> int | None:
    """How many classes `network` has learned; None for random weights, of which nothing is expected."""
    return None if network.seeded else network.classes


def named(
    network: Network, calib: Spec, data: Spec | None, as_truth: bool = False, tell: doubts.Tell = doubts.unheard,
    preprocess: str | None = None, pictures: bool = False, input: str = FLOAT32, skip_unreadable: bool = False,
) -> tuple[Network, tuple[str, ...]]:  # fmt: skip
    """(`network` with the class names of labelled `data`, if it has none; what was told of names and input).

    Calibration images name nothing: nobody said that their folders are classes. Where nobody says a `preprocess`, and
    the data are arrays that are ready, it takes no pictures, unless the result is to (`pictures`, or its `input` are
    pixels). Raises `BadInput` for data that is not there or cannot prove such a result, before any long work.
    """
    stages.require_room(network)
    numbers, other = as_truth or (network.tasked and network.task in NUMBERS), may_be(network)
    kept, task = (True, network.task) if numbers else (None, other) if other else (False, network.task)
    shown = load_data(data, network.ready, task=task, as_truth=kept) if data is not None else None
    few, sift = (DEFAULT_LIMIT, silent) if skip_unreadable else (None, None)  # the network answers some of them
    calibration = load_data(calib, network.ready, limit=few, task=task, as_truth=kept, sift=sift)
    seen = [calibration] if shown is None else [calibration, shown]
    odd = [line for one in seen for line in doubts.of_data(one, network.preprocess, network.assumed.pixels)]
    refuse_floats(input, seen)
    network = network if pictures or input != FLOAT32 else for_arrays(network, network.task, seen)
    network, tasked = meant(network, shown, calibration)
    heard = (doubts.of_input(network, calib, data), network.said, unprepared(preprocess, seen), *odd, tasked)
    shades = doubts.of_shades(network.source, network.task, network.ending, network.preprocess)
    stretched = "" if pictures else doubts.of_stretched(network, calib, data)
    heard = (*heard, doubts.of_few(calibration), stretched, shades)
    if shown is None:
        return network, doubts.aloud(tell, doubts.told(*heard, doubts.of_no_names(network, calibration)))
    after = named_by(network, shown)
    return after, doubts.aloud(tell, doubts.told(*heard, doubts.of_names(shown) if after is not network else ""))


def named_by(network: Network, data: Samples) -> Network:
    """`network` with the class names of labelled `data`, where it has none and there is one for each answer.

    Folders of classes are numbered in the order of their names, as torchvision's ImageFolder does in training.
    """
    if network.labels or network.task == EMBEDDING or len(data.class_names) != network.classes:
        return network
    return replace(network, labels=data.class_names)


def identity_of(network: Network) -> Identity:
    sigmoid = network.ending == SIGMOID
    return Identity(network.name, network.task, network.labels, network.preprocess, sigmoid, network.trained_on)


def _path(value: StrPath | None) -> Path | None:
    return None if value is None else Path(value)
