"""A bundle of what `quantize` chose for a model that came as a file: the file's own answers are its proof.

    given float model --answers on a few images--> golden samples        chosen graph + samples + race -> NAME.edge

Test: tests/test_packing.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from edgecnn import proof
from edgecnn.choosing.contest import Contest
from edgecnn.data.material import Material
from edgecnn.data.spread import spread
from exporters.artifact import Identity, Stage
from exporters.pixel_input import last_in
from runtimes.base import Tensors
from runtimes.proof.manifest import GIVEN_MODEL
from runtimes.session import TensorInfo, open_session


def require_rows(original: onnx.ModelProto, name: str, material: Material) -> None:
    """Raise `BadInput` for a float model called `name` whose answers could not prove a bundle, before any long work."""
    session = open_session(original, optimize=False, subject=name)
    proof.require_rows(session(next(iter(material.calibration_feeds))), name)


def pack_given(
    path: Path,
    chosen: onnx.ModelProto,
    given: tuple[onnx.ModelProto, str],
    identity: Identity,
    contest: Contest,
    done: Sequence[Stage],
    material: Material,
    beside: onnx.ModelProto | None = None,
    runtime: bool = True,
) -> str:
    """Write the bundle `path` of `chosen`, held to the answers of the float model `given`, (model, name of its file).
    `beside`: the float graph with the same input, where a device is to choose. `runtime`: with its program.

    `material` has images as `chosen` takes them: pixels where `identity` says so; `given` gets what its preprocessing
    makes of these. Returns what the golden samples do not prove, as `pack` does.

    Raises `CheckFailed`, and writes nothing, when the packed bundle does not pass its own verification.
    """
    session, theirs = open_session(chosen), open_session(given[0], optimize=False, subject=given[1])
    shown = list(spread(material.judged, proof.looked_at(identity.task)).feeds(session.inputs[0].name, 1))
    original = proof.GivenModel(theirs, [_floats(identity, feed, theirs.inputs) for feed in shown])
    manifest = proof.about(identity, contest, done, session, f"those of {given[1]}")
    manifest |= {**material.told, "original": GIVEN_MODEL}
    return proof.write(path, chosen, session, manifest, original, shown, second=beside, runtime=runtime)


def _floats(identity: Identity, feed: Tensors, inputs: Sequence[TensorInfo]) -> Tensors:
    """What the given model takes for `feed`, one image as the chosen graph takes it; several inputs are as they are."""
    if len(inputs) > 1:
        return feed
    (value,), wanted = feed.values(), inputs[0]
    ready = identity.preprocess
    if ready is None or ready.floating or wanted.dtype == ready.dtype:
        return {wanted.name: value}
    return {wanted.name: ready.floats(value[0], last_in(ready, wanted.shape[1:]))[None]}
