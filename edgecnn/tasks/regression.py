"""Numbers: the coefficient of determination R^2, with the mean absolute error beside it.

    R^2_k = 1 - sum_i (y_ik - f_ik)^2 / sum_i (y_ik - mean_k)^2          R^2 = mean over the numbers k that vary
    mean absolute error of k = mean over images of |y_ik - f_ik|, in the unit of k

1 is perfect, 0 as good as always saying the mean. `truth` (N, ...) has the shape of the answer; one number an image
may be (N,) on one side and (N, 1) on the other. NaN or infinity in an answer is wrong by the whole range of y. A number
that is the same on all images has no R^2 and is left out. R^2 is no mean over images: of one alone there is none.
Source: Wright 1921, "Correlation and causation"; oracle: scikit-learn's `r2_score` ("uniform_average").
Test: tests/test_task_regression.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgecnn.data.moves import flip_images, flips
from edgecnn.data.samples import Samples
from edgecnn.evaluation import scores
from edgecnn.evaluation.scores import Difference, Score, mean_of_known, words_of
from runtimes.base import Array, BadInput, Runner, Tensors, Track, silent

if TYPE_CHECKING:
    import torch
    from torch import nn

METRIC = "R^2"
RATE = 0.1
SMOOTHED = False
OUTPUTS = ("numbers",)
WANTED = "give a labels.csv beside the pictures (a header, then file and numbers), or y of numbers in an .npz"
MOST_NAMED = 64
"""Numbers of an answer that have an R^2 and an error each in the report."""
MOST_MEASURED = 1 << 20
"""Numbers of the data from which their spread is taken."""


def has_answers(samples: Samples) -> bool:
    return not why_not(samples)


def why_not(samples: Samples, shape: Sequence[object] = ()) -> str:
    """Why the rows of `samples.truth` are no numbers for an answer of `shape`; empty where they are."""
    y = samples.truth
    if y is None:
        return "there is no y"
    if y.dtype.kind not in "fiu":
        return f"y is {y.dtype} {list(y.shape)}; regression needs numbers"
    if odd := scores.not_finite(y, samples.ids):
        return f"y is NaN or infinite for {odd}; mend it, or leave it out"
    if len(shape) and not same_shape(shape, y.shape):
        return f"y is {list(y.shape)}, the network answers {words_of(shape)}"
    return ""


def same_shape(answer: Sequence[object], y: Sequence[int]) -> bool:
    """Whether an answer of shape `answer`, where open sizes are no whole numbers, has a place for each number of y.

    >>> same_shape(("N", 1), (8,)), same_shape(("N",), (8, 1)), same_shape(("N", 2), (8, 1))
    (True, True, False)
    """
    ours, theirs = list(answer[1:]) or [1], list(y[1:]) or [1]
    fits = (not isinstance(a, int) or a == b for a, b in zip(ours, theirs, strict=False))
    return len(ours) == len(theirs) and all(fits)


def score(runner: Runner, samples: Samples, input_name: str, batch: int = 32, track: Track = silent) -> Score:
    """R^2 of `runner` on `samples` with numbers; `details`: `mean_absolute_error` over all, and where they are few `r2`
    (None: the same on all images) and `mean_absolute_errors` of each, which may have another unit.
    """
    if samples.truth is None:
        raise BadInput(f"{samples.name}: has no numbers; {WANTED}")
    require(samples)
    found = [a for (a,) in scores.answers(runner, track(samples.feeds(input_name, batch), "evaluating"), OUTPUTS)]
    odd = why_not(samples, ("N", *found[0].shape[1:]))
    if odd:
        raise BadInput(f"{samples.name}: {odd}")
    count = len(samples)
    y = samples.truth.reshape(count, -1).astype(np.float64)
    error = np.abs(y - np.concatenate(found).reshape(count, -1))
    error = np.where(np.isfinite(error), error, np.ptp(y, axis=0))
    y = y - y.mean(axis=0)  # small numbers keep their digits when they are squared
    vary = varies(samples.truth)
    spread, lost = y[:, vary], error[:, vary] ** 2
    squares = spread**2

    def resample(weights: Array) -> Array:
        weights = weights.astype(np.float64)  # of whole numbers the products would be ten times as slow
        total, square = weights.sum(axis=1, keepdims=True), weights @ squares
        around = square - (weights @ spread) ** 2 / total
        known = around > TINY * square
        each = 1 - np.divide(weights @ lost, around, out=np.full(around.shape, np.nan), where=known)
        return mean_of_known(each)

    each = np.full(y.shape[1], np.nan)
    each[vary] = 1 - lost.sum(axis=0) / (spread**2).sum(axis=0)
    details: dict[str, Any] = {"mean_absolute_error": float(error.mean())}
    details |= by_number(samples, r2=each, mean_absolute_errors=error.mean(axis=0))
    return Score(METRIC, float(np.nanmean(each)), count, details, resample, each=np.full(count, np.nan))


TINY = 1e-12
"""Share of a sum of squares that is rounding, where all images drawn are the same."""


def by_number(samples: Samples, **found: Array) -> dict[str, Any]:
    """Each of `found` (K,) by the names of the numbers; empty for one number, which needs none, and for many."""
    count = len(next(iter(found.values())))
    if not 1 < count <= MOST_NAMED:
        return {}
    names = samples.class_names if len(samples.class_names) == count else tuple(map(str, range(count)))
    return {
        key: {name: None if np.isnan(v) else float(v) for name, v in zip(names, each, strict=True)}
        for key, each in found.items()
    }


def varies(y: Array) -> Array:
    """bool (K,): which of the numbers in y (N, ...) are not the same on all images."""
    flat = y.reshape(len(y), -1)
    return np.asarray(flat.max(axis=0) > flat.min(axis=0))


def require(samples: Samples) -> None:
    """Raise `BadInput` for rows that are no numbers, and for numbers that are the same on all images."""
    odd = why_not(samples)
    if not odd and samples.truth is not None and not varies(samples.truth).any():
        odd = "y is the same on all images, and a constant has no R^2; give images that differ in it"
    if odd:
        raise BadInput(f"{samples.name}: {odd}")


def drop(reference: Score, candidate: Score, seed: int = 0, track: Track = silent) -> Difference:
    """R^2 lost by `candidate`, with the bootstrap interval over images."""
    return scores.bootstrap(reference, candidate, seed, track=track)


def agreement(reference: Runner, candidate: Runner, feeds: Sequence[Tensors], track: Track = silent) -> None:
    """None: two numbers are near each other or not, which the SNR says."""


# ------------------------------------------------------------------------------------------------------------- learning
class Wanted(NamedTuple):
    """What is to be learned: `values` (n, ...), and the `spread` of each number, its standard deviation in the data."""

    values: Array
    spread: Array


def answers(samples: Samples, picked: Array) -> Wanted:
    assert samples.truth is not None
    return Wanted(samples.truth[picked].astype(np.float32), spread_of(samples.truth)[1])


def spread_of(y: Array) -> tuple[Array, Array]:
    """(mean, standard deviation) of each number in y (N, ...), float32; 1 for a number that is always the same."""
    some = y[:: max(1, y.size // MOST_MEASURED)].astype(np.float64)
    deviation = some.std(axis=0)
    return some.mean(axis=0).astype(np.float32), np.where(deviation > 0, deviation, 1.0).astype(np.float32)


def augment(images: Array, wanted: Wanted, order: np.random.Generator, flip: bool) -> tuple[Array, Wanted]:
    """Images as they are: a number may be a place in the picture. Half of them mirrored where `flip` allows it."""
    return (flip_images(images, flips(len(images), order)) if flip else images), wanted


def loss(module: nn.Module, images: torch.Tensor, wanted: Wanted, smoothing: float) -> torch.Tensor:
    """Mean squared error, in standard deviations of each number, whatever its unit; nothing is smoothed."""
    import torch

    values, spread = torch.from_numpy(wanted.values), torch.from_numpy(np.asarray(wanted.spread))
    answer = module(images)
    result: torch.Tensor = (((answer.reshape(values.shape) - values) / spread) ** 2).mean()
    return result
