"""A network's answers as its task reads them, where one number may stand for two classes or for a yes.

    classification, segmentation    one score        ->  two scores, of two classes     (comparing/two_classes.py)
    multi-label                     p of a Sigmoid   ->  p - 0.5: over zero is a yes, as of a logit
    anything else                                        as it is

Test: tests/test_task_multi_label.py, tests/test_two_classes.py.
"""

from __future__ import annotations

import numpy as np

from edgecnn.tasks import MULTI_LABEL, NUMBERS
from runtimes.base import Runner, Tensors
from runtimes.comparing.two_classes import two_classes

HALF = np.float32(0.5)


def as_task(runner: Runner, task: str, sigmoid: bool) -> Runner:
    """`runner`, whose answers are read for `task`; `sigmoid` says that they come out of one."""
    if task not in NUMBERS:
        return two_classes(runner, sigmoid)
    return centred(runner) if task == MULTI_LABEL and sigmoid else runner


def centred(runner: Runner) -> Runner:
    """`runner` whose probabilities, its first output, are moved so that a half is zero."""

    def run(feeds: Tensors) -> Tensors:
        found = dict(runner(feeds))
        name = next(iter(found))
        return found | {name: np.asarray(found[name]) - HALF}

    return run
