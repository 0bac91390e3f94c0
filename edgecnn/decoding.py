"""Boxes from an ONNX detector that answers with a raw head: the decoding is appended to the graph, and proven.

    IN.onnx: image -> raw      DecodeHead, exported for that raw      OUT.onnx: image -> boxes, scores, labels, image

Boxes are cut at the edges of the picture when all is chosen. Proven twice: the decoding on seeded heads, full of boxes,
against PyTorch; and the joined graph on seeded pictures, of two sizes where that is open, against PyTorch's decoding of
what the given file answers to them. Test: tests/test_decode.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.data.labels import Labels
from edgecnn.detection.raw import CHANNELS_AXIS, CHOSEN, Head
from edgecnn.detection.raw_file import RawFile, opened, sides_of
from edgecnn.opened import check_model_output
from exporters.artifact import describe, read_stages, write_identity, write_stages
from exporters.graph import opset
from exporters.join import clipped, joined, renamed_inputs
from exporters.load import save_model
from runtimes.base import CheckFailed, Runner, Tensors, counted
from runtimes.comparing.matching import NAMES as DETECTIONS
from runtimes.execution.shapes import ShapeText
from runtimes.parity import ParityReport, compare
from runtimes.session import open_session

if TYPE_CHECKING:
    import onnx

    from edgecnn.detection.decoding import DecodeHead

LEAST_EXPORT = 18
"""What torch's exporter makes at least; it is lowered to the file's."""
SNR_DB, BOX_PX = 90.0, 1e-3
"""The same operations on the same numbers, in two runtimes."""
RAW = "raw"
CLASSES = 80
"""Of seeded boxes that carry their class."""


@dataclass(frozen=True)
class DecodeReport:
    """What was written; `classes` is 0 where nothing says how many. `boxes` were found in `images` seeded pictures;
    `max_abs` is the largest difference there.
    """

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
        usual = CHANNELS_AXIS[self.head.kind] == 2
        turned = ", transposed" if self.transposed != usual else ""
        found = f"{counted(self.images, 'seeded picture')} with {counted(self.boxes, 'box', 'boxes')}"
        shape = "x".join(map(str, self.raw))
        classes = f": {counted(self.classes, 'class', 'classes')}" if self.classes else ""
        return (
            f"{self.output}: decodes {self.head.words}, of {shape}{turned}{classes}; as PyTorch does, on seeded "
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
    best_class: bool = False,
    labels: Labels | None = None,
    preprocess: str | None = None,
    input_shape: ShapeText | None = None,
    force: bool = False,
    seed: int = 0,
) -> DecodeReport:
    """Append the decoding of a raw `head` (yolov8, yolov5, yolov10) to the ONNX file `model`; write it as `output`.

    Boxes scored above `score` stay, without those that a better one of their class overlaps by more than `iou`;
    the `most` best of an image; with `best_class` each in the class alone that it scores best in. `labels` (a file) and
    `preprocess` travel with it. Raises `BadInput` for a model that has no such head, `CheckFailed` where the joined
    graph answers anything else than PyTorch's decoding.
    """
    how = Head(Head.of(head).kind, score, iou, most, best_class)
    path = check_model_output(Path(output), force, Path(model))
    given = opened(Path(model), how, labels, preprocess, input_shape, seed)
    started = time.perf_counter()
    module, tail = _tail(given, seed)
    made = joined(given.model, tail, given.transposed, given.name)
    moved = renamed_inputs(given.model, made)
    made = clipped(made, DETECTIONS[0], given.channels_last)
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


def _tail(given: RawFile, seed: int) -> tuple[DecodeHead, onnx.ModelProto]:
    """(the decoding of (N, channels, places), the same as a graph), proven on heads that are full of boxes."""
    from edgecnn.detection.decoding import DecodeHead
    from exporters.torch_export import export_module

    layout, shape = replace(given.layout, channels=1), given.upright[0].shape
    module = DecodeHead(given.head, layout).eval()
    tail = export_module(module, shape[1:], opset_version=max(opset(given.model), LEAST_EXPORT), input_name=RAW,
                         dynamic_size=given.open_places, output_names=DETECTIONS)  # fmt: skip
    heads = seeded_heads(shape, seed, given.head.kind)
    prove(module, open_session(tail), heads, heads, given.name)
    return module, tail


def _prove_joined(given: RawFile, module: DecodeHead, made: onnx.ModelProto, moved: Mapping[str, str]) -> ParityReport:
    run = open_session(made, optimize=False, subject=given.name)
    raw = [{RAW: answer} for answer in given.upright]
    sides = [sides_of(feed) for feed in given.feeds]

    def renamed(feed: Tensors) -> Tensors:
        return run({moved.get(name, name): value for name, value in feed.items()})

    return prove(module, renamed, given.feeds, raw, given.name, sides)


def prove(
    module: DecodeHead, candidate: Runner, feeds: Sequence[Tensors], raw: Sequence[Tensors], name: str,
    sides: Sequence[tuple[int, int]] | None = None,
) -> ParityReport:  # fmt: skip
    """The parity of `candidate` on `feeds` with the torch `module` on the `raw` heads that belong to these, its boxes
    cut at the edges of pictures of such `sides`, where any are given.

    Raises `CheckFailed` where one finds other boxes.
    """
    from exporters.torch_export import module_runner

    run, at = module_runner(module, DETECTIONS), {id(feed): i for i, feed in enumerate(feeds)}

    def reference(feed: Tensors) -> Tensors:
        found = run({RAW: raw[at[id(feed)]][RAW]})
        if sides is None:
            return found
        height, width = sides[at[id(feed)]]
        edges = np.array([width, height, width, height], np.float32)
        return {**found, DETECTIONS[0]: np.clip(found[DETECTIONS[0]], 0, edges)}

    parity = compare(reference, candidate, feeds)
    lost = parity.matching.unmatched if parity.matching else 0
    try:
        if lost:
            raise CheckFailed(f"{counted(lost, 'box', 'boxes')} without counterpart")
        return parity.require(snr_db=SNR_DB, max_abs={"boxes": BOX_PX})
    except CheckFailed as error:
        told = f"decoded it answers something else than PyTorch, nothing was written ({error})"
        raise CheckFailed(f"{name}: {told}") from error


def seeded_heads(shape: Sequence[int], seed: int, kind: str) -> list[Tensors]:
    """Raw heads (N, channels, places) with boxes of all sizes and scores of 0 to 1, so that there is much to decode."""
    rng = np.random.default_rng(seed)
    made = list[Tensors]()
    for images in (1, 2):
        raw = rng.random((images, shape[1], shape[2]), np.float32)
        raw[:, :2] *= 512
        raw[:, 2:4] = 8 + 120 * raw[:, 2:4] ** 2
        if kind == CHOSEN:
            raw[:, 2:4] += raw[:, :2]
            raw[:, 5] = np.floor(CLASSES * raw[:, 5])
        made.append({RAW: raw})
    return made


def _heard(given: RawFile, moved: Mapping[str, str]) -> tuple[str, ...]:
    """What was assumed of the pixels, and inputs that had to change their names."""
    name = given.name
    lines = [*given.told]
    lines += [f"{name}: its input {old} is called {new} now, for an answer has that name" for old, new in moved.items()]
    if given.guessed:
        lines.append(
            f"{name}: does not say its preprocessing; --preprocess does and stays with it (YOLO's is `yolo`, x/255 in "
            "a letterbox)"
        )
    return tuple(lines)
