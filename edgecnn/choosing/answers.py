"""The float graph's answers to the images that judge: remembered for the next graph, and whether they differ at all.

Test: tests/test_choose.py.
"""

from __future__ import annotations

import hashlib

from edgecnn.choosing.trial import Trial
from edgecnn.tasks import detection
from runtimes.base import Runner, Tensors

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
        key = hashlib.blake2b()
        for name in sorted(feeds):
            key.update(f"{name}{feeds[name].dtype}{feeds[name].shape}".encode() + feeds[name].tobytes())
        known = self.answers.get(key.digest())
        if known is not None:
            return known
        found = self.runner(feeds)
        size = sum(value.nbytes for value in found.values())
        if size <= self.left:
            self.left -= size
            self.answers[key.digest()] = found
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
        which = "the image that judges it" if count == 1 else f"any of the {count} images that judge it"
        return f"scores no box {detection.SURE:g} or more on {which}"
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
    return f"answers class {seen.pop()} on all of the {count} images that judge it"
