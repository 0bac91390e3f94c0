"""Is a classifier any better than chance? If not, its classes or its pixels are most likely not those of the data.

    p = the largest of 1 / classes and the share of the most frequent class     what is right without looking
    P(X >= right; images, p) > 0.05, X binomial                                 no better than chance

One-sided, exact, on 30 images or more: fewer tell nothing of a network, only of the draw.
Test: tests/test_chance.py.
"""

from __future__ import annotations

import math

import numpy as np

from edgecnn.data.samples import Samples
from runtimes.base import counted

LEVEL = 0.05
FEWEST = 30


def no_better_than_chance(right: int, images: int, share: float) -> bool:
    """Whether `right` answers on `images` are what guessing, right on a `share` of them, explains.

    >>> no_better_than_chance(46, 450, 0.1), no_better_than_chance(63, 450, 0.1)
    (True, False)
    """
    return images >= FEWEST and 0 < share < 1 and at_least(right, images, share) > LEVEL


def at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) of a binomial (n, p), 0 < p < 1.

    >>> round(at_least(1, 3, 0.5), 3), at_least(0, 3, 0.5)
    (0.875, 1.0)
    """
    whole = math.lgamma(n + 1)
    terms = (
        whole - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k, n + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))


def chance_warning(subject: str, metric: str, value: float | None, samples: Samples, classes: int | None) -> str:
    """The line for `subject`, whose `metric` on labelled `samples` is `value`; empty where it is better than chance."""
    if metric != "top-1" or value is None or samples.labels is None or not classes:
        return ""
    counts, images = np.bincount(samples.labels), len(samples.labels)
    share = max(1 / classes, float(counts.max()) / images)
    if not no_better_than_chance(round(value * images), images, share):
        return ""
    of = counted(classes, "class", "classes")
    chance = f"no better than chance for {of}" + (f" ({100 * share:.0f} % are of one)" if share * classes > 1.5 else "")
    return (
        f"{subject} is right on {100 * value:.1f} % of {counted(images, 'image')}, {chance}: another order of classes "
        "or other preprocessing? see --labels, --preprocess"
    )
