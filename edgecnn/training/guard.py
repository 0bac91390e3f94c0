"""A network that was trained already does not come back worse: it is judged before and after, and the better one stays.

    judged    on the images held back for early stopping, else on (up to 1,000 of) those that are trained on;
              with int8 simulated where that is what it learns
    worse     on images held back by anything, on those that are trained on by more than a point: a network that knows
              them by heart loses some when they are moved about, while it gains on others
    then      the weights from the start are put back, and a line says so

The held-out test part plays no role in it: it would no longer tell how good the network is on images that nobody has
seen. A fall there of more than a point is told, and that is all. Test: tests/test_fine_tune.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

import numpy as np
from torch import nn

from edgecnn.data.samples import Samples
from edgecnn.training.learning import score_of
from edgecnn.words import worth

MOST_JUDGED = 1000
"""Training images on which a network is judged, spread over all: in two passes, without gradients."""
LARGE_FALL = 0.01
"""A point of the score: less is a few images."""
TRAINING, HELD_BACK = "training images", "held-back images"

R = TypeVar("R")


@dataclass(frozen=True)
class Change:
    """The score `before` and `after` the training on the `images` that decide which weights stay; these are `kinds`
    (`TRAINING` or `HELD_BACK`). `int8`: judged with its rounding simulated.
    """

    before: float
    after: float
    images: int
    kinds: str
    int8: bool

    @property
    def worse(self) -> bool:
        return not self.after >= self.before - (LARGE_FALL if self.kinds == TRAINING else 0.0)

    @property
    def where(self) -> str:
        return f"{self.images} {self.kinds}{' with int8 simulated' if self.int8 else ''}"

    def words(self, metric: str) -> str:
        before, after = (worth(value, "", metric) for value in (self.before, self.after))
        return f"{before} before, {after} after, on {self.where}"

    def warning(self, name: str, metric: str, rate: float) -> str:
        """The line for a network that became worse; empty for any other.

        >>> Change(0.9, 0.5, 90, "training images", False).warning("n", "top-1", 0.2).partition("; ")[0]
        'n: top-1 on 90 training images fell from 90.00% to 50.00% at rate 0.2'
        """
        if not self.worse:
            return ""
        change = f"fell from {worth(self.before, '', metric)} to {worth(self.after, '', metric)}"
        fell = f"{metric} on {self.where} {change} at rate {rate:g}"
        return f"{name}: {fell}; the weights from the start are kept; try --rate {rate / 10:g}"

    def warning_of_test(self, name: str, metric: str, before: float, after: float, rate: float) -> str:
        """The line for a network whose held-out score fell, which what it is judged on does not show; else empty."""
        if self.worse or after >= before - LARGE_FALL:
            return ""
        fell = f"{metric} on held-out images fell from {worth(before, '', metric)} to {worth(after, '', metric)}"
        return f"{name}: {fell}, though not on {self.where}, which decide; try --rate {rate / 10:g} or --patience"


def guarded(
    module: nn.Module, task: ModuleType, train: Samples, held: Samples | None, int8: bool, fit: Callable[[], R]
) -> tuple[R, Change]:
    """(what `fit` returns, which trains `module` in place; what came of it). The better weights are in it then."""
    judges = some_of(train) if held is None else held
    start = copy.deepcopy(module.state_dict())
    before = score_of(module, task, judges)
    made = fit()
    after = score_of(module, task, judges)
    change = Change(before, after, len(judges), TRAINING if held is None else HELD_BACK, int8)
    if change.worse:
        module.load_state_dict(start)
    return made, change


def some_of(samples: Samples) -> Samples:
    """Up to `MOST_JUDGED` of `samples`, spread over all."""
    if len(samples) <= MOST_JUDGED:
        return samples
    return samples.subset(np.linspace(0, len(samples) - 1, MOST_JUDGED).round().astype(int))
