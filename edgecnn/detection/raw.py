"""A raw detector head: one tensor of boxes and scores for every place, and how it is laid out.

    yolov8   (N, 4 + C, places)   cx, cy, w, h in pixels, C scores                YOLOv8, v9, v11 as they are exported
    yolov5   (N, places, 5 + C)   cx, cy, w, h in pixels, objectness, C scores    YOLOv5, v7, YOLOX with decoded boxes
    yolov10  (N, boxes, 6)        x1, y1, x2, y2 in pixels, score, class          YOLOv10, 26: chosen in the network

Each may come transposed. The axis of the channels is the one that has room for the classes where these are known;
else the one beside as many places as the grids of the input have (a cell for every 8, 16 and 32 pixels, or three boxes
each); else the shorter one; `yolov10` has six of them. Scores are in 0..1: logits, and boxes that are no pixels, are
refused.
Test: tests/test_raw_heads.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from runtimes import plugins
from runtimes.base import Array, BadInput

CHOSEN = "yolov10"
"""The head whose boxes are answers already: no class is suppressed, and nothing tells how many there are."""
NOT_CHOSEN, NOT_CHOSEN_WHY = ("iou", "best_class"), "does nothing, for its boxes are chosen in the network"
"""Settings that choose among boxes, and what is said of them with such a head."""
FIRST = {"yolov8": 4, "yolov5": 5, CHOSEN: 6}
"""Head -> channels in front of the classes'."""
CHANNELS_AXIS = {"yolov8": 1, "yolov5": 2, CHOSEN: 2}
ALSO = {
    "yolov9": "yolov8", "yolov11": "yolov8", "yolo11": "yolov8", "yolov12": "yolov8", "yolo12": "yolov8",
    "yolov7": "yolov5", "yolox": "yolov5", "yolo26": CHOSEN, "yolov26": CHOSEN,
}  # fmt: skip
"""Networks -> the head that they have."""
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32))
BOXES_OF_A_CELL = (1, 3)
MOST = 30_000
SLACK = 1e-3
"""Rounding: a score may be so far outside of 0 to 1."""


@dataclass(frozen=True)
class Head:
    """`kind` of head, and which of its boxes are answers: those scored above `score`, without those that a better one
    of their class overlaps by more than `iou`, the `most` best of an image. `best_class`: a box is of the class that it
    scores best in alone; else of each that it scores enough in.
    """

    kind: str = "yolov8"
    score: float = 0.25
    iou: float = 0.45
    most: int = 300
    best_class: bool = False

    def __post_init__(self) -> None:
        if self.kind not in FIRST:
            raise BadInput(f"decode {plugins.unknown(str(self.kind), list(FIRST), 'head')}")
        for name, low, high in (("score", 0.0, 1.0), ("iou", 0.0, 1.0), ("most", 1, MOST)):
            value = getattr(self, name)
            wanted = int if name == "most" else (int, float)
            if isinstance(value, bool) or not isinstance(value, wanted) or not low <= value <= high:
                raise BadInput(f"decode: {name} {value} must be a number of {low:g} to {high:g}")
        if not isinstance(self.best_class, bool):
            raise BadInput(f"decode: best_class {self.best_class!r}; true or false is needed")

    @classmethod
    def of(cls, said: str | Mapping[str, Any] | Head) -> Head:
        """From `yolov8`, `yolov8:score=0.1,most=100`, or a dict with `head` and the same keys; raises `BadInput`.

        >>> Head.of("yolov5:iou=0.6"), Head.of({"head": "yolov8", "most": 10}).most
        (Head(kind='yolov5', score=0.25, iou=0.6, most=300, best_class=False), 10)
        """
        if isinstance(said, Head):
            return said
        given = _read(said) if isinstance(said, str) else {**said}
        kind = given.get("head")
        if isinstance(kind, str):
            given["head"] = ALSO.get(kind, kind)
        known = ["head", *(field.name for field in fields(cls) if field.name != "kind")]
        for name in given:
            if name not in known:
                raise BadInput(f"decode: {plugins.unknown(str(name), known, 'setting')}")
            if isinstance(said, str) and given.get("head") == CHOSEN and name in NOT_CHOSEN:
                raise BadInput(f"decode {said}: {name} {NOT_CHOSEN_WHY}; leave it out")
        return cls(given.pop("head", cls.kind), **given)

    @property
    def words(self) -> str:
        overlap = "" if self.kind == CHOSEN else f" IoU {self.iou:g},"
        best = " of its best class alone," if self.best_class else ""
        return f"{self.kind}, scores above {self.score:g},{overlap}{best} at most {self.most} boxes"

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {"head": values.pop("kind"), **values}


READERS: dict[str, Callable[[str], Any]] = {
    "most": int,
    "best_class": lambda text: {"1": True, "true": True, "0": False, "false": False}[text.lower()],
}


def _read(text: str) -> dict[str, Any]:
    kind, _, rest = text.partition(":")
    found: dict[str, Any] = {"head": kind.strip()}
    for setting in filter(None, rest.split(",")):
        name, _, value = setting.partition("=")
        try:
            found[name.strip()] = READERS.get(name.strip(), float)(value)
        except (ValueError, KeyError) as error:
            raise BadInput(f"decode {text}: {setting} is no setting; write yolov8:score=0.25,iou=0.45") from error
    return found


@dataclass(frozen=True)
class Layout:
    """Where a raw head has its `channels`, axis 1 or 2, and how many `classes` these say; 0 where they do not."""

    channels: int
    classes: int


def layout_of(head: Head, shape: Sequence[int], size: tuple[int, int] | None, classes: int | None, name: str) -> Layout:
    """How a tensor of `shape` is that `head`, for an input of `size` (height, width) and so many `classes`, where these
    are known. Raises `BadInput` naming `name` where it is not.
    """
    first, usual = FIRST[head.kind], CHANNELS_AXIS[head.kind]
    if head.kind == CHOSEN:
        if len(shape) == 3 and first in shape[1:]:
            return Layout(usual if shape[usual] == first else 3 - usual, classes or 0)
        raise BadInput(
            f"{name}: answers ({', '.join(map(str, shape))}), and a {CHOSEN} head is (N, boxes, 6): corners, score "
            "and class; name another head"
        )
    wanted = f"{first} + {classes or 'classes'}"
    wants = f"(N, {wanted}, places)" if usual == 1 else f"(N, places, {wanted})"
    axes = [axis for axis in (usual, 3 - usual) if len(shape) == 3 and shape[axis] > first]
    if classes is not None:
        axes = [axis for axis in axes if shape[axis] == first + classes]
    elif len(axes) == 2:
        gridded = [axis for axis in axes if size is not None and shape[3 - axis] in places_of(size)]
        axes = gridded if len(gridded) == 1 else [axis for axis in axes if shape[axis] < shape[3 - axis]] or axes
    if not axes:
        told = f"({', '.join(map(str, shape))})"
        raise BadInput(
            f"{name}: answers {told}, and a {head.kind} head is {wants}; name another head, or mend the labels"
        )
    return Layout(axes[0], shape[axes[0]] - first)


def places_of(size: tuple[int, int]) -> frozenset[int]:
    """How many boxes the usual grids have for an input of `size`.

    >>> 8400 in places_of((640, 640)), 25200 in places_of((640, 640)), 8401 in places_of((640, 640))
    (True, True, False)
    """
    cells = [sum(math.ceil(size[0] / s) * math.ceil(size[1] / s) for s in strides) for strides in STRIDES]
    return frozenset(count * boxes for count in cells for boxes in BOXES_OF_A_CELL)


def check_values(head: Head, layout: Layout, raw: Array, name: str) -> None:
    """Raise `BadInput` where the numbers in `raw` cannot be what the head says, as logits in place of scores."""
    channels = np.moveaxis(raw, layout.channels, 0)
    boxes, scores = channels[:4], channels[4 : 5 if head.kind == CHOSEN else None]
    if not np.isfinite(raw).all():
        raise BadInput(f"{name}: answers with NaN or infinity; there is nothing to decode")
    low, high = float(scores.min()), float(scores.max())
    if low < -SLACK or high > 1 + SLACK:
        told = f"its scores reach from {low:.3g} to {high:.3g}, and a {head.kind} head's are in 0 to 1"
        other = f"{CHOSEN}, which has six numbers a box" if FIRST[CHOSEN] in raw.shape[1:] else "another head"
        raise BadInput(f"{name}: {told}; put the sigmoid into the network, or name {other}")
    if head.kind == CHOSEN and not (np.equal(channels[5], np.rint(channels[5])) & (channels[5] >= 0)).all():
        told = f"its classes reach from {float(channels[5].min()):.3g} to {float(channels[5].max()):.3g}"
        raise BadInput(f"{name}: {told}, and a {head.kind} head has whole numbers there; name another head")
    ends = boxes[2:] if head.kind == CHOSEN else boxes[:2]
    if 0 < float(ends.max()) < 2:
        told = f"its boxes end at {float(ends.max()):.3g}, and a {head.kind} head's are in pixels"
        raise BadInput(f"{name}: {told}; multiply them by the size of the input in the network")
