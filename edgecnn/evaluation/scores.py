"""What a network is worth on labelled images, and how sure one can be that another one is worth more or less.

    Score        value, and `resample`: the value that a weighting of the images gives
    Difference   reference - candidate on the same images, with a 95 % interval for other images of the same kind

Two intervals, both paired (the images are the same, so that hard ones cancel):

    bootstrap    draw N of the N images with replacement, R times; value of both on the same draw; the middle 95 %
                 of the R differences (Efron 1979). For any metric. Where all R are 0 it tells nothing: what N images
                 leave possible is then told as a share of images (Clopper and Pearson 1934).
    score        for shares of right answers. With b images that only the reference answers right and c that only the
                 candidate does, d = (b - c) / N, the interval is all D that a score test does not reject:

                     |b - c - N D| <= 1.96 sqrt(N (2 q + D (1 - D)))     q: likeliest share of c, given D

                 (Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the
                 paired-sample design"; at D = 0 it is McNemar's test.) It stays honest where b = c = 0: 30 images
                 without a difference leave room for one of 11 points, which a bootstrap cannot see.

Copies of an image are drawn together; in the score interval images are as many as they are worth (data/copies.py).
Test: tests/test_scores.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from edgecnn.data.copies import different, worth
from runtimes.base import Array, BadInput, Runner, Tensors, Track, counted, silent

Z = 1.959963984540054
"""The normal distribution's 97.5 % point: two of them leave 95 % between."""
CONFIDENCE = 0.95
RESAMPLES = 1000
CHUNK = 50
MOST_WEIGHTS = 2_000_000
"""In one block of draws: 16 MB."""


@dataclass(frozen=True)
class Score:
    """`value` of the metric, in 0..1 or in its `unit`, over `images`. `details`: further numbers by name,
    some of them by class.

    `resample` maps weights (R, N), how often each image counts, to R values of the metric (NaN where it has none).
    """

    metric: str
    value: float
    images: int
    details: Mapping[str, Any]
    resample: Callable[[Array], Array]
    reading: Mapping[str, Any] | None = None
    """How the labels that a detector answers were read as classes (evaluation/class_numbers.py)."""
    unit: str = ""
    """Of `value`, as dB; empty for a share from 0 to 1."""
    missed: tuple[str, ...] = ()
    """Classes of which the data has pixels, none of them answered right."""
    groups: Array | None = None
    """int (N,): the same number for copies of one image; None where all differ."""
    each: Array | Callable[[], Array] | None = None
    """(N,), or what makes it: the metric of each image alone; bool where `value` is a share of right answers."""
    drawn: dict[tuple[int, int], Array] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By (seed, R) the values (R,) of draws that were made before."""

    @cached_property
    def per_sample(self) -> Array:
        """float64 (N,): the metric of each image alone; NaN where it has none (no object to be found)."""
        if self.each is not None:
            return np.asarray(self.each() if callable(self.each) else self.each, np.float64)
        rows = block(self.images)
        return np.concatenate([self.resample(one_hot(i, rows, self.images)) for i in range(0, self.images, rows)])


@dataclass(frozen=True)
class Difference:
    """`value` with its 95 % interval `low` to `high`; `method` names how that was found."""

    value: float
    low: float
    high: float
    method: str
    images: int | None = None
    """How many different images were drawn from, where draws tell nothing: none showed a difference, or all were of one
    image. `low` and `high` are then no interval."""

    def __neg__(self) -> Difference:
        value, low, high = (0.0 - v for v in (self.value, self.high, self.low))  # -0.0 would be shown with its sign
        return Difference(value, low, high, self.method, self.images)

    @property
    def others(self) -> float | None:
        """Where there is no interval: the share of images that may show a difference, at 95 %."""
        return None if self.images is None else upper_bound(int(self.value != 0), self.images)

    def to_dict(self) -> dict[str, Any]:
        found = {"value": self.value, "low": self.low, "high": self.high, "method": self.method}
        return found if self.others is None else {**found, "others_at_most": self.others}


@dataclass(frozen=True)
class Agreement:
    """`share` of answers, 0..1, that two networks give alike on `images` images without labels; of masks by how much
    they overlap (evaluation/overlap.py), of labels how well one finds the other's (tasks/multi_label.py).
    """

    share: float
    images: int
    changed: float | None = None
    """Of masks and labels, the share that is another."""

    @property
    def lost(self) -> float:
        """The larger of what `share` lacks and what has `changed`."""
        return max(1.0 - self.share, self.changed or 0.0)


def block(images: int) -> int:
    """How many draws of so many images are held at once."""
    return max(1, min(CHUNK, MOST_WEIGHTS // images))


def one_hot(start: int, rows: int, images: int) -> Array:
    """Weights (rows, images), fewer rows at the end, that draw image start, start + 1, ... alone."""
    return np.asarray(np.arange(start, min(start + rows, images))[:, None] == np.arange(images), np.float64)


def bootstrap(
    reference: Score, candidate: Score, seed: int = 0, resamples: int = RESAMPLES, track: Track = silent
) -> Difference:
    """reference.value - candidate.value with the percentile interval; raises `BadInput` for different images."""
    same_images(reference, candidate)
    ours, theirs = draws((reference, candidate), seed, resamples, track)
    drawn, count = ours - theirs, different(reference.groups, reference.images)
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    method = f"bootstrap over images, {resamples} resamples, seed {seed}, 95 %"
    images = None if count > 1 and np.nan_to_num(drawn).any() else count
    return Difference(reference.value - candidate.value, float(low), float(high), method, images)


def draws(scores: Sequence[Score], seed: int, resamples: int, track: Track) -> list[Array]:
    """The values (R,) of each of `scores`, of the same images, for the same draws, which the scores keep."""
    images, key, order = scores[0].images, (seed, resamples), np.random.default_rng(seed)
    new = [score for score in scores if key not in score.drawn]
    if new:
        groups, rows = scores[0].groups, block(images)
        found: list[list[Array]] = [[] for _ in new]
        labels = None if groups is None else np.unique(groups, return_inverse=True)[1]
        count = different(groups, images)
        for start in track(range(0, resamples, rows), "drawing images for the interval"):
            weights = order.multinomial(count, np.full(count, 1 / count), min(rows, resamples - start))
            weights = weights if labels is None else weights[:, labels]
            for score, values in zip(new, found, strict=True):
                values.append(score.resample(weights))
        for score, values in zip(new, found, strict=True):
            score.drawn[key] = np.concatenate(values)
    return [score.drawn[key] for score in scores]


def same_images(reference: Score, candidate: Score) -> None:
    if (reference.metric, reference.images) != (candidate.metric, candidate.images):
        words = [f"{s.metric} of {counted(s.images, 'image')}" for s in (reference, candidate)]
        raise BadInput(f"difference: {words[0]} against {words[1]}; both must be measured on the same images")


def words_of(shape: Sequence[object]) -> str:
    """`(N, 3)`: an open size is N, whatever it is called."""
    return f"({', '.join(str(size) if isinstance(size, int) else 'N' for size in shape)})"


def mean_of_known(values: Array) -> Array:
    """Mean over the last axis without the NaNs; NaN where there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0).sum(axis=-1)
    return np.asarray(np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0))


# ---------------------------------------------------------------------------------------------- shares of right answers
def paired(reference: Score, candidate: Score) -> Difference:
    """The difference of two shares of right answers, with Tango's interval for as many images as they are worth."""
    same_images(reference, candidate)
    ours, theirs, images = reference.per_sample > 0.5, candidate.per_sample > 0.5, reference.images
    b, c = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if reference.groups is None:
        return paired_shares(b, c, images)
    different = worth(reference.groups, images)
    found = paired_shares(b * different / images, c * different / images, different)
    return replace(found, value=(b - c) / images)


def paired_shares(only_reference: float, only_candidate: float, images: float) -> Difference:
    """Tango's interval for (only_reference - only_candidate) / images, the difference of two shares of right answers.

    >>> d = paired_shares(0, 0, 30)
    >>> round(d.low, 3), round(d.high, 3)
    (-0.114, 0.114)
    """
    value = (only_reference - only_candidate) / images

    def statistic(guess: float) -> float:
        return score_statistic(only_reference, only_candidate, images, guess)

    low = _root(lambda d: statistic(d) - Z, -1.0, value)
    high = _root(lambda d: statistic(d) + Z, value, 1.0)
    return Difference(value, low, high, "paired score interval (Tango 1998), 95 %")


def score_statistic(b: float, c: float, n: float, guess: float) -> float:
    """How many standard deviations b - c lies above what a difference of `guess` makes us expect."""
    first = -b - c + (2 * n - b + c) * guess
    root = math.sqrt(max(first * first + 8 * n * c * guess * (1 - guess), 0.0))
    likeliest = (root - first) / (4 * n)
    variance = n * (2 * likeliest + guess * (1 - guess))
    apart = b - c - n * guess
    if variance <= 0:
        return math.copysign(math.inf, apart) if apart else 0.0
    return apart / math.sqrt(variance)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses 0 between `low` and `high`; 60 halvings are beyond float64."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def upper_bound(changed: int, images: int, confidence: float = CONFIDENCE) -> float:
    """The largest share of changed answers that `changed` of `images` leave possible.

    >>> round(upper_bound(0, 30), 3), round(upper_bound(3, 100), 3), upper_bound(5, 5)
    (0.095, 0.076, 1.0)
    """
    if changed >= images:
        return 1.0
    low, high = changed / images, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(changed, images, middle) > 1 - confidence else (low, middle)
    return high


def at_most(k: int, n: int, p: float) -> float:
    """P(X <= k) of a binomial (n, p), 0 < p < 1.

    >>> round(at_most(2, 3, 0.5), 3), at_most(-1, 3, 0.5)
    (0.875, 0.0)
    """
    whole = math.lgamma(n + 1)
    terms = (
        whole - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))


# ---------------------------------------------------------------------------------------------------- asking a network
def answers(runner: Runner, feeds: Iterable[Tensors], names: Sequence[str]) -> Iterator[tuple[Array, ...]]:
    """The outputs called `names` for each batch, in that order; found by place where the network calls them otherwise.

    Raises `BadInput` when there are fewer of them.
    """
    for feed in feeds:
        found = runner(feed)
        if not set(names) <= set(found):
            if len(found) < len(names):
                have = counted(len(found), "output")
                raise BadInput(f"model: has {have}, {', '.join(names)} are needed; evaluate it as another task")
            found = dict(zip(names, found.values(), strict=False))
        yield tuple(np.asarray(found[name]) for name in names)


def rows(feed: Tensors) -> int:
    """Images in a batch."""
    return len(next(iter(feed.values())))


def not_finite(truth: Array, ids: Sequence[str]) -> str:
    """The first of the images `ids` whose row of `truth` has NaN or infinity; empty for none."""
    if truth.dtype.kind != "f" or np.isfinite(truth).all():
        return ""
    return ids[int(np.argwhere(~np.isfinite(truth))[0][0])]
