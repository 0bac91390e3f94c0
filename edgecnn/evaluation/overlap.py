"""How well the masks of two networks overlap on images without labels: mIoU, with the masks of one as the truth.

    IoU_c    =  (both_c + min(forgiven_c, 5 % of either_c)) / either_c      over all pixels of all images
    overlap  =  mean of IoU_c over the classes with either_c >= 100         either_c: pixels of c in one mask or in both

Why not the share of equal pixels: a class that fills 0.2 % of them can be lost as a whole, and 99.8 % stay equal. The
loss of IoU against the real truth is never more than 1 - IoU of the two masks, for that is a distance.

A pixel that differs is forgiven where each mask has the other's answer within one pixel: the edge of an object lies
where a network is least sure of itself, so that any rounding moves it, and the truth is no surer there. Without that,
trained networks that lose 0.1 points of mIoU would be out with an overlap of 98.7 %. An object that is lost or made up
has no such neighbour and is not forgiven; of a class no more than 5 % are, or thin lines and spots would be all edge.

A class of fewer pixels than 100 does not count: there one pixel would be over a budget of 1 %.
Source: Kosub 2019, "A note on the triangle inequality for the Jaccard distance"; Csurka et al. 2013, "What is a good
evaluation measure for semantic segmentation?", section 3. Test: tests/test_overlap.py.
"""

from __future__ import annotations

import numpy as np

from runtimes.base import Array
from runtimes.imaging.maps import NONE

FORGIVEN = 0.05
"""Of the pixels of a class, at most."""
LEAST = 100
"""Pixels of a class that decides."""
MANY = 2**16
"""Classes that are counted apart: maps of classes may hold any numbers."""


class Overlap:
    """Pixels by class of all masks that were added, int64 (classes,): in the one, in the other, in both, forgiven."""

    def __init__(self) -> None:
        self.ours, self.theirs, self.both, self.forgiven = (np.zeros(0, np.int64) for _ in range(4))
        self.pixels = self.same = 0

    def add(self, ours: Array, theirs: Array) -> None:
        """Count two masks (H, W) of one image; a pixel of `NONE` is like no other."""
        equal = (ours == theirs) & (ours != NONE)
        self.pixels, self.same = self.pixels + ours.size, self.same + int(equal.sum())
        rows, columns = np.nonzero(~equal)
        excused = near_edge(ours, theirs, rows, columns)
        at = rows[excused], columns[excused]
        self.ours, self.theirs = _more(self.ours, ours), _more(self.theirs, theirs)
        self.both = _more(self.both, ours[equal])
        self.forgiven = _more(_more(self.forgiven, ours[at]), theirs[at])

    def by_class(self) -> dict[int, float]:
        """The overlap of each class that decides; of all that occur where none has the pixels for it."""
        size = max(map(len, (self.ours, self.theirs, self.both, self.forgiven)))
        ours, theirs, both, forgiven = (
            np.pad(counts, (0, size - len(counts))) for counts in (self.ours, self.theirs, self.both, self.forgiven)
        )
        either = ours + theirs - both
        classes = np.flatnonzero(either >= LEAST) if (either >= LEAST).any() else np.flatnonzero(either)
        alike = both + np.minimum(forgiven, FORGIVEN * either)
        return {int(c): float(alike[c] / either[c]) for c in classes}

    @property
    def share(self) -> float:
        """The mean over classes; 0 where no pixel has one."""
        found = self.by_class()
        return sum(found.values()) / len(found) if found else 0.0


def near_edge(ours: Array, theirs: Array, rows: Array, columns: Array) -> Array:
    """bool: at which of `rows` and `columns`, pixels that differ, either mask has the other's class within a pixel."""
    at = rows, columns
    finite = (ours[at] != NONE) & (theirs[at] != NONE)
    return np.asarray(finite & _beside(ours, theirs[at], *at) & _beside(theirs, ours[at], *at))


def _beside(mask: Array, wanted: Array, rows: Array, columns: Array) -> Array:
    """Whether a neighbour in `mask` of each of the pixels has the class that is `wanted` there."""
    edged, found = np.pad(mask, 1, constant_values=NONE), np.zeros(len(rows), bool)
    for down in range(3):
        for right in range(3):
            found |= edged[rows + down, columns + right] == wanted
    return found


def _more(counts: Array, classes: Array) -> Array:
    """`counts` with one more for each of `classes`."""
    known = np.bincount(classes[classes != NONE] % MANY)
    size = max(len(known), len(counts))
    return np.asarray(np.pad(counts, (0, size - len(counts))) + np.pad(known, (0, size - len(known))))
