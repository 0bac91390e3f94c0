"""The float graph's answers to the images that judge: remembered for the next graph, and whether they differ at all.

Test: tests/test_choose.py, tests/test_unlabelled.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecnn import tasks
from edgecnn.choosing.trial import Trial
from edgecnn.evaluation.overlap import LEAST, MANY
from edgecnn.tasks import detection
from edgecnn.tasks.segmentation import seen_in
from runtimes.base import Array, Runner, Tensors, counted
from runtimes.execution.feeds import digest
from runtimes.imaging.maps import NONE, classes_of, is_map, is_whole

MEMORY_BYTES = 128 * 2**20
"""Of answers that are kept."""
FEW = 8
"""Images that may well be of one class."""


class Remembering:
    """A runner that answers the same inputs again from memory, as long as all its answers fit into `limit_bytes`."""

    def __init__(self, runner: Runner, limit_bytes: int = MEMORY_BYTES) -> None:
        self.runner, self.left = runner, limit_bytes
        self.answers: dict[bytes, Tensors] = {}

    def __call__(self, feeds: Tensors) -> Tensors:
        key = digest(feeds)
        known = self.answers.get(key)
        if known is not None:
            return known
        found = self.runner(feeds)
        size = sum(value.nbytes for value in found.values())
        if size <= self.left:
            self.left -= size
            self.answers[key] = found
        return found

    def close(self) -> None:
        self.runner, self.answers = _closed, {}


def _closed(feeds: Tensors) -> Tensors:
    raise AssertionError("the judge was closed")


def alike(float_runner: Runner, trial: Trial) -> str:
    """What the float graph answers to all images of the `trial` alike, so that without labels nothing is proven; empty
    where its answers differ.
    """
    count, feeds = len(trial.samples), trial.samples.feeds(trial.input_name, 1)
    if trial.task == "detection":
        found = (detection.detect(float_runner, feed) for feed in feeds)
        if any((boxes.scores >= detection.SURE).any() for of_feed in found for boxes in of_feed):
            return ""
        return f"scores no box {detection.SURE:g} or more on {_judging(count, 'any')}"
    if trial.task == "segmentation":
        return _one_class(feeds, float_runner)
    if trial.task == tasks.MULTI_LABEL:
        return _no_label(feeds, float_runner)
    if trial.task != "classification" or count < FEW:
        return ""
    seen: set[int] = set()
    for feed in feeds:
        scores = next(iter(float_runner(feed).values()))
        if scores.ndim != 2:
            return ""
        seen |= {*scores.argmax(axis=1).tolist()}
        if len(seen) > 1:
            return ""
    return f"answers class {seen.pop()} on {_judging(count, 'all')}"


def _judging(count: int, which: str) -> str:
    return "the image that judges it" if count == 1 else f"{which} of the {count} images that judge it"


def _one_class(feeds: Sequence[Tensors], runner: Runner) -> str:
    """That all masks are of one class but for too few pixels to decide (evaluation/overlap.py); empty where not."""
    seen: Array = np.zeros(MANY, np.int64)
    for feed in feeds:
        for answer in next(iter(runner(feed).values())):
            if not is_map(answer.shape, is_whole(answer.dtype)):
                return ""
            classes = classes_of(answer, seen_in(feed))
            seen += np.bincount(classes[classes != NONE] % MANY, minlength=MANY)
        if (seen >= LEAST).sum() > 1:
            return ""
    most = int(seen.argmax())
    others = int(seen.sum() - seen[most])
    if not seen[most] or (others and seen[most] < LEAST):
        return ""
    but = f" but for {counted(others, 'pixel')}" if others else ""
    return f"answers class {most} everywhere{but} on {_judging(len(feeds), 'all')}"


def _no_label(feeds: Sequence[Tensors], runner: Runner) -> str:
    if any((next(iter(runner(feed).values())) > 0).any() for feed in feeds):
        return ""
    return f"says yes to no label on {_judging(len(feeds), 'any')}"
