"""Labels that do not exclude each other: mean average precision over labels, mAP.

    images by the score of a label, best first; equal scores are one step
    P_k = right among the images down to step k / all of them        R_k = right down to step k / all that have it
    AP  = sum over k of (R_k - R_(k-1)) P_k                           mAP = mean over labels that any image has

An answer is (N, labels), logits or behind a Sigmoid, which ranks images alike; `truth` is 0 or 1, (N, labels). NaN or
infinity is wrong: it ranks an image that has the label last, and one that has it not first. A network says a label of
an image where its score is over zero (behind a Sigmoid: over one half, which `as_task` in evaluation/task_answers.py
moves to zero); without labels what one network says is the truth for the other. No score of one image alone: there a
label that it has is always first.
Source: Manning et al. 2008, "Introduction to Information Retrieval", section 8.4; oracle: scikit-learn's
`average_precision_score`. Test: tests/test_task_multi_label.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecnn.data.moves import flip_images, flips, shift_images, shifts
from edgecnn.data.samples import Samples
from edgecnn.evaluation import scores
from edgecnn.evaluation.scores import Agreement, Difference, Score, mean_of_known, words_of
from runtimes.base import Array, BadInput, Runner, Tensors, Track, counted, silent

if TYPE_CHECKING:
    import torch
    from torch import nn

METRIC = "mAP"
RATE = 1.0
SMOOTHED = True
OUTPUTS = ("logits",)
WANTED = (
    "give a labels.csv beside the pictures (a header, then file and 0 or 1 for each label), or y of 0 and 1 in an .npz"
)
MOVES = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Clone", "Alias", "Slice", "Upsample")
"""What autograd calls operations that leave numbers as they are, or are between them."""
SIGMOIDS = ("SigmoidBackward", "HardsigmoidBackward")


def has_answers(samples: Samples) -> bool:
    return not why_not(samples)


def why_not(samples: Samples, shape: Sequence[object] = ()) -> str:
    """Why the rows of `samples.truth` are no labels for an answer of `shape`; empty where they are."""
    y = samples.truth
    if y is None:
        return "there is no y"
    if y.ndim != 2 or y.dtype.kind not in "biuf":
        return f"y is {y.dtype} {list(y.shape)}; multi-label needs (images, labels) of 0 and 1"
    odd = np.argwhere((y != 0) & (y != 1))
    if len(odd):
        i, j = (int(place) for place in odd[0])
        return f"y is {y[i, j]:g} for label {name_of(samples, j)} of {samples.ids[i]}; multi-label needs 0 or 1"
    if len(shape) and (len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != y.shape[1])):
        return f"y has {counted(y.shape[1], 'label')}, the network answers {words_of(shape)}"
    return ""


def name_of(samples: Samples, place: int) -> str:
    return samples.class_names[place] if place < len(samples.class_names) else str(place)


def score(runner: Runner, samples: Samples, input_name: str, batch: int = 32, track: Track = silent) -> Score:
    """mAP of `runner` on `samples` with labels; `details`: `ap` by label (None: no image has it)."""
    if samples.truth is None:
        raise BadInput(f"{samples.name}: has no labels; {WANTED}")
    require(samples)
    found = [a for (a,) in scores.answers(runner, track(samples.feeds(input_name, batch), "evaluating"), OUTPUTS)]
    odd = why_not(samples, ("N", *found[0].shape[1:]))
    if odd:
        raise BadInput(f"{samples.name}: {odd}")
    has = samples.truth.astype(bool)
    ranked = [Ranked(s, h) for s, h in zip(np.concatenate(found).T, has.T, strict=True) if h.any()]

    def precisions(weights: Array) -> Array:
        images = by_image(weights)
        return np.stack([label.precise(images) for label in ranked], axis=-1)

    by_label = iter(precisions(np.ones((1, len(has))))[0])
    ap = {name_of(samples, j): float(next(by_label)) if h.any() else None for j, h in enumerate(has.T)}
    value = float(np.mean([v for v in ap.values() if v is not None]))
    alone = np.where(has.any(axis=1), 1.0, np.nan)  # the first of one is always right
    return Score(METRIC, value, len(has), {"ap": ap}, lambda w: mean_of_known(precisions(w)), each=alone)


def require(samples: Samples) -> None:
    """Raise `BadInput` for rows that are no labels, and where no image has any."""
    odd = why_not(samples)
    if not odd and samples.truth is not None and not samples.truth.any():
        odd = "none of its images has a label; nothing can be found in it"
    if odd:
        raise BadInput(f"{samples.name}: {odd}")


class Ranked:
    """One label over all images: `score` (N,) puts them in order, bool `has` (N,) says which have it."""

    def __init__(self, score: Array, has: Array) -> None:
        wrong = np.where(has, -np.inf, np.inf)
        value = np.where(np.isfinite(score), score.astype(np.float64), wrong)
        self.order = np.argsort(-value, kind="stable")
        value, self.has = value[self.order], has[self.order]
        steps = np.append(value[1:] != value[:-1], True)
        ends = np.flatnonzero(steps)
        self.end = ends[np.searchsorted(ends, np.flatnonzero(self.has))]
        """For each image that has the label the last one of its step."""
        self.owned = np.cumsum(self.has)[self.end] - 1
        """The last one of its step that has the label, counted among those that have it."""

    def precision(self, weights: Array) -> Array:
        """Average precision (R,) where image i counts weights[:, i] times, (R, N); NaN where none has the label."""
        return self.precise(by_image(weights))

    def precise(self, weights: Array) -> Array:
        """The same of float64 weights (N, R), in which images are rows that lie together in memory."""
        each = weights[self.order]
        own = each[self.has]
        total = own.sum(axis=0)
        right = np.cumsum(own, axis=0)[self.owned]
        seen = np.cumsum(each, axis=0)[self.end]
        precise = right / np.maximum(seen, np.finfo(np.float64).tiny)
        return np.asarray(
            np.divide((own * precise).sum(axis=0), total, out=np.full(len(total), np.nan), where=total > 0)
        )


def by_image(weights: Array) -> Array:
    """float64 (N, R) of weights (R, N)."""
    return np.ascontiguousarray(weights.T, np.float64)


def drop(reference: Score, candidate: Score, seed: int = 0, track: Track = silent) -> Difference:
    """mAP lost by `candidate`, with the bootstrap interval over images."""
    return scores.bootstrap(reference, candidate, seed, track=track)


def agreement(reference: Runner, candidate: Runner, feeds: Sequence[Tensors], track: Track = silent) -> Agreement:
    """How well `candidate` finds the labels that `reference` says, as average precision over all labels of all images
    together; and the share of labels, of all of them, on which they differ. NaN and infinity agree with nothing.

    Of rare labels a network that says none of them has most labels alike, and finds nothing. Where `reference` says
    none, the share of labels alike is all that there is.
    """
    ours, theirs = [], []
    for feed in track(feeds, "comparing"):
        ((a,),) = scores.answers(reference, [feed], OUTPUTS)
        ((b,),) = scores.answers(candidate, [feed], OUTPUTS)
        if a.shape != b.shape:
            raise BadInput(f"output: is {list(a.shape)} against {list(b.shape)}; labels of one number are needed")
        ours.append(a)
        theirs.append(b)
    first, second = np.concatenate(ours), np.concatenate(theirs)
    says = (first > 0) & np.isfinite(first)
    changed = 1 - float((np.isfinite(first) & np.isfinite(second) & (says == (second > 0))).mean())
    if not says.any():
        return Agreement(1 - changed, len(first), changed)
    found = Ranked(second.ravel(), says.ravel()).precision(np.ones((1, says.size)))
    return Agreement(float(found[0]), len(first), changed)


# ------------------------------------------------------------------------------------------------------------- learning
def answers(samples: Samples, picked: Array) -> Array:
    assert samples.truth is not None
    return samples.truth[picked].astype(np.float32)


def augment(images: Array, labels: Array, order: np.random.Generator, flip: bool) -> tuple[Array, Array]:
    """Images moved by up to 1/16 of their size and, where `flip` allows, half of them mirrored."""
    images = shift_images(images, *shifts(images.shape, order))
    return (flip_images(images, flips(len(images), order)) if flip else images), labels


def loss(module: nn.Module, images: torch.Tensor, labels: Array, smoothing: float) -> torch.Tensor:
    """Binary cross-entropy, the mean over labels, of logits or of what comes out of a Sigmoid.

    `smoothing` moves that share of every label halfway between 0 and 1. Logarithms of probabilities end at -100.
    """
    import torch
    from torch.nn import functional

    wanted = torch.from_numpy(labels) * (1 - smoothing) + smoothing / 2
    answer = module(images)
    if ends_in_sigmoid(answer):
        return functional.binary_cross_entropy(answer, wanted)
    return functional.binary_cross_entropy_with_logits(answer, wanted)


def ends_in_sigmoid(answer: torch.Tensor) -> bool:
    """Whether the last operation that made the numbers of `answer` is a Sigmoid, as autograd has recorded it."""
    made = answer.grad_fn
    while made is not None and made.name().startswith(MOVES):
        made = made.next_functions[0][0]
    return made is not None and made.name().startswith(SIGMOIDS)
