"""One class for each image: top-1 accuracy.

    top-1 = (number of images whose largest output is at their label) / (number of images)

The classes are the second axis of `logits` (N, classes). NaN or infinity in an answer is a wrong answer, and so is a
tie that the label does not win alone (a network that says nothing gets no points). top-5: at most four outputs are as
large as the label's or larger; given where there are more than five classes. Test: tests/test_task_classification.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.data.moves import flip_images, flips, shift_images, shifts
from edgecnn.data.samples import Samples
from edgecnn.evaluation import scores
from edgecnn.evaluation.scores import Agreement, Difference, Score
from runtimes.base import Array, BadInput, Runner, Tensors, Track, silent

if TYPE_CHECKING:
    import torch
    from torch import nn

METRIC = "top-1"
RATE = 1.0
SMOOTHED = True
OUTPUTS = ("logits",)
WANTED = "put the images into class folders, or give y in an .npz"


def has_answers(samples: Samples) -> bool:
    return samples.labels is not None


def score(runner: Runner, samples: Samples, input_name: str, batch: int = 32, track: Track = silent) -> Score:
    """Top-1 of `runner` on labelled `samples`; `details` has top-5 where there are more than five classes."""
    if samples.labels is None:
        raise BadInput(f"{samples.name}: has no labels; {WANTED}")
    ranks, classes = ranks_of(runner, samples, track(samples.feeds(input_name, batch), "evaluating"))
    right = ranks == 1
    details = {"top5": float((ranks <= 5).mean())} if classes > 5 else {}

    def resample(weights: Array) -> Array:
        return np.asarray(weights.astype(np.float64) @ right / weights.sum(axis=1))

    return Score(METRIC, float(right.mean()), len(right), details, resample, each=right)


def ranks_of(runner: Runner, samples: Samples, feeds: Any) -> tuple[Array, int]:
    """(int (N,): how many outputs are at least as large as the label's, number of classes)."""
    assert samples.labels is not None
    found: list[Array] = []
    seen = classes = 0
    for (logits,) in scores.answers(runner, feeds, OUTPUTS):
        if logits.ndim != 2:
            raise BadInput(f"output: has shape {list(logits.shape)}; top-1 needs (images, classes)")
        labels, classes = samples.labels[seen : seen + len(logits)], logits.shape[1]
        if not 0 <= labels.min() <= labels.max() < classes:
            raise BadInput(
                f"{samples.name}: class {labels.max()} is unknown to a network with {classes}; check the data"
            )
        found.append(ranks(logits, labels))
        seen += len(logits)
    return np.concatenate(found), classes


def ranks(logits: Array, labels: Array) -> Array:
    """int (N,): 1 where the largest of logits (N, classes) is at the label, and there alone; no rank for NaN or Inf."""
    at_label = np.take_along_axis(logits, labels[:, None], axis=1)
    others = (logits >= at_label).sum(axis=1)
    return np.asarray(np.where(np.isfinite(logits).all(axis=1), others, logits.shape[1] + 5))


def drop(reference: Score, candidate: Score, seed: int = 0, track: Track = silent) -> Difference:
    """Top-1 lost by `candidate`, with the paired score interval (no random numbers: `seed` is not used)."""
    return scores.paired(reference, candidate)


def agreement(reference: Runner, candidate: Runner, feeds: Sequence[Tensors], track: Track = silent) -> Agreement:
    """Share of images with the same largest output; NaN and infinity agree with nothing."""
    same = images = 0
    for feed in track(feeds, "comparing"):
        ((a,),) = scores.answers(reference, [feed], OUTPUTS)
        ((b,),) = scores.answers(candidate, [feed], OUTPUTS)
        finite = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
        same += int((finite & (a.argmax(1) == b.argmax(1))).sum())
        images += len(a)
    return Agreement(same / images, images)


# ------------------------------------------------------------------------------------------------------------- learning
def answers(samples: Samples, picked: Array) -> Array:
    assert samples.labels is not None
    return samples.labels[picked]


def augment(images: Array, labels: Array, order: np.random.Generator, flip: bool) -> tuple[Array, Array]:
    """Images moved by up to 1/16 of their size and, where `flip` allows, half of them mirrored."""
    images = shift_images(images, *shifts(images.shape, order))
    return (flip_images(images, flips(len(images), order)) if flip else images), labels


def loss(module: nn.Module, images: torch.Tensor, labels: Array, smoothing: float) -> torch.Tensor:
    """Cross-entropy; `smoothing` moves that share of every label to all classes alike (Szegedy et al. 2016)."""
    import torch
    from torch.nn import functional

    return functional.cross_entropy(module(images), torch.from_numpy(labels), label_smoothing=smoothing)
