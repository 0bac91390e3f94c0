"""Between which values the metric of one model lies for other images of the same kind, at 95 %.

    top-1      share p of N right answers: the score interval       (p + z^2 / 2N +- z sqrt(p (1 - p) / N + z^2 / 4N^2))
               (Wilson 1927, "Probable inference, the law of         / (1 + z^2 / N),     z = 1.96
               succession, and statistical inference")
    others     draw N of the N images with replacement, 1,000 times: the middle 95 % of the values (Efron 1979), as of a
               difference (evaluation/scores.py), and on the same draws

Copies of an image are drawn together; in Wilson's interval images are as many as they are worth (data/copies.py).
Test: tests/test_interval.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgecnn.data.copies import worth
from edgecnn.evaluation.scores import RESAMPLES, Score, Z, draws
from runtimes.base import Array, Track, silent

ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """`low` to `high`, in the unit of the metric; `method` names how they were found."""

    low: float
    high: float
    method: str


def interval(score: Score, seed: int = 0, track: Track = silent) -> Interval | None:
    """The 95 % interval of `score`; None where no draw of its images has another value, as of one image."""
    if isinstance(score.each, np.ndarray) and score.each.dtype == bool:
        low, high = wilson(score.value, worth(score.groups, score.images))
        return Interval(low, high, "score interval (Wilson 1927), 95 %")
    (drawn,) = draws((score,), seed, RESAMPLES, track)
    known: Array = drawn[~np.isnan(drawn)]
    if not len(known) or np.ptp(known) <= ROUNDING * max(1.0, abs(score.value)):
        return None
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(float(low), float(high), f"bootstrap over images, {RESAMPLES} resamples, seed {seed}, 95 %")


def wilson(share: float, images: float) -> tuple[float, float]:
    """The ends for a `share` of right answers among `images`.

    >>> [round(end, 4) for end in wilson(0.9, 10)], [round(end, 4) for end in wilson(1.0, 30)]
    ([0.5958, 0.9821], [0.8865, 1.0])
    """
    middle = share + Z * Z / (2 * images)
    apart = Z * math.sqrt(share * (1 - share) / images + Z * Z / (4 * images * images))
    whole = 1 + Z * Z / images
    low, high = (middle - apart) / whole, (middle + apart) / whole
    return low if share > 0 else 0.0, high if share < 1 else 1.0  # else rounding is left
