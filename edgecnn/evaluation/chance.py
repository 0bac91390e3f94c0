"""Is a classifier any better than chance? If not, its classes or its pixels are most likely not those of the data.

    p = the largest of 1 / classes and the share of the most frequent class     what is right without looking
    P(X >= right; images, p) > 0.05, X binomial                                 no better than chance

One-sided, exact, on 30 images or more: fewer tell nothing of a network, only of the draw. The same is said of

    labels      mAP <= mean over labels of what a random order gives       E[AP] = q + (1 - q) (m - 1) / (n - 1)
                of the n images, of which m have the label                 q = (1 + 1/2 + ... + 1/n) / n
    numbers     R^2 <= 0                                                   always the mean would do as well
    pixels      a class of the data has IoU 0                              its pixels are few, the others' score is high
    folders     top-1 is twice as high with folders counted by number      9 before 10 (data/folders.py)

Source of E[AP]: Bestgen 2015, "Exact expected average precision of the random baseline for system evaluation".
Test: tests/test_chance.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgecnn.data.copies import independent
from edgecnn.data.folders import by_number
from edgecnn.data.samples import Samples
from edgecnn.evaluation.scores import Score, at_most
from edgecnn.tasks import multi_label, regression
from runtimes.base import counted

LEVEL = 0.05
FEWEST = 30
OTHER_ORDER = 2
"""As many times more are right in another order of classes than in the one that was taken for a line to say so."""
SHOWN = 3


def no_better_than_chance(right: int, images: int, share: float) -> bool:
    """Whether `right` answers on `images` are what guessing, right on a `share` of them, explains.

    >>> no_better_than_chance(46, 450, 0.1), no_better_than_chance(63, 450, 0.1)
    (True, False)
    """
    return images >= FEWEST and 0 < share < 1 and 1 - at_most(right - 1, images, share) > LEVEL


def chance_warning(subject: str, metric: str, value: float | None, samples: Samples, classes: int | None) -> str:
    """The line for `subject`, whose `metric` on labelled `samples` is `value`; empty where it is better than chance."""
    if value is not None and samples.truth is not None:
        return _of_rows(subject, metric, value, samples)
    if metric != "top-1" or value is None or samples.labels is None or not classes:
        return ""
    counts, images = np.bincount(samples.labels), len(samples.labels)
    share = max(1 / classes, float(counts.max()) / images)
    if not no_better_than_chance(round(value * independent(samples)), independent(samples), share):
        return ""
    of = counted(classes, "class", "classes")
    chance = f"no better than chance for {of}" + (f" ({100 * share:.0f} % are of one)" if share * classes > 1.5 else "")
    return (
        f"{subject} is right on {100 * value:.1f} % of {counted(images, 'image')}, {chance}: another order of classes "
        "or other preprocessing? see --labels, --preprocess"
    )


def order_warning(subject: str, value: float | None, samples: Samples, largest: Sequence[int]) -> str:
    """The line that says that `subject` counts class folders by number; empty where they have no other order so, and
    where `value`, its top-1 in theirs, is more than half of what it would be then.

    `largest`: at which class each image's answer has its largest number.
    """
    names, numbered = samples.class_names, by_number(samples.class_names)
    if value is None or samples.labels is None or len(largest) != len(samples) or numbered in (None, names):
        return ""
    place = {name: i for i, name in enumerate(numbered or ())}
    images = len(samples)
    other = float(np.mean(np.array([place[name] for name in names])[samples.labels] == largest))
    by_luck = images < FEWEST or no_better_than_chance(round(other * images), images, 1 / len(names))
    if other <= OTHER_ORDER * value or by_luck:
        return ""
    return (
        f"{subject} is right on {100 * value:.1f} % of {counted(images, 'image')} with class folders in "
        f"alphabetical order; counted by number it would be right on {100 * other:.1f} %: give the names in its order, "
        f"{', '.join((numbered or ())[:3])} ...: --labels FILE"
    )


def missed_warning(subject: str, found: Score, remedy: str) -> str:
    """The line that says of which classes of pixels `subject` finds nothing: a high score may be background alone."""
    if not found.missed:
        return ""
    shown = ", ".join(name[:20] for name in found.missed[:SHOWN])
    more = f" and {len(found.missed) - SHOWN} more" if len(found.missed) > SHOWN else ""
    of = "class" if len(found.missed) == 1 else "classes"
    return f"{subject}: no pixel of {of} {shown}{more} is right on {counted(found.images, 'image')}: {remedy}"


def _of_rows(subject: str, metric: str, value: float, samples: Samples) -> str:
    """The same for labels that do not exclude each other, and for numbers."""
    assert samples.truth is not None
    count, remedy = len(samples), "other preprocessing, or another order of columns? see --preprocess, --labels"
    on = f"on {counted(count, 'image')}"
    if count < FEWEST:
        return ""
    if metric == regression.METRIC and value <= 0:
        return f"{subject} has {metric} {value:.2f} {on}, no better than always the mean: {remedy}"
    if metric != multi_label.METRIC or samples.truth.ndim != 2:
        return ""
    having = samples.truth.astype(bool).sum(axis=0)
    expected = float(np.mean([random_precision(int(m), count) for m in having if m]))
    if value > expected:
        return ""
    return f"{subject} has {metric} {value:.1%} {on}, no better than a random order, which has {expected:.1%}: {remedy}"


def random_precision(having: int, images: int) -> float:
    """Average precision that `images` in random order have on average, of which `having` have the label.

    >>> random_precision(1, 2), random_precision(3, 3)
    (0.75, 1.0)
    """
    first = math.fsum(1 / i for i in range(1, images + 1)) / images
    return first + (1 - first) * (having - 1) / max(1, images - 1)
