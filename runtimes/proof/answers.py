"""From a network's outputs for one image to what a person wants to know: a class, labels, a mask, boxes, or numbers.

    logits (classes,)            --softmax-->  the best few classes
    logits (classes, h, w)       --argmax-->   the class of every pixel of the original image (imaging/maps.py)
    boxes, scores, labels        --scaled-->   boxes in pixels of the original image, the surest first
    multi-label (labels,)        --sigmoid-->  the labels over one half
    image (1 or 3, h, w)         --levels-->   a picture (imaging/answered.py)
    keypoints (K, h, w), (2 K,)  --peaks-->    points in pixels of the original image (imaging/keypoints.py)
    regression, embedding, any   --as is-->    the numbers

Scores that are probabilities already (none negative, sum 1, or behind a Sigmoid) are left as they are.
Test: tests/test_answers_told.py, tests/test_predict.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from runtimes.base import Array, BadInput, Tensors
from runtimes.imaging.geometry import UNSEEN, Geometry
from runtimes.imaging.maps import MOST, Seen, classes_of
from runtimes.proof.points import PointsPrediction
from runtimes.words import number

SEGMENTATION, REGRESSION, MULTI_LABEL = "segmentation", "regression", "multi-label"
EMBEDDING, IMAGE, KEYPOINTS = "embedding", "image", "keypoints"
TASKS = ("classification", SEGMENTATION, "detection", MULTI_LABEL, REGRESSION, EMBEDDING, IMAGE, KEYPOINTS)
"""Whose outputs have a meaning that is known here."""
HALF = 0.5
SPOKEN, WRITTEN = 16, 4096
"""Numbers of an output that are shown one by one, and that JSON holds."""


@dataclass(frozen=True, slots=True)
class Answer:
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answers for one image, the best first; `input` is the file, with `[i]` where it holds several images."""

    input: str
    top: tuple[Answer, ...]

    @property
    def label(self) -> str:
        return self.top[0].label

    @property
    def score(self) -> float:
        return self.top[0].score

    @property
    def words(self) -> str:
        return ", ".join(f"{a.label} {a.score:.1%}" for a in self.top)

    def to_dict(self) -> dict[str, Any]:
        return {"input": self.input, "label": self.label, "score": self.score, "top": [asdict(a) for a in self.top]}


@dataclass(frozen=True, slots=True)
class Region:
    """How much of an image a class takes; `share` is of the pixels that the network saw."""

    label: str
    pixels: int
    share: float


@dataclass(frozen=True)
class MaskPrediction:
    """`mask` uint8 (H, W) in the original image: the class of each pixel, 255 where the network did not look.

    `regions`: the classes that occur, the largest first. `files`: what was saved of it.
    """

    input: str
    mask: Array
    regions: tuple[Region, ...]
    files: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return ", ".join(f"{r.label} {r.share:.1%}" for r in self.regions)

    def to_dict(self) -> dict[str, Any]:
        mask = {"size": list(self.mask.shape), "classes": [asdict(r) for r in self.regions]}
        return {"input": self.input, "mask": mask, "files": list(self.files)}


@dataclass(frozen=True, slots=True)
class Box:
    """`box`: x1, y1, x2, y2 in pixels of the original image."""

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class BoxesPrediction:
    """What was found in one image, the surest first. `files`: what was saved of it."""

    input: str
    boxes: tuple[Box, ...]
    files: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return ", ".join(f"{b.label} {b.score:.0%} at {' '.join(f'{v:.0f}' for v in b.box)}" for b in self.boxes)

    def to_dict(self) -> dict[str, Any]:
        return {"input": self.input, "boxes": [asdict(b) for b in self.boxes], "files": list(self.files)}


@dataclass(frozen=True, slots=True)
class LabelsPrediction:
    """The score of every label of one image, the highest first; none excludes another."""

    input: str
    scores: tuple[Answer, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Those over one half."""
        return tuple(answer.label for answer in self.scores if answer.score > HALF)

    @property
    def words(self) -> str:
        said = ", ".join(f"{a.label} {a.score:.1%}" for a in self.scores if a.score > HALF)
        return said or f"no label over {HALF:.0%}, at most {self.scores[0].label} {self.scores[0].score:.1%}"

    def to_dict(self) -> dict[str, Any]:
        return {"input": self.input, "labels": list(self.labels), "scores": [asdict(a) for a in self.scores]}


@dataclass(frozen=True)
class Numbers:
    """One output for one image: all its `values` where these are few, else None. `names` of them, where known."""

    output: str
    shape: tuple[int, ...]
    values: tuple[float, ...] | None
    low: float
    mean: float
    high: float
    names: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        if self.values is None or len(self.values) > SPOKEN:
            sizes = "x".join(map(str, self.shape))
            return f"{sizes} numbers from {number(self.low)} to {number(self.high)}, mean {number(self.mean)}"
        said = map(number, self.values)
        return (
            ", ".join(f"{name} {value}" for name, value in zip(self.names, said, strict=True))
            if self.names
            else ", ".join(said)
        )


@dataclass(frozen=True)
class NumbersPrediction:
    """What a network of numbers answers for one image, output by output. `files`: what was saved of it.

    `arrays`: the outputs themselves by name, without the batch; empty where all answers would be too large together.
    """

    input: str
    outputs: tuple[Numbers, ...]
    files: tuple[str, ...] = ()
    arrays: Mapping[str, Array] = field(default_factory=dict, repr=False, compare=False)

    @property
    def words(self) -> str:
        if len(self.outputs) == 1:
            return self.outputs[0].words
        return "; ".join(f"{one.output}: {one.words}" for one in self.outputs)

    def to_dict(self) -> dict[str, Any]:
        return {"input": self.input, "outputs": [asdict(one) for one in self.outputs], "files": list(self.files)}


@dataclass(frozen=True)
class PicturePrediction:
    """`picture` uint8 (H, W) or (H, W, 3), red, green, blue: what the network made of one image.

    `files`: what was saved of it.
    """

    input: str
    picture: Array
    files: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return f"picture of {'x'.join(map(str, self.picture.shape))}"

    def to_dict(self) -> dict[str, Any]:
        return {"input": self.input, "picture": {"shape": list(self.picture.shape)}, "files": list(self.files)}


AnyPrediction = (
    Prediction
    | MaskPrediction
    | BoxesPrediction
    | LabelsPrediction
    | NumbersPrediction
    | PicturePrediction
    | PointsPrediction
)


def name_of(labels: Sequence[str], index: int) -> str:
    return labels[index] if index < len(labels) else str(index)


# -------------------------------------------------------------------------------------------------- labels and numbers
def labels_of(scores: Array, labels: Sequence[str], sigmoid: bool, name: str = "output") -> tuple[Answer, ...]:
    """Every label of `scores` (labels,), the highest first; logits become probabilities, each on its own.

    >>> labels_of(np.float32([-1, 3]), ("cat", "dog"), sigmoid=False)[0].label
    'dog'
    """
    require_finite(name, scores)
    values = scores.astype(np.float64)
    values = values if sigmoid else 0.5 + 0.5 * np.tanh(values / 2)
    order = np.argsort(-values, kind="stable")
    return tuple(Answer(name_of(labels, int(i)), float(values[i])) for i in order)


def numbers_of(name: str, outputs: Tensors, labels: Sequence[str]) -> NumbersPrediction:
    """The numbers of every output for one image, without the batch; `labels` name those of the first."""
    found: list[Numbers] = []
    arrays = {output: batch[0] if batch.ndim else batch for output, batch in outputs.items()}
    for output, batch in outputs.items():
        require_finite(name, batch)
        value = arrays[output]
        flat = value.astype(np.float64).ravel()
        if not flat.size:
            raise BadInput(f"{name}: output {output} is empty, {list(batch.shape)}")
        named = tuple(labels) if not found and len(labels) == flat.size else ()
        values = tuple(map(float, flat)) if flat.size <= WRITTEN else None
        ends = float(flat.min()), float(flat.mean()), float(flat.max())
        found.append(Numbers(output, tuple(value.shape), values, *ends, named))
    return NumbersPrediction(name, tuple(found), arrays=arrays)


# -------------------------------------------------------------------------------------------------------------- classes
def best(scores: Array, labels: Sequence[str], count: int, name: str = "output") -> tuple[Answer, ...]:
    """The `count` largest of `scores` (classes,), as probabilities; equal scores keep the order of the classes.

    `name` is what a `BadInput` is about: the image.
    """
    require_finite(name, scores)
    values = probabilities(scores)
    order = np.argsort(-values, kind="stable")[:count]
    return tuple(Answer(name_of(labels, i), float(values[i])) for i in order)


def probabilities(scores: Array) -> Array:
    """softmax(s)_i = exp(s_i - max s) / sum_j exp(s_j - max s) of `scores` (classes,), unless they sum to 1 already."""
    scores = scores.astype(np.float64)
    if scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3:
        return scores
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())


def require_finite(name: str, *values: Array) -> None:
    if not all(np.isfinite(value).all() for value in values):
        raise BadInput(f"{name}: is answered with NaN or infinity; prove the bundle with `edgecnn verify`")


# ---------------------------------------------------------------------------------------------------------------- masks
def mask_of(name: str, answer: Array, geometry: Geometry, labels: Sequence[str], seen: Seen) -> MaskPrediction:
    """The mask of the original image from an answer for the picture `seen`: scores, or classes (imaging/maps.py)."""
    require_finite(name, answer)
    classes = classes_of(answer, seen)
    if classes.min() < 0 or classes.max() >= MOST:
        raise BadInput(f"{name}: is answered with classes {classes.min()} to {classes.max()}; a mask holds 0 to 255")
    mask = geometry.mask_to_image(classes.astype(np.uint8))
    counts = np.bincount(mask[mask != UNSEEN], minlength=1)
    looked = int(counts.sum())
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    return MaskPrediction(
        name, mask, tuple(Region(name_of(labels, i), int(counts[i]), float(counts[i] / looked)) for i in order)
    )


# ---------------------------------------------------------------------------------------------------------------- boxes
def boxes_of(
    name: str, outputs: Tensors, geometry: Geometry, labels: Sequence[str], min_score: float
) -> BoxesPrediction:
    """What a detector found in one image with a score of at least `min_score`."""
    boxes, scores, classes = (outputs[key] for key in ("boxes", "scores", "labels"))
    require_finite(name, boxes, scores)
    placed = geometry.boxes_to_image(boxes)
    order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] >= min_score]
    found = []
    for i in order:
        x1, y1, x2, y2 = (float(v) for v in placed[i])
        found.append(Box(name_of(labels, int(classes[i])), float(scores[i]), (x1, y1, x2, y2)))
    return BoxesPrediction(name, tuple(found))
