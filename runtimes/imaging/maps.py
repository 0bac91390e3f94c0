"""An answer of one class for each pixel, however the exporter laid it out: scores at either end, or the classes.

    scores (C, H, W) or (H, W, C)                         the axis beside the sides of the picture, or shares of them
    classes (H, W), (1, H, W) or (H, W, 1), whole numbers    an ArgMax in the graph

Where both ends fit, as for 32 classes of 32x32 pixels, an answer is laid out as the input is. Test: tests/test_maps.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtimes.base import Array
from runtimes.imaging.preprocess import layout_of

MOST = 256
"""Classes that a mask can name; an answer of classes does not say how many there are."""
NONE = -1


@dataclass(frozen=True)
class Seen:
    """The picture as the network sees it: its sides, where they are known, and whether its channels are last."""

    sides: tuple[object, object] = (None, None)
    channels_last: bool = False

    @classmethod
    def of(cls, sample: Sequence[object]) -> Seen:
        """Of a network that takes samples of such sizes, without the batch.

        >>> Seen.of((224, 160, 3)), Seen.of((3, 224, "w"))
        (Seen(sides=(224, 160), channels_last=True), Seen(sides=(224, 'w'), channels_last=False))
        """
        if len(sample) != 3:
            return cls()
        last = layout_of(sample) == "NHWC"
        return cls((sample[0], sample[1]) if last else (sample[1], sample[2]), last)


def class_axis(answer: Sequence[object], seen: Seen) -> int:
    """Where scores of sizes `answer`, three without the batch, have their classes: 0 or 2.

    >>> class_axis((21, 64, 64), Seen((64, 64))), class_axis((16, 16, 21), Seen((64, 64), True))
    (0, 2)
    """
    ends = [axis for axis in (0, 2) if isinstance(answer[axis], int)] or [0, 2]
    for alike in (_equal, _in_proportion):
        found = [axis for axis in ends if alike((answer[1 - axis // 2], answer[2 - axis // 2]), seen.sides)]
        if len(found) == 1:
            return found[0]
    return ends[0] if len(ends) == 1 else 2 if seen.channels_last else 0


def _equal(sides: tuple[object, object], wanted: tuple[object, object]) -> bool:
    return all(not isinstance(w, int) or not isinstance(s, int) or s == w for s, w in zip(sides, wanted, strict=True))


def _in_proportion(sides: tuple[object, object], wanted: tuple[object, object]) -> bool:
    (a, b), (c, d) = sides, wanted
    if not (isinstance(a, int) and isinstance(b, int) and isinstance(c, int) and isinstance(d, int)):
        return False
    return a * d == b * c


def are_classes(answer: Sequence[object], whole: bool) -> bool:
    """Whether an answer of sizes `answer`, without the batch, holds classes themselves; `whole`: whole numbers."""
    return whole and (len(answer) == 2 or (len(answer) == 3 and 1 in (answer[0], answer[2])))


def is_map(answer: Sequence[object], whole: bool) -> bool:
    """Whether an answer of sizes `answer`, without the batch, gives every pixel one of several classes."""
    return are_classes(answer, whole) or (len(answer) == 3 and 1 not in (answer[0], answer[2]))


def is_whole(dtype: object) -> bool:
    """Whether numbers of `dtype`, or of one so called, are whole."""
    return str(dtype).startswith(("int", "uint"))


def count_of(answer: Sequence[object], whole: bool, seen: Seen) -> int | None:
    """How many classes an answer of sizes `answer` tells apart; None where that is open."""
    if len(answer) != 3 or are_classes(answer, whole):
        return None
    count = answer[class_axis(answer, seen)]
    return count if isinstance(count, int) else None


def classes_of(answer: Array, seen: Seen) -> Array:
    """int64 (H, W): the class of each pixel of an `answer` for one image, the first one of equals; `NONE` where its
    scores are not finite.
    """
    if are_classes(answer.shape, is_whole(answer.dtype)):
        flat = answer if answer.ndim == 2 else answer[0] if answer.shape[0] == 1 else answer[:, :, 0]
        return np.asarray(flat.astype(np.int64))
    axis = class_axis(answer.shape, seen)
    return np.asarray(np.where(np.isfinite(answer).all(axis=axis), answer.argmax(axis), NONE))
