"""Points of one subject in a picture that a network answers with: heatmaps or coordinates, as pixels of its input.

    heatmaps (K, h, w), (h, w, K)    the highest cell of each, column j and row i: x = (j + d) W / w, y = (i + e) H / h
    coordinates (2 K,) or (K, 2)     x = W (a - low) / (high - low), y = H (b - low) / (high - low), or as they are

d is a quarter towards the higher of the cells before and behind, 0 where one of them is not there or both are alike; e
is the same of rows. Low and high are `answer_range` of the preprocessing: the numbers at the left and the right edge of
the input, the upper and the lower. Where it is not set, coordinates of which most are within 2 are shares, 0 to 1, and
others are pixels.
Source: the quarter, Newell et al. 2016, "Stacked Hourglass Networks for Human Pose Estimation"; where a cell lies, Xiao
et al. 2018, "Simple Baselines for Human Pose Estimation and Tracking". Test: tests/test_keypoints.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.imaging.maps import Seen, class_axis

SHARES = 2.0
"""Coordinates that are larger are pixels."""
QUARTER = 0.25


def count_of_points(answer: Sequence[object], seen: Seen) -> int | None:
    """How many points an answer of sizes `answer`, without the batch, tells; None where that is open, or it is none.

    >>> count_of_points((17, 64, 48), Seen()), count_of_points((10,), Seen()), count_of_points((5, 2), Seen())
    (17, 5, 5)
    """
    if not is_points(answer):
        return None
    count = answer[class_axis(answer, seen)] if len(answer) == 3 else answer[0]
    return None if not isinstance(count, int) else count if len(answer) > 1 else count // 2


def is_points(answer: Sequence[object]) -> bool:
    """Whether an answer of sizes `answer`, without the batch, may be heatmaps or coordinates.

    >>> is_points((17, 64, 48)), is_points((7,)), is_points((5, 3))
    (True, False, False)
    """
    if len(answer) == 1:
        return not isinstance(answer[0], int) or answer[0] % 2 == 0
    return len(answer) == 3 or (len(answer) == 2 and answer[1] == 2)


def points_of(answer: Array, seen: Seen, ends: tuple[float, float] | None = None) -> Array:
    """float64 (K, 3): x and y of each point in pixels of the input that is `seen`, and the height of its heatmap there,
    NaN for coordinates; x and y are NaN where a heatmap is not finite.

    `ends`: the numbers at both edges of the input. Raises `BadInput` for an input that is no picture.
    """
    high, wide = seen.sides
    if not isinstance(high, int) or not isinstance(wide, int):
        raise BadInput("input: is no picture, which points could lie in; give the task regression")
    sides = np.array([wide, high], np.float64)
    if answer.ndim == 3:
        maps = answer if class_axis(answer.shape, seen) == 0 else answer.transpose(2, 0, 1)
        return np.asarray(_peaks(maps) * [*sides / maps.shape[:0:-1], 1])
    places = answer.reshape(-1, 2).astype(np.float64)
    if ends is not None:
        places = (places - ends[0]) / (ends[1] - ends[0]) * sides
    elif 2 * np.count_nonzero(np.abs(places) > SHARES) < places.size:
        places = places * sides
    return np.column_stack([places, np.full(len(places), np.nan)])


def _peaks(maps: Array) -> Array:
    """(K, 3): column, row and height of the highest cell of each of the maps (K, h, w), moved by the quarters."""
    each = np.arange(len(maps))
    rows, columns = np.divmod(maps.reshape(len(maps), -1).argmax(1), maps.shape[2])
    x = columns + _quarters(maps[each, rows], columns)
    y = rows + _quarters(maps[each, :, columns], rows)
    found = np.column_stack([x, y, maps[each, rows, columns]]).astype(np.float64)
    found[~np.asarray(np.isfinite(maps).all((1, 2))), :2] = np.nan
    return found


def _quarters(lines: Array, at: Array) -> Array:
    """(K,): towards the higher neighbour of the cell `at` (K,) in each of `lines` (K, n)."""
    each, last = np.arange(len(lines)), lines.shape[1] - 1
    before, behind = lines[each, np.maximum(at - 1, 0)], lines[each, np.minimum(at + 1, last)]
    inside = (at > 0) & (at < last)
    return np.asarray(QUARTER * inside * ((behind > before) * 1.0 - (behind < before) * 1.0))
