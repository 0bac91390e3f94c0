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
from edgecnn.data.samples import Samples
from exporters.artifact import Identity, Stage
from exporters.pack import pack
from runtimes.base import Tensors
from runtimes.manifest import GIVEN_MODEL
from runtimes.preprocess import FLOAT32
from runtimes.session import Session, open_session


def pack_given(
    path: Path,
    chosen: onnx.ModelProto,
    given: Session,
    identity: Identity,
    contest: Contest,
    done: Sequence[Stage],
    images: Samples,
    judged_on: str,
) -> None:
    """Write the bundle `path` of `chosen`, held to the answers of the float model `given` on some of `images`.

    `images` are as `chosen` takes them: pixels where `identity` says so, which `given` gets as its preprocessing makes
    them. Raises `CheckFailed`, and writes nothing, when the packed bundle does not pass its own verification.
    """
    session = open_session(chosen)
    shown = list(images.feeds(session.inputs[0].name, 1)[: proof.GOLDEN_IMAGES])
    original = proof.GivenModel(given, [_floats(identity, feed, given.inputs[0].name) for feed in shown])
    weights = f"those of {given.subject}"
    manifest = proof.about(identity, contest, done, session, weights)
    manifest |= {"judged_on": judged_on, "original": GIVEN_MODEL}
    pack(path, chosen, manifest, *proof.golden(original, session, shown))


def _floats(identity: Identity, feed: Tensors, name: str) -> Tensors:
    """What the given model takes for `feed`, one image as the chosen graph takes it."""
    (value,) = feed.values()
    if identity.preprocess is None or identity.preprocess.input == FLOAT32:
        return {name: value}
    return {name: identity.preprocess.floats(value[0])[None]}
