"""One score instead of two: the answer of a network that tells two classes apart by a single number, as two scores.

    a logit s                   ->  (0, s)         class 1 where s > 0          softmax gives sigmoid(s)
    behind a Sigmoid, p         ->  (1 - p, p)     class 1 where p > 0.5

(N,) and (N, 1) become (N, 2), one score a pixel (N, 1, H, W) becomes (N, 2, H, W), (N, H, W, 1) becomes (N, H, W, 2):
whoever then takes the largest score asks for the sign of the logit. Whole numbers are classes and stay; NaN stays NaN.
Test: tests/test_two_classes.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtimes.base import Array, Runner, Tensors

LOGITS = "logits"


def as_two(scores: Array, sigmoid: bool) -> Array:
    """Scores of both classes, where its axis of 1 is, for an answer of one; any other answer as it is.

    >>> as_two(np.float32([[-1.5]]), sigmoid=False)
    array([[ 0. , -1.5]], dtype=float32)
    """
    if not is_single(scores.shape) or scores.dtype.kind != "f":
        return scores
    one = scores[:, None] if scores.ndim == 1 else scores
    other = 1 - one if sigmoid else np.zeros_like(one)
    return np.concatenate([other, one], axis=1 if one.shape[1] == 1 else -1)


def is_single(shape: Sequence[object]) -> bool:
    """Whether an answer of `shape` is one score, or one a pixel."""
    return len(shape) == 1 or (len(shape) in (2, 4) and 1 in (shape[1], shape[-1]))


def is_one_score(shape: Sequence[object]) -> bool:
    """Whether an answer of `shape` is one score for each image."""
    return len(shape) < 4 and is_single(shape)


def class_count(shape: Sequence[object]) -> int | None:
    """How many classes an answer of `shape` tells apart; None where that is open.

    >>> class_count(("N", 10)), class_count(("N", 1)), class_count(("N",)), class_count(())
    (10, 2, 2, None)
    """
    if is_single(shape):
        return 2
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None


def two_classes(runner: Runner, sigmoid: bool) -> Runner:
    """`runner`, whose output `logits` (else its first) is read as the scores of two classes where it is one score."""

    def run(feeds: Tensors) -> Tensors:
        found = dict(runner(feeds))
        name = LOGITS if LOGITS in found else next(iter(found), None)
        if name is not None:
            found[name] = as_two(np.asarray(found[name]), sigmoid)
        return found

    return run
