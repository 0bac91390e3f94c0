"""On what, and how strictly, the graphs that could be shipped are judged. Test: tests/test_choose.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgecnn import tasks
from edgecnn.data.material import Material
from edgecnn.data.samples import Samples
from edgecnn.evaluation.own_metric import Budget, OwnMetric
from exporters.artifact import Identity
from runtimes.latency import DECIDING_ROUNDS, DECIDING_SECONDS

QUICK_RACE_SECONDS = 3.0
"""In place of `DECIDING_SECONDS` where an answer is wanted soon."""


@dataclass(frozen=True)
class Trial:
    """On what and how the graphs are judged. Labelled `samples` give the metric, others the share of changed answers.

    `max_drop` is a share (0.01: one point), for R^2 how far it may fall; `allow_slower` lets int8 win without being
    faster; with `all_int8` no layer stays float to be faster either. The race runs on one image and `threads` threads
    for at most `rounds` rounds or `seconds` seconds.
    """

    samples: Samples
    input_name: str
    max_drop: float = 0.01
    allow_slower: bool = False
    threads: int = 1
    rounds: int = DECIDING_ROUNDS
    seconds: float = DECIDING_SECONDS
    seed: int = 0
    task: str = "classification"
    all_int8: bool = False
    own: OwnMetric | None = None
    """The user's own metric, which takes the place of the task's."""
    unused: str = ""
    """Why the labels that were given cannot judge."""
    sigmoid: bool = False
    """Where an answer is one score for two classes, it is a probability, and no logit."""
    sure: bool = False
    """The budget holds at the far end of the 95 % interval, where one is known."""
    quick: bool = False
    """No search was wanted (`--search-budget 0`): an answer soon."""

    @property
    def known(self) -> Any:
        """The file of the task in `edgecnn/tasks`; None for outputs without a meaning that is known here."""
        return tasks.load(self.task) if self.task in tasks.names() else None

    @property
    def rule(self) -> Any:
        """What scores the answers: the user's own metric, else the task's."""
        return self.own or self.known

    @property
    def insisted(self) -> str:
        """The option that lets int8 win without being faster; empty where none was given."""
        return "--all-int8" if self.all_int8 else "--allow-slower" if self.allow_slower else ""

    @property
    def labelled(self) -> bool:
        return self.rule is not None and bool(self.rule.has_answers(self.samples))

    @property
    def metric(self) -> str:
        return str(self.rule.METRIC) if self.rule is not None else ""

    @property
    def unit(self) -> str:
        """Of the metric, the budget and what is lost; empty for shares."""
        return self.own.unit if self.own is not None else ""


def trial_on(
    material: Material, model: Identity, budget: Budget, allow_slower: bool, all_int8: bool,
    own: OwnMetric | None, threads: int, search_budget: float, seed: int,
) -> Trial:  # fmt: skip
    """How graphs of `model` are judged on `material`."""
    quick = search_budget <= 0
    seconds = QUICK_RACE_SECONDS if quick else DECIDING_SECONDS
    return Trial(
        material.judged, material.input_name, budget.most, allow_slower, threads, seconds=seconds, seed=seed,
        task=model.task, all_int8=all_int8, own=own, unused=material.unused, quick=quick, sigmoid=model.sigmoid,
        sure=budget.sure,
    )  # fmt: skip
