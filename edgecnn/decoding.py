"""Boxes from an ONNX detector that answers with a raw head: the decoding is appended to the graph, and proven.

    IN.onnx: image -> raw      DecodeHead, exported for that raw      OUT.onnx: image -> boxes, scores, labels, image

Proven twice: the decoding on seeded heads, full of boxes, against PyTorch; and the joined graph on seeded pictures
against PyTorch's decoding of what the given file answers to them. Test: tests/test_decode.py.
"""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.data.labels import read_labels
from edgecnn.data.pixels import read_preprocess
from edgecnn.data.textures import textures
from edgecnn.detection.raw import Head, Layout, check_values, layout_of
from edgecnn.opened import check_model_output, refuse_bundle
from edgecnn.runners import image_preprocess, is_guess, probe_shapes
from exporters.artifact import Identity, describe, read_identity, read_stages, write_identity, write_stages
from exporters.graph import get_meta, opset
from exporters.isolation.probe import probe
from exporters.join import joined, renamed_inputs
from exporters.load import load_model, save_model
from runtimes.base import Array, BadInput, CheckFailed, Runner, Tensors, counted
from runtimes.comparing.matching import NAMES as DETECTIONS
from runtimes.execution.shapes import ShapeText, parse_shapes
from runtimes.imaging.preprocess import Preprocess
from runtimes.parity import ParityReport, compare
from runtimes.session import Session, open_session

if TYPE_CHECKING:
    import onnx

    from edgecnn.detection.decoding import DecodeHead

StrPath = str | os.PathLike[str]
LEAST_EXPORT = 18
"""What torch's exporter makes at least; it is lowered to the file's."""
SNR_DB, BOX_PX = 90.0, 1e-3
"""The same operations on the same numbers, in two runtimes."""
IMAGES = 3
RAW = "raw"


@dataclass(frozen=True)
class DecodeReport:
    """What was written. `boxes` were found in `images` seeded pictures; `max_abs` is the largest difference there."""

    output: Path
    head: Head
    classes: int
    raw: tuple[int, ...]
    transposed: bool
    images: int
    boxes: int
    max_abs: float
    opset: int
    warnings: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        turned = ", transposed" if self.transposed else ""
        found = f"{counted(self.images, 'seeded picture')} with {counted(self.boxes, 'box', 'boxes')}"
        shape, classes = "x".join(map(str, self.raw)), counted(self.classes, "class", "classes")
        return (
            f"{self.output}: decodes {self.head.words}, of {shape}{turned}: {classes}; as PyTorch does, on seeded "
            f"heads and {found}."
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "output": os.fspath(self.output), **self.head.to_dict(), "classes": self.classes, "raw": list(self.raw),
            "transposed": self.transposed, "images": self.images, "boxes": self.boxes, "max_abs": self.max_abs,
            "opset": self.opset, "warnings": list(self.warnings),
        }  # fmt: skip


def decode(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    head: str = "yolov8",
    score: float = 0.25,
    iou: float = 0.45,
    most: int = 300,
    labels: str | os.PathLike[str] | None = None,
    preprocess: str | None = None,
    input_shape: ShapeText | None = None,
    force: bool = False,
    seed: int = 0,
) -> DecodeReport:
    """Append the decoding of a raw `head` (yolov8, yolov5) to the ONNX file `model` and write `output`, a detector.

    Boxes scored above `score` stay, without those that a better one of their class overlaps by more than `iou`;
    the `most` best of an image. `labels` (a file) and `preprocess` travel with it. Raises `BadInput` for a model that
    has no such head, `CheckFailed` where the joined graph answers anything else than PyTorch's decoding.
    """
    how, path = Head(head, score, iou, most), check_model_output(Path(output), force, Path(model))
    given = _opened(Path(model), how, labels, preprocess, input_shape, seed)
    started = time.perf_counter()
    module, tail = _tail(given, seed)
    made = joined(given.model, tail, given.transposed, given.name)
    moved = renamed_inputs(given.model, made)
    parity = _prove_joined(given, module, made, moved)
    note = f"{how.words}; appended to the file"
    stage = describe("decode", made, time.perf_counter() - started, note=note)
    made = write_stages(made, (*read_stages(given.model), stage))
    if given.known is not None:
        write_identity(made, replace(given.known, task="detection"))
    save_model(made, path, force)
    found = parity.matching.matched if parity.matching else 0
    return DecodeReport(
        path, how, given.layout.classes, given.answers[0].shape, given.transposed, len(given.feeds), found,
        parity.max_abs, opset(made), _heard(given, moved),
    )  # fmt: skip


@dataclass(frozen=True)
class _Given:
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

    @property
    def transposed(self) -> bool:
        """Places in front of channels; the decoding wants them behind."""
        return self.layout.channels == 2

    @property
    def upright(self) -> list[Array]:
        return [answer.transpose(0, 2, 1) if self.transposed else answer for answer in self.answers]

    @property
    def open_places(self) -> bool:
        """Whether how many places there are is open, as for a model of open size."""
        shape = self.session.outputs[0].shape
        return len(shape) != 3 or not isinstance(shape[3 - self.layout.channels], int)


def _opened(
    path: Path, head: Head, labels: StrPath | None, preprocess: str | None, input_shape: ShapeText | None, seed: int
) -> _Given:
    """The model in `path`, seen to run and to answer as the `head` says; raises `BadInput`."""
    refuse_bundle(path)
    name, model = str(path), load_model(path)
    identity = read_identity(model, name)
    probe(model, name, seed=seed, input_shapes=probe_shapes(model, identity, input_shape))
    session = open_session(model, optimize=False, subject=name)
    known = _identified(model, identity, session, name, labels, preprocess)
    ready = known.preprocess if known else image_preprocess(session.inputs)
    feeds = _pictures(session, ready, input_shape, name, seed)
    answers = [_raw(session, feed, name) for feed in feeds]
    shape = next(iter(feeds[0].values())).shape
    size = (shape[-2], shape[-1]) if len(shape) == 4 else None
    layout = layout_of(head, answers[0].shape, size, len(known.labels) or None if known else None, name)
    for answer in answers:
        check_values(head, layout, answer, name)
    guessed = identity is None and preprocess is None and is_guess(ready)
    return _Given(model, name, session, head, layout, feeds, answers, known, guessed)


def _tail(given: _Given, seed: int) -> tuple[DecodeHead, onnx.ModelProto]:
    """(the decoding of (N, channels, places), the same as a graph), proven on heads that are full of boxes."""
    from edgecnn.detection.decoding import DecodeHead
    from exporters.torch_export import export_module

    layout, shape = replace(given.layout, channels=1), given.upright[0].shape
    module = DecodeHead(given.head, layout).eval()
    tail = export_module(module, shape[1:], opset_version=max(opset(given.model), LEAST_EXPORT), input_name=RAW,
                         dynamic_size=given.open_places, output_names=DETECTIONS)  # fmt: skip
    heads = seeded_heads(shape, seed)
    prove(module, open_session(tail), heads, heads, given.name)
    return module, tail


def _prove_joined(given: _Given, module: DecodeHead, made: onnx.ModelProto, moved: Mapping[str, str]) -> ParityReport:
    run = open_session(made, optimize=False, subject=given.name)
    raw = [{RAW: answer} for answer in given.upright]

    def renamed(feed: Tensors) -> Tensors:
        return run({moved.get(name, name): value for name, value in feed.items()})

    return prove(module, renamed, given.feeds, raw, given.name)


def prove(
    module: DecodeHead, candidate: Runner, feeds: Sequence[Tensors], raw: Sequence[Tensors], name: str
) -> ParityReport:
    """The parity of `candidate` on `feeds` with the torch `module` on the `raw` heads that belong to these.

    Raises `CheckFailed` where one finds other boxes.
    """
    from exporters.torch_export import module_runner

    run, given = module_runner(module, DETECTIONS, RAW), {id(feed): head for feed, head in zip(feeds, raw, strict=True)}
    parity = compare(lambda feed: run(given[id(feed)]), candidate, feeds)
    lost = parity.matching.unmatched if parity.matching else 0
    try:
        if lost:
            raise CheckFailed(f"{counted(lost, 'box', 'boxes')} without counterpart")
        return parity.require(snr_db=SNR_DB, max_abs={"boxes": BOX_PX})
    except CheckFailed as error:
        told = f"decoded it answers something else than PyTorch, nothing was written ({error})"
        raise CheckFailed(f"{name}: {told}") from error


def seeded_heads(shape: Sequence[int], seed: int) -> list[Tensors]:
    """Raw heads (N, channels, places) with boxes of all sizes and scores of 0 to 1, so that there is much to decode."""
    rng = np.random.default_rng(seed)
    made = list[Tensors]()
    for images in (1, 2):
        raw = rng.random((images, shape[1], shape[2]), np.float32)
        raw[:, :2] *= 512
        raw[:, 2:4] = 8 + 120 * raw[:, 2:4] ** 2
        made.append({RAW: raw})
    return made


def _pictures(
    session: Session, ready: Preprocess | None, input_shape: ShapeText | None, name: str, seed: int
) -> list[Tensors]:
    """Seeded pictures as the model takes them; noise where it takes none."""
    if len(session.inputs) != 1:
        raise BadInput(f"{name}: takes {counted(len(session.inputs), 'input')}, a detector takes one picture")
    info, rng = session.inputs[0], np.random.default_rng(seed)
    batch = info.shape[0] if isinstance(info.shape[0], int) else 1
    if ready is not None and info.dtype == "float32" and input_shape is None:
        return [{info.name: textures(ready, batch, rng)} for _ in range(IMAGES)]
    sizes = parse_shapes(input_shape, [info.name])
    return [session.random_feeds(batch, seed + i, sizes) for i in range(IMAGES)]


def _raw(session: Session, feed: Tensors, name: str) -> Array:
    if len(session.outputs) != 1:
        names = ", ".join(info.name for info in session.outputs)
        raise BadInput(f"{name}: answers with {len(session.outputs)} tensors ({names[:80]}), a raw head is one; "
                       "export the network with that output alone")  # fmt: skip
    (answer,) = session(feed).values()
    if answer.dtype != np.float32:
        raise BadInput(f"{name}: answers in {answer.dtype}; decode the float32 model, and `edgecnn half` that")
    return answer


def _identified(
    model: onnx.ModelProto, identity: Identity | None, session: Session, name: str,
    labels: str | os.PathLike[str] | None, preprocess: str | None,
) -> Identity | None:  # fmt: skip
    """What is known of the model: from its metadata, and from the user; None where nothing is."""
    names = read_labels(Path(labels), None) if labels is not None else identity.labels if identity else _names_in(model)
    pixels = identity.preprocess if identity is not None else image_preprocess(session.inputs)
    if preprocess is not None:
        if pixels is None:
            raise BadInput(f"--preprocess {preprocess}: {name} takes no pictures of known size; leave it out")
        pixels = read_preprocess(preprocess, (pixels.channels, *pixels.size), pixels.input)
    if identity is None and not names and preprocess is None:
        return None
    return Identity(identity.name if identity else Path(name).stem, "detection", tuple(names), pixels)


def _names_in(model: onnx.ModelProto) -> tuple[str, ...]:
    """Class names as YOLO's exporters leave them in the metadata: `names`, a dict or list as Python writes it."""
    try:
        found = ast.literal_eval(get_meta(model).get("names", "()"))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ()
    if isinstance(found, dict) and sorted(found, key=str) == sorted(range(len(found)), key=str):
        found = [found[i] for i in range(len(found))]
    return tuple(map(str, found)) if isinstance(found, list | tuple) else ()


def _heard(given: _Given, moved: Mapping[str, str]) -> tuple[str, ...]:
    """What was assumed of the pixels, and inputs that had to change their names."""
    name = given.name
    lines = [f"{name}: its input {old} is called {new} now, for an answer has that name" for old, new in moved.items()]
    if given.guessed:
        lines.append(
            f"{name}: does not say its preprocessing; --preprocess does and stays with it (YOLO's is unit, x/255)"
        )
    return tuple(lines)
