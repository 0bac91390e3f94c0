"""An ONNX file with a raw detector head, opened: what it answers to seeded pictures, and how that is laid out.

    boxes (N, places, 4) + scores (N, places, C)  --Concat-->  (N, 4 + C, places)      two outputs, either transposed
    height and width open                         --pictures of two sizes              one, where it runs at one alone

Of two outputs the shapes tell which is which: as many places, and four numbers a box. Test: tests/test_decode.py.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecnn.data.feeding import another
from edgecnn.data.labels import Labels, read_labels
from edgecnn.data.pixels import as_yolo, read_preprocess
from edgecnn.data.textures import textures
from edgecnn.detection.raw import Head, Layout, check_values, layout_of
from edgecnn.networks.entry import entry_of
from edgecnn.networks.spec import image_preprocess
from edgecnn.opened import refuse_bundle
from edgecnn.runners import is_guess, probe_shapes
from exporters.artifact import Identity, read_identity
from exporters.graph import get_meta
from exporters.isolation.probe import probe
from exporters.join import one_head
from exporters.load import load_model
from runtimes.base import Array, BadInput, EdgeError, Tensors, counted
from runtimes.execution.shapes import ShapeText
from runtimes.imaging.maps import Seen
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import Session, TensorInfo, open_session

if TYPE_CHECKING:
    import onnx

StrPath = str | os.PathLike[str]
IMAGES = 3
ULTRALYTICS = "Ultralytics"
TWO = "yolov8"
"""The head that may come as boxes and scores; another one has objectness between them."""


@dataclass(frozen=True)
class RawFile:
    """A model with a raw head, and what it answers to `feeds`; `guessed`: nobody said how its pixels are prepared."""

    model: onnx.ModelProto
    name: str
    session: Session
    head: Head
    layout: Layout
    feeds: Sequence[Tensors]
    answers: Sequence[Array]
    known: Identity | None
    guessed: bool
    told: tuple[str, ...] = ()

    @property
    def transposed(self) -> bool:
        """Places in front of channels; the decoding wants them behind."""
        return self.layout.channels == 2

    @property
    def upright(self) -> list[Array]:
        return [answer.transpose(0, 2, 1) if self.transposed else answer for answer in self.answers]

    @property
    def channels_last(self) -> bool:
        return Seen.of(next(iter(self.feeds[0].values())).shape[1:]).channels_last

    @property
    def open_places(self) -> bool:
        """Whether how many places there are is open, as for a model of open size."""
        shape = self.session.outputs[0].shape
        return len(shape) != 3 or not isinstance(shape[3 - self.layout.channels], int)


def sides_of(feed: Tensors) -> tuple[int, int]:
    """Height and width of the pictures in `feed`."""
    (value,) = feed.values()
    at = 1 if Seen.of(value.shape[1:]).channels_last else 2
    return value.shape[at], value.shape[at + 1]


def opened(
    path: Path, head: Head, labels: Labels | None, preprocess: str | None, input_shape: ShapeText | None, seed: int
) -> RawFile:
    """The model in `path`, seen to run and to answer as the `head` says; raises `BadInput`."""
    refuse_bundle(path)
    name, model = str(path), load_model(path)
    identity = read_identity(model, name)
    shapes = probe_shapes(model, identity, input_shape)
    probe(model, name, seed=seed, input_shapes=shapes)
    session = open_session(model, optimize=False, subject=name)
    known = _identified(model, identity, session, name, labels, preprocess)
    ready = known.preprocess if known else image_preprocess(session.inputs, entry_of(model))
    feeds = _pictures(session, ready, shapes if input_shape else None, name, seed)
    if len(session.outputs) == 2 and head.kind == TWO:
        model = one_head(model, *split_of(session(feeds[0]), name))
        session = open_session(model, optimize=False, subject=name)
    answers = [_raw(session, feed, name) for feed in feeds]
    other, told = _other_size(session, feeds[0], name, seed)
    feeds, answers = [*feeds, *other], [*answers, *(_raw(session, feed, name) for feed in other)]
    size = sides_of(feeds[0])
    layout = layout_of(head, answers[0].shape, size, len(known.labels) or None if known else None, name)
    for answer in answers:
        check_values(head, layout, answer, name)
    guessed = identity is None and preprocess is None and is_guess(ready) and not is_yolos(model)
    return RawFile(model, name, session, head, layout, feeds, answers, known, guessed, told)


def split_of(answers: Tensors, name: str) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """(output, whether its channels are last) of the boxes and of the scores; raises `BadInput` where shapes and values
    do not tell.
    """
    both = list(answers)
    found = [(a, b) for a, b in (both, both[::-1]) if _are_split(answers[a], answers[b])]
    if len(found) == 2:  # of four classes: boxes are in pixels
        found = [pair for pair in found if float(answers[pair[0]].max()) > 1 >= float(answers[pair[1]].max())]
    if len(found) != 1:
        told = ", ".join(f"{n} ({', '.join(map(str, answers[n].shape))})" for n in both)
        wanted = "not boxes (N, places, 4) and scores (N, places, classes), either one transposed"
        raise BadInput(f"{name}: answers {told[:120]}, {wanted}; export it with one output (N, 4 + classes, places)")
    boxes, scores = found[0]
    last = answers[boxes].shape[2] == 4
    places = answers[boxes].shape[1 if last else 2]
    return (boxes, last), (scores, answers[scores].shape[1] == places)


def _are_split(boxes: Array, scores: Array) -> bool:
    if boxes.ndim != 3 or scores.ndim != 3 or 4 not in boxes.shape[1:]:
        return False
    places = boxes.shape[1 if boxes.shape[2] == 4 else 2]
    return places in scores.shape[1:] and len(boxes) == len(scores)


def way_out(outputs: Sequence[TensorInfo]) -> str:
    """What to do about outputs that cannot be decoded as they are."""
    if len(outputs) > 2 and all(len(info.shape) >= 4 for info in outputs):
        return "these are feature maps: export it with its boxes decoded, as `yolo export` does"
    return "export the network with that output alone"


def _other_size(session: Session, feed: Tensors, name: str, seed: int) -> tuple[list[Tensors], tuple[str, ...]]:
    """(a picture of another size than `feed`, where height and width are open; the line where it runs at one)."""
    ((fed, value),) = feed.items()
    declared = session.inputs[0].shape
    space = (1, 2) if Seen.of(value.shape[1:]).channels_last else (2, 3)
    if any(isinstance(declared[axis], int) for axis in space):
        return [], ()
    sizes = tuple(another(d) if axis in space else d for axis, d in enumerate(value.shape))
    other = session.random_feeds(value.shape[0], seed + IMAGES, {fed: sizes})
    try:
        session(other)
    except EdgeError:
        here, there = ("x".join(str(shape[axis]) for axis in space) for shape in (value.shape, sizes))
        return [], (f"{name}: leaves its size open and does not run at {there}; proven at {here} alone",)
    return [other], ()


def _pictures(
    session: Session, ready: Preprocess | None, shapes: Mapping[str, tuple[int, ...]] | None, name: str, seed: int
) -> list[Tensors]:
    """Seeded pictures as the model takes them; noise where it takes none."""
    if len(session.inputs) != 1:
        raise BadInput(f"{name}: takes {counted(len(session.inputs), 'input')}, a detector takes one picture")
    info, rng = session.inputs[0], np.random.default_rng(seed)
    if len(info.shape) != 4:
        raise BadInput(f"{name}: takes {list(info.shape)}, a detector takes one picture, (N, C, H, W) or (N, H, W, C)")
    batch = info.shape[0] if isinstance(info.shape[0], int) else 1
    if ready is not None and info.dtype == "float32" and shapes is None:
        return [{info.name: textures(ready, batch, rng)} for _ in range(IMAGES)]
    return [session.random_feeds(batch, seed + i, shapes) for i in range(IMAGES)]


def _raw(session: Session, feed: Tensors, name: str) -> Array:
    if len(session.outputs) != 1:
        names = ", ".join(info.name for info in session.outputs)
        raise BadInput(f"{name}: answers with {len(session.outputs)} tensors ({names[:80]}), a raw head is one, or for "
                       f"{TWO} boxes and scores; {way_out(session.outputs)}")  # fmt: skip
    (answer,) = session(feed).values()
    if answer.dtype != np.float32:
        raise BadInput(f"{name}: answers in {answer.dtype}; decode the float32 model, and `edgecnn half` that")
    return answer


def _identified(
    model: onnx.ModelProto, identity: Identity | None, session: Session, name: str,
    labels: Labels | None, preprocess: str | None,
) -> Identity | None:  # fmt: skip
    """What is known of the model: from its metadata, and from the user; None where nothing is."""
    names = read_labels(labels, None) if labels is not None else identity.labels if identity else _names_in(model)
    pixels = identity.preprocess if identity is not None else image_preprocess(session.inputs, entry_of(model))
    theirs = identity is None and is_yolos(model)
    if theirs and pixels is not None:
        pixels = as_yolo(pixels)
    if preprocess is not None:
        if pixels is None:
            raise BadInput(f"--preprocess {preprocess}: {name} takes no pictures of known size; leave it out")
        pixels = read_preprocess(preprocess, (pixels.channels, *pixels.size), pixels.input)
    if identity is None and not names and preprocess is None and not theirs:
        return None
    known = identity or Identity(Path(name).stem)
    return replace(known, task="detection", labels=tuple(names), preprocess=pixels, sigmoid=False)


def is_yolos(model: onnx.ModelProto) -> bool:
    """Whether `model` was written by the exporter of Ultralytics, whose detectors see letterboxes."""
    return get_meta(model).get("author") == ULTRALYTICS


def _names_in(model: onnx.ModelProto) -> tuple[str, ...]:
    """Class names as YOLO's exporters leave them in the metadata: `names`, a dict or list as Python writes it."""
    try:
        found = ast.literal_eval(get_meta(model).get("names", "()"))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ()
    if isinstance(found, dict) and sorted(found, key=str) == sorted(range(len(found)), key=str):
        found = [found[i] for i in range(len(found))]
    return tuple(map(str, found)) if isinstance(found, list | tuple) else ()
