"""Two lists of detections as two tables whose rows belong together: each box is paired with its counterpart.

    reference   A B C D          A B C D .          pairs of one image and class, largest overlap first
    candidate   B A X C    ->    A B C . X          no counterpart: a row of zeros, so that it counts as pure noise

Lists of boxes cannot be compared row by row: two scores that differ in the last digit swap two rows, and a list that
is cut after its best 200 may end in another box. Such a near tie at the end of a full list is not a difference: a row
without counterpart is left out when its score lies within `margin` of `low`, or of the end of the other list where
that is as long (few may: see TIES_SHARE). Boxes pair from IoU 1/2 on. Sizes are in pixels of the network's input.

Pure numpy, deterministic, independent of the order of rows. Test: tests/test_matching.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtimes.base import Array, Tensors

NAMES = ("boxes", "scores", "labels", "image")
"""float (M, 4) corners x1, y1, x2, y2; float (M,); integer (M,); integer (M,), the place in the batch."""
SAME_BOX_IOU = 0.5
SAME_CORNERS_PX = 0.1
"""A box that the image's edge has cut to a sliver, or to nothing, has no overlap to speak of with its own twin."""
SURE, UNSURE_MARGIN = 0.3, 0.1
TIES_SHARE = 0.05
"""At most this share of a list may end in near ties: with less than 20 rows every row counts."""
NONE = -1


@dataclass(frozen=True)
class Edges:
    """Overlaps (`iou`) and scores at which a network drops boxes; empty where they are not known."""

    iou: tuple[float, ...] = ()
    score: tuple[float, ...] = ()

    def __or__(self, other: Edges) -> Edges:
        return Edges(tuple({*self.iou, *other.iou}), tuple({*self.score, *other.score}))

    def near(self, side: Tensors, row: int, other: Tensors, margin: float) -> bool:
        """Whether rounding may have dropped, from the `other` list, what is `row` of `side`; of one image both."""
        score = float(side["scores"][row])
        if any(abs(score - edge) <= margin for edge in self.score):
            return True
        better = (other["labels"] == side["labels"][row]) & (other["scores"] >= score - margin)
        overlaps = iou(side["boxes"][[row]], other["boxes"][better])
        return any(bool((np.abs(overlaps - edge) <= margin).any()) for edge in self.iou)


@dataclass(frozen=True)
class Matching:
    """How many detections have a counterpart, are missing in the candidate, are only there, or were left out."""

    matched: int = 0
    lost: int = 0
    extra: int = 0
    near_ties: int = 0

    def __add__(self, other: Matching) -> Matching:
        sums = (a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        return Matching(*sums)

    @property
    def unmatched(self) -> int:
        return self.lost + self.extra


def is_detections(outputs: Tensors) -> bool:
    """Whether `outputs` are named and shaped as detections are."""
    if set(outputs) != set(NAMES):
        return False
    boxes, *others = (outputs[name] for name in NAMES)
    return boxes.ndim == 2 and boxes.shape[1] == 4 and all(value.shape == boxes.shape[:1] for value in others)


def align(
    reference: Tensors, candidate: Tensors, margin: float, low: float = 0.0, edges: Edges | None = None
) -> tuple[dict[str, Array], dict[str, Array], Matching]:
    """Both as tables of equal length: pairs in the reference's order, then rows without counterpart against zeros.

    Only pairs of which one score reaches `low` are kept. Scores within `margin` of where a list ends are near ties, and
    so are boxes within `margin` of one of the `edges`.
    """
    edges = edges or Edges()
    pairs: list[tuple[int, int]] = []
    lost: list[int] = []
    extra: list[int] = []
    ties = 0
    for n in np.union1d(reference["image"], candidate["image"]):
        ours, theirs = (np.flatnonzero(side["image"] == n) for side in (reference, candidate))
        a_rows, b_rows = _rows(reference, ours), _rows(candidate, theirs)
        found = [(int(ours[i]), int(theirs[j])) for i, j in pair(a_rows, b_rows)]
        a, near_a = _alone(reference, ours, [i for i, _ in found], b_rows, margin, low, edges)
        b, near_b = _alone(candidate, theirs, [j for _, j in found], a_rows, margin, low, edges)
        pairs, lost, extra, ties = pairs + found, lost + a, extra + b, ties + near_a + near_b
    pairs = [(i, j) for i, j in sorted(pairs) if not max(reference["scores"][i], candidate["scores"][j]) < low]
    left = [i for i, _ in pairs] + lost + [NONE] * len(extra)
    right = [j for _, j in pairs] + [NONE] * len(lost) + extra
    return _rows(reference, left), _rows(candidate, right), Matching(len(pairs), len(lost), len(extra), ties)


def _alone(
    side: Tensors, mine: Array, paired: Sequence[int], other: Tensors, margin: float, low: float, edges: Edges
) -> tuple[list[int], int]:
    """(rows of one image without counterpart, how many more are near ties); `other` is the other list of that image."""
    scores = side["scores"]
    alone = np.setdiff1d(mine, np.array(paired, int))
    alone = alone[np.argsort(scores[alone], kind="stable")]  # NaN last: never near anything
    near = (scores[alone] <= low + margin) & (low > 0)
    if len(other["scores"]) >= len(mine):
        most = int(TIES_SHARE * len(mine))
        near[:most] |= scores[alone[:most]] <= other["scores"].min(initial=np.inf) + margin
    near |= np.array([edges.near(side, int(row), other, margin) for row in alone], bool)
    return sorted(int(i) for i in alone[~near]), int((scores[alone[near]] >= low).sum())


def _rows(side: Tensors, index: Array | Sequence[int]) -> dict[str, Array]:
    """The rows `index` of all four tensors; NONE stands for a row of zeros."""
    index = np.asarray(index, int)
    found = {name: np.zeros((len(index), *side[name].shape[1:]), side[name].dtype) for name in NAMES}
    for name, values in found.items():
        values[index >= 0] = side[name][index[index >= 0]]
    return found


def pair(ours: Tensors, theirs: Tensors) -> list[tuple[int, int]]:
    """(row of ours, row of theirs) for one image: same label, IoU of 1/2 or more, the largest IoU first.

    Of equal IoU (a box that two places found) the nearer scores go together, then nearer boxes.
    """
    overlap = iou(ours["boxes"], theirs["boxes"]) * (ours["labels"][:, None] == theirs["labels"][None])
    first, second = np.nonzero(overlap >= SAME_BOX_IOU)
    apart = np.abs(ours["scores"][first].astype(np.float64) - theirs["scores"][second])
    far = np.abs(ours["boxes"][first].astype(np.float64) - theirs["boxes"][second]).sum(1)
    order = np.lexsort((second, first, far, apart, -overlap[first, second].round(6)))
    taken: tuple[set[int], set[int]] = (set(), set())
    found = []
    for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            found.append((i, j))
    return found


def iou(a: Array, b: Array) -> Array:
    """(A, B) of boxes (A, 4) and (B, 4): 1 where all corners are as good as equal, also without area; 0 for NaN."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    with np.errstate(invalid="ignore", over="ignore"):
        shared = np.maximum(high - low, 0).prod(2)
        areas = [np.maximum(box[:, 2:] - box[:, :2], 0).prod(1) for box in (a, b)]
        union = areas[0][:, None] + areas[1][None] - shared
        value = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        same = (np.abs(a[:, None] - b[None]) <= SAME_CORNERS_PX).all(2)
    return np.asarray(np.where(same, 1.0, np.nan_to_num(value)))


def disagreement(references: Sequence[Tensors], candidates: Sequence[Tensors]) -> float:
    """0 where both sides say the same of every image, 1 where nothing has a counterpart; inf for NaN and infinity.

    The mean over all detections that one side is sure of (over all that there are where the references are sure of
    none). A pair differs by the larger of its scores' difference and its corners' in longer sides of the box, by 1 at
    most; a detection without counterpart, not even one that the other side is less sure of, by 1.
    """
    sure = any((reference["scores"] >= SURE).any() for reference in references)
    low, margin = (SURE, UNSURE_MARGIN) if sure else (0.0, 0.0)
    parts = []
    for reference, candidate in zip(references, candidates, strict=True):
        left, right, found = align(reference, candidate, margin, low)
        if not all(np.isfinite(value).all() for side in (left, right) for value in side.values()):
            return math.inf
        parts += [_apart(left, right)[: found.matched], np.ones(found.unmatched)]
    apart = np.concatenate(parts) if parts else np.zeros(0)
    return float(apart.mean()) if len(apart) else 0.0


def _apart(left: Tensors, right: Tensors) -> Array:
    """float64 (M,) in 0..1: how far each row is from its counterpart; a side shorter than a pixel counts as one."""
    ours, theirs = (side["boxes"].astype(np.float64) for side in (left, right))
    longer = np.maximum(ours[:, 2:] - ours[:, :2], theirs[:, 2:] - theirs[:, :2]).max(1, initial=1.0)
    moved = np.abs(ours - theirs).max(1, initial=0.0) / longer
    scores = np.abs(left["scores"].astype(np.float64) - right["scores"])
    return np.asarray(np.clip(np.maximum(moved, scores), 0.0, 1.0))


PADDING = -1.0
"""Score of a row that only fills a table."""


def pad(found: Sequence[Tensors]) -> dict[str, Array]:
    """Detections of n single images as arrays (n, longest, ...), for a file that wants one row a sample."""
    longest = max((len(each["scores"]) for each in found), default=0)
    tables = {}
    for name in NAMES:
        first = found[0][name]
        filler = PADDING if name == "scores" else 0
        tables[name] = np.full((len(found), longest, *first.shape[1:]), filler, first.dtype)
        for row, each in zip(tables[name], found, strict=True):
            row[: len(each[name])] = each[name]
    return tables


def unpad(tables: Tensors, index: int) -> dict[str, Array]:
    """The detections of image `index` in tables that `pad` made."""
    real = tables["scores"][index] != PADDING
    return {name: tables[name][index][real] for name in NAMES}
