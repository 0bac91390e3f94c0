"""A point for each image, near those of the same identity (faces, places, products): retrieval, mean average precision.

    sim(i, j)  =  e_i . e_j / (|e_i| |e_j|)                        cosine similarity
    AP_i       =  average precision with which sim(i, .) puts the other images in order: those of i's identity first
    mAP        =  mean of AP_i over the images that have another of their identity
    rank 1     =  share of these whose nearest other image is of their own identity
    accepts    =  share of the pairs of one identity that are nearer than all but 0.1 % of the pairs of two

An answer is (N, K), of any length; an identity is a class of the data, by folder or by `y`, of which the network need
not have seen any. An image that is alone of its identity is a stranger to the others, and is not counted itself. Equal
similarities are one step, and not nearest; NaN or infinity finds nothing. mAP decides, for rank 1 hardly sees noise:
int8 with a cosine of 0.82 to float loses 2 points of it and 8 of mAP. Without labels two networks are compared as rows
of numbers (runtimes/comparing/row_noise.py). Not trained here: such networks learn with a layer behind them that is not
shipped.
Source: Zheng et al. 2015, "Scalable Person Re-identification: A Benchmark"; oracle: scikit-learn's
`average_precision_score`. Test: tests/test_task_embedding.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecnn.data.samples import Samples
from edgecnn.evaluation import scores
from edgecnn.evaluation.scores import Difference, Score
from runtimes.base import Array, BadInput, Runner, Tensors, Track, silent

METRIC = "retrieval mAP"
OUTPUTS = ("embedding",)
WANTED = "put the images of each identity into a class folder, or give y of whole numbers in an .npz"
FALSE_ACCEPTS = 1e-3
"""Of the pairs of two identities."""
BINS = 20_000
"""Of similarities from -1 to 1, by which pairs are counted."""


def has_answers(samples: Samples) -> bool:
    return not why_not(samples)


def why_not(samples: Samples, shape: Sequence[object] = ()) -> str:
    """Why `samples` tell no identities for answers of `shape`; empty where they do."""
    who = samples.labels if samples.truth is None else samples.truth
    if who is None:
        return "there are no classes and no y"
    if who.dtype.kind not in "biu" or who.size != len(samples):
        return f"y is {who.dtype} {list(who.shape)}; an embedding needs one whole number for each image"
    counts = np.unique(who, return_counts=True)[1]
    if len(counts) < 2 or counts.max() < 2:
        return "two identities, and two images of one of them, are the least that can be told apart"
    return f"each answer is {scores.words_of(shape)}, not (N, K)" if len(shape) and len(shape) != 2 else ""


def identities(samples: Samples) -> Array:
    """int (N,): who is in each image; raises `BadInput` where nobody says."""
    odd = why_not(samples)
    who = samples.labels if samples.truth is None else samples.truth
    if odd or who is None:
        raise BadInput(f"{samples.name}: {odd}; {WANTED}")
    return np.asarray(np.unique(who, return_inverse=True)[1]).reshape(-1)


def score(runner: Runner, samples: Samples, input_name: str, batch: int = 32, track: Track = silent) -> Score:
    """mAP of `runner` on `samples`; `details`: `rank_1`, and `true_accepts` at one false accept of 1,000."""
    who = identities(samples)
    found = [a for (a,) in scores.answers(runner, track(samples.feeds(input_name, batch), "evaluating"), OUTPUTS)]
    answers = np.concatenate(found)
    odd = why_not(samples, ("N", *answers.shape[1:]))
    if odd:
        raise BadInput(f"{samples.name}: {odd}")
    rows, counts = unit(answers), np.bincount(who)[who] > 1
    precisions, nearest, accepts = compared(rows, who)
    each = np.where(rows.any(axis=1), precisions, 0.0)

    def resample(weights: Array) -> Array:
        weights = weights[:, counts].astype(np.float64)
        total = weights.sum(axis=1)
        return np.asarray(np.divide(weights @ each[counts], total, out=np.full(len(total), np.nan), where=total > 0))

    details = {"rank_1": float(nearest[counts].mean()), "true_accepts": accepts}
    value = float(each[counts].mean())
    return Score(METRIC, value, len(who), details, resample, each=np.where(counts, each, np.nan))


def unit(answers: Array) -> Array:
    """float64 (N, K): rows of length 1; all 0 where a row has no direction."""
    rows = answers.astype(np.float64)
    rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))


def compared(rows: Array, who: Array) -> tuple[Array, Array, float]:
    """(AP (N,), 0 for an image alone; bool (N,): whether the nearest other is of the same identity; share of true
    accepts) of unit `rows` (N, K) of `who` (N,).
    """
    precisions, nearest = np.zeros(len(rows)), np.zeros(len(rows), bool)
    pairs = np.zeros((2, BINS), np.int64)  # of two identities, of one
    for i, row in enumerate(rows):
        others = np.arange(len(rows)) != i
        sim, same = (rows @ row)[others], (who == who[i])[others]
        place = np.clip(((sim + 1) / 2 * BINS).astype(int), 0, BINS - 1)
        for kind, mask in enumerate((~same, same)):
            pairs[kind] += np.bincount(place[mask], minlength=BINS)
        if same.any():
            precisions[i] = average_precision(sim, same)
            nearest[i] = sim[same].max() > sim[~same].max(initial=-np.inf)
    nearer = np.cumsum(pairs[:, ::-1], axis=1)  # pairs at least as near as each bin, the nearest first
    allowed = int(np.count_nonzero(nearer[0] <= FALSE_ACCEPTS * nearer[0, -1]))
    return precisions, nearest, float(nearer[1, allowed - 1] / nearer[1, -1]) if allowed else 0.0


def average_precision(sim: Array, same: Array) -> float:
    """Of `same`, bool (N,), of which one at least is True, in the order of `sim` (N,), the largest first.

    >>> average_precision(np.array([0.9, 0.5, 0.1]), np.array([True, False, True]))
    0.8333333333333333
    """
    order = np.argsort(-sim, kind="stable")
    sim, found = sim[order], np.cumsum(same[order])
    ends = np.append(np.flatnonzero(sim[1:] != sim[:-1]), len(sim) - 1)  # of each step of equal similarities
    return float((found[ends] / (ends + 1) * np.diff(found[ends], prepend=0)).sum() / found[-1])


def drop(reference: Score, candidate: Score, seed: int = 0, track: Track = silent) -> Difference:
    """mAP lost by `candidate`, with the bootstrap interval over images."""
    return scores.bootstrap(reference, candidate, seed, track=track)


def agreement(reference: Runner, candidate: Runner, feeds: Sequence[Tensors], track: Track = silent) -> None:
    """None: which of many images of one identity is nearest says nothing; rows of numbers are compared."""
