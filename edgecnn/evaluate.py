"""How often a network is right: top-1 accuracy of anything that maps tensors to tensors, in numpy.

    top-1 = (number of images whose largest output is at their label) / (number of images)

The classes are the last axis of the first output. NaN or infinity in an answer is a wrong answer, and so is a tie that
the label does not win alone (a network that says nothing gets no points). Test: tests/test_evaluate.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edgecnn.samples import Samples
from runtimes.base import Array, BadInput, Runner, Tensors


def correct(logits: Array, labels: Array) -> Array:
    """bool (N,): the largest of logits (N, classes) is finite, at the label, and there alone."""
    at_label = np.take_along_axis(logits, labels[:, None], axis=1)
    others = (logits >= at_label).sum(axis=1)
    return np.asarray(np.isfinite(logits).all(axis=1) & (others == 1))


def accuracy(runner: Runner, feeds: Iterable[Tensors], labels: Sequence[int] | Array) -> float:
    """Top-1 of `runner` on batches whose images have `labels`, in order; raises `BadInput` when they do not fit."""
    wanted, right, seen = np.asarray(labels, np.int64), 0, 0
    for feed in feeds:
        logits = np.asarray(next(iter(runner(feed).values())))
        if logits.ndim != 2:
            raise BadInput(f"output: has shape {list(logits.shape)}; top-1 needs (images, classes)")
        part = wanted[seen : seen + len(logits)]
        if len(part) < len(logits):
            raise BadInput(f"labels: {len(wanted)} for at least {seen + len(logits)} images; give one for each")
        if part.size and not 0 <= part.min() <= part.max() < logits.shape[1]:
            raise BadInput(f"labels: {part.max()} is no class of a network with {logits.shape[1]}; check the data")
        right, seen = right + int(correct(logits, part).sum()), seen + len(logits)
    if seen == 0 or seen != len(wanted):
        raise BadInput(f"labels: {len(wanted)} for {seen} images; give one for each")
    return right / seen


def evaluate(runner: Runner, samples: Samples, input_name: str, batch: int = 32) -> float:
    """Top-1 of `runner` on labelled `samples`."""
    if samples.labels is None:
        raise BadInput(f"{samples.name}: has no labels; put the images into class folders, or give y in an .npz")
    return accuracy(runner, samples.feeds(input_name, batch), samples.labels)
