"""A metric of the user's own: a function from one answer to a share of 1, and its mean over the images.

    def found(answers, name, truth):              answers: {output: array of a batch of one image}
        return share_from_0_to_1                  name: which image it is: its file, or its place in an array ("0")
                                                  truth: its row of `y`, of any shape, or of labels.csv; else its
                                                  class, mask, boxes or target
                                                  higher is better

    found.unit = "dB"                             any number instead: --max-drop and --min-metric are then in dB

It takes the place of a task's metric where answers are of no task that is known here (poses, depths, embeddings, raw
boxes), or where another number decides. A function of two arguments needs no labels: what is right is its to know.
Intervals are the bootstrap's over images. Imports torch only to find a function that is named.
Test: tests/test_own_metric.py.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.data.samples import Samples
from edgecnn.evaluation.scores import Difference, Score, bootstrap
from runtimes.base import Array, BadInput, Runner, Track, silent

Metric = Callable[[Mapping[str, Array], str], float] | Callable[[Mapping[str, Array], str, Any], float]
TRUTH = "truth"
DROP = 0.01
"""That may be lost of a share where nobody says it: one point."""


@dataclass(frozen=True)
class OwnMetric:
    """Stands where a file of `edgecnn/tasks` stands, with as much of its contract as judging needs."""

    METRIC: str
    function: Metric

    @property
    def unit(self) -> str:
        """What its values are in, where the function says so; empty for shares."""
        return str(getattr(self.function, "unit", ""))

    @functools.cached_property
    def asks_truth(self) -> bool:
        return wants_truth(self.function)

    def budget(self, max_drop: float | None) -> float:
        """What may be lost; raises `BadInput` where the function has a unit and nobody said how much of it."""
        if max_drop is None and self.unit:
            raise BadInput(f"--metric {self.METRIC}: is in {self.unit}; say how many may be lost: --max-drop")
        return share_of(max_drop, self.unit)

    def has_answers(self, samples: Samples) -> bool:
        return True

    def score(self, runner: Runner, samples: Samples, input_name: str, batch: int = 1, track: Track = silent) -> Score:
        """The mean of the function over `samples`, one image at a time; raises `BadInput` for what is no share."""
        feeds = track(samples.feeds(input_name, 1), "evaluating")
        found = []
        for i, (feed, name) in enumerate(zip(feeds, samples.ids, strict=True)):
            found.append(self.of(runner(feed), place_of(name), *self.truth_in(samples, i)))
        values = np.array(found)

        def resample(weights: Array) -> Array:
            return np.asarray(weights @ values / weights.sum(axis=1))

        return Score(self.METRIC, float(values.mean()), len(values), {}, resample, unit=self.unit, each=values)

    def truth_in(self, samples: Samples, index: int) -> tuple[Any, ...]:
        """What the data holds as the answer to one image, where the function asks for that; `BadInput` for none."""
        if not self.asks_truth:
            return ()
        truth = samples.truth_of(index)
        if truth is None:
            raise BadInput(
                f"{self.METRIC}: takes the truth of an image, and {samples.name} has none; give y (a row for each "
                "image), a labels.csv, classes, masks, boxes or targets in the data, or a function(answers, name)"
            )
        return (truth,)

    def of(self, answers: Mapping[str, Array], name: str, *truth: Any) -> float:
        """What the function says of one image."""
        try:
            found: Any = self.function(answers, name, *truth)
        except Exception as error:
            raise BadInput(f"{self.METRIC}: raised {type(error).__name__} on {name} ({error}); mend it") from error
        told = f"{self.METRIC}: is {str(found)[:40]} on {name}; return a"
        if not isinstance(found, int | float | np.number | np.bool_) or not math.isfinite(found):
            raise BadInput(f"{told} {'number' if self.unit else 'share from 0 to 1'}")
        if not self.unit and not 0 <= found <= 1:
            named = self.METRIC if self.METRIC.isidentifier() else "NAME"
            raise BadInput(f'{told} share from 0 to 1, or say what it is in: {named}.unit = "dB" below the function')
        return float(found)

    def drop(self, reference: Score, candidate: Score, seed: int = 0, track: Track = silent) -> Difference:
        """What `candidate` loses, with the bootstrap interval over images."""
        return bootstrap(reference, candidate, seed, track=track)


def share_of(max_drop: float | None, unit: str = "") -> float:
    """`max_drop`, by default one point; raises `BadInput` for what is no share, and no amount of a `unit`."""
    most = math.inf if unit else 1.0
    if max_drop is not None and not 0 <= max_drop <= most:
        what = f"a number of {unit} from 0" if unit else "a share from 0 to 1 (0.01 is a point)"
        raise BadInput(f"--max-drop {max_drop:g}: give {what}")
    return DROP if max_drop is None else max_drop


@dataclass(frozen=True)
class Budget:
    """The `most` that int8 may lose; `sure`: at the far end of its 95 % interval, else as measured."""

    most: float
    sure: bool = False


def budgeted(
    metric: str | Metric | None, max_drop: float | None, sure: bool = False
) -> tuple[OwnMetric | None, Budget]:
    """(the user's own metric, where there is one; what may be lost by it, else by the task's); raises `BadInput`."""
    own = own_metric(metric)
    return own, Budget(share_of(max_drop) if own is None else own.budget(max_drop), sure)


def wants_truth(function: Metric) -> bool:
    """Whether a third argument has to be given, or is called `truth`.

    >>> wants_truth(lambda answers, name: 1), wants_truth(lambda answers, name, box: 1)
    (False, True)
    """
    try:
        taken = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some that are written in C
        return False
    placed = [p for p in taken if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(placed) > 2 and (placed[2].name == TRUTH or placed[2].default is placed[2].empty)


def place_of(name: str) -> str:
    """
    >>> place_of("cats/04.png"), place_of("data array[12]")
    ('cats/04.png', '12')
    """
    found = re.fullmatch(r".*\[(\d+)\]", name)
    return found[1] if found else name


def own_metric(given: str | Metric | None) -> OwnMetric | None:
    """The metric that `given` is or names (`FILE.py:NAME`, `package.module:NAME`); raises `BadInput` for none."""
    if given is None:
        return None
    if not isinstance(given, str):
        return OwnMetric(str(getattr(given, "__name__", "metric")), given)
    place, colon, name = given.rpartition(":")
    if not colon or not place or not name:
        raise BadInput(f"--metric {given}: names no function; write FILE.py:NAME")
    from edgecnn.networks import callables

    found: Any = callables.find(place, name, "a function(answers, name) or (answers, name, truth)").target
    return OwnMetric(name, found)
