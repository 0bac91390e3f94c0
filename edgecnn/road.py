"""The road: from a PyTorch network to a proven bundle, in three calls that each stand alone.

    export     SOURCE -> float .onnx                         every stage checked against the PyTorch module
    quantize   any float .onnx -> the faster of int8 and float within the accuracy budget
    build      SOURCE -> both of these -> a bundle           checked, raced, chosen, packed with its proof

Each returns a record and prints nothing. Outputs appear whole or not at all. Test: tests/test_road.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from edgecnn import choose, proof, stages
from edgecnn.choose import Decision, Trial
from edgecnn.labels import read_labels
from edgecnn.material import Material, material_for
from edgecnn.outcomes import BuildReport, ExportReport, QuantizeReport
from edgecnn.sources import Network, classes_of, resolve
from exporters import artifact
from exporters.artifact import Identity, Stage
from exporters.load import load_model, save_model
from exporters.pack import pack
from exporters.probe import probe
from exporters.quantize import Quantized, QuantRecipe, quantize_model
from exporters.torch_export import DEFAULT_OPSET
from runtimes.base import Track, silent
from runtimes.files import check_output
from runtimes.session import open_session

StrPath = str | os.PathLike[str]
DEFAULT_LIMIT = 128
"""Calibration images by default: with 8 instead of 128, int8 loses 9 to 10 dB."""
REAL_IMAGES = 16
"""Images on which the int8 graph is compared with the PyTorch module itself."""


def export(
    source: str,
    output: StrPath,
    *,
    weights: StrPath | None = None,
    input_shape: str | tuple[int, ...] | None = None,
    num_classes: int | None = None,
    labels: StrPath | None = None,
    opset: int = DEFAULT_OPSET,
    dynamic: bool = True,
    fold: bool = True,
    simplify: bool = True,
    force: bool = False,
    seed: int = 0,
    track: Track = silent,
) -> ExportReport:
    """Export the network SOURCE to the float model `output`: BatchNorm folded, simplified, each stage checked.

    Raises `BadInput` for sources, weights and shapes that do not fit, `CheckFailed` when a stage changes the function.
    """
    path = check_output(Path(output), force)
    network = named(resolve(source, _path(weights), input_shape, num_classes), labels)
    skip = [name for name, wanted in (("fold_batchnorm", fold), ("simplify", simplify)) if not wanted]
    model, done, reference = stages.float_road(network, opset=opset, dynamic=dynamic, skip=skip, seed=seed, track=track)
    done = stages.held_to(done, reference)
    artifact.write_identity(model, identity_of(network))
    save_model(artifact.write_stages(model, done), path, force=force)
    return ExportReport(path, done, network.seeded)


def quantize(
    model: StrPath,
    output: StrPath,
    calib: str,
    *,
    calibrator: str = "minmax",
    per_tensor: bool = False,
    exclude: Sequence[str] = (),
    max_drop: float = 0.01,
    data: str | None = None,
    limit: int | None = None,
    threads: int = 1,
    seed: int = 0,
    allow_slower: bool = False,
    force: bool = False,
    track: Track = silent,
) -> QuantizeReport:
    """Quantize the float `.onnx` file `model` on the images `calib` and write the faster graph within `max_drop`.

    BatchNorms are folded first. `max_drop` is the share of top-1 that int8 may lose on `data`; without labels it is the
    share of answers that may change. Raises `BadInput` for models and data that cannot be used.
    """
    path = check_output(Path(output), force)
    original = load_model(Path(model))
    probe(original, os.fspath(model), seed=seed)
    identity = artifact.read_identity(original)
    material = material_for(original, identity, calib, data, limit or DEFAULT_LIMIT, seed)
    float_model, ready = stages.ready_for_int8(original, material.calibration_feeds[:2], track)
    recipe = QuantRecipe(
        calibrator, not per_tensor, tuple(exclude), material.calibration.name, len(material.calibration)
    )
    quantized, stage = _quantized(float_model, recipe, material, track)
    trial = Trial(material.judged, material.input_name, max_drop, allow_slower, threads, seed=seed)
    decision = choose.decide(float_model, quantized.model if quantized.int8_nodes else None, trial, track)
    done = (*artifact.read_stages(original), *ready, stage)
    save_model(shipped(float_model, quantized, decision, identity, done), path, force=force)
    return QuantizeReport(path, decision, quantized)


def build(
    source: str,
    output: StrPath,
    *,
    calib: str,
    weights: StrPath | None = None,
    data: str | None = None,
    input_shape: str | tuple[int, ...] | None = None,
    num_classes: int | None = None,
    labels: StrPath | None = None,
    calibrator: str = "minmax",
    max_drop: float = 0.01,
    limit: int | None = None,
    threads: int | None = None,
    allow_slower: bool = False,
    force: bool = False,
    seed: int = 0,
    track: Track = silent,
) -> BuildReport:
    """The whole road: SOURCE -> export, simplify, fold, quantize, check, race, choose -> the bundle `output`.

    Arguments as for `export` and `quantize`; `threads` None races on one thread, where CPU time can be trusted most.
    """
    started = time.perf_counter()
    path = check_output(Path(output), force)
    network = named(resolve(source, _path(weights), input_shape, num_classes), labels)
    identity = identity_of(network)
    float_model, done, reference = stages.float_road(network, seed=seed, track=track)
    material = material_for(float_model, identity, calib, data, limit or DEFAULT_LIMIT, seed)
    recipe = QuantRecipe(calibrator, True, (), material.calibration.name, len(material.calibration))
    quantized, stage = _quantized(float_model, recipe, material, track)
    real = stages.Reference(
        network, material.judged.feeds(material.input_name, 1)[:REAL_IMAGES], reference.output_names
    )
    stage = artifact.with_parity(stage, real.parity(open_session(quantized.model)))
    trial = Trial(material.judged, material.input_name, max_drop, allow_slower, threads or 1, seed=seed)
    decision = choose.decide(float_model, quantized.model if quantized.int8_nodes else None, trial, track)
    done = (*stages.held_to(done, reference), stage)
    chosen = shipped(float_model, quantized, decision, identity, done)
    session = open_session(chosen)
    manifest = proof.about(identity, decision, recipe, done, session, network.weights)
    pack(path, chosen, manifest, *proof.golden(real, session))
    seconds = time.perf_counter() - started
    return BuildReport(path, path.stat().st_size, done, decision, quantized, network.seeded, seconds)


def named(network: Network, labels: StrPath | None) -> Network:
    """`network` with the class names in the file `labels`, one for each of its answers."""
    if labels is None:
        return network
    return replace(network, labels=read_labels(_path(labels) or "", classes_of(network)))


def identity_of(network: Network) -> Identity:
    return Identity(network.name, network.task, network.labels, network.preprocess)


def _quantized(
    float_model: onnx.ModelProto, recipe: QuantRecipe, material: Material, track: Track
) -> tuple[Quantized, Stage]:
    started = time.perf_counter()
    result = quantize_model(float_model, material.calibration_feeds, recipe, track=track)
    seconds = time.perf_counter() - started
    return result, artifact.describe("quantize", result.model, seconds, note=f"{result.int8_nodes} int8 nodes")


def shipped(
    float_model: onnx.ModelProto,
    quantized: Quantized,
    decision: Decision,
    identity: Identity | None,
    done: tuple[Stage, ...],
) -> onnx.ModelProto:
    """The chosen graph, with its identity and the stages that lead to it."""
    if decision.chosen == choose.INT8:
        model = artifact.write_stages(quantized.model, done)
    else:
        model = artifact.write_stages(float_model, done[:-1])
    if identity is not None:
        artifact.write_identity(model, identity)
    return model


def _path(value: StrPath | None) -> Path | None:
    return None if value is None else Path(value)
