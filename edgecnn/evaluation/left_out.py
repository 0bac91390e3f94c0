"""Labels and numbers of the data that no metric can be had of: those that no image has, and those that never vary.

They are left out of mAP and of R^2, and a line says so.
Test: tests/test_task_multi_label.py, tests/test_task_regression.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecnn.data.samples import Samples
from edgecnn.tasks import MULTI_LABEL, REGRESSION
from runtimes.base import Array, counted

SHOWN = 3


def left_out(task: str, samples: Samples) -> str:
    """The line about what of `samples` does not count for `task`; empty where all does, and where nothing can."""
    if samples.truth is None or task not in (MULTI_LABEL, REGRESSION):
        return ""
    flat = samples.truth.reshape(len(samples), -1)
    if task == MULTI_LABEL:
        counts, why, metric, kind = flat.any(axis=0), "no image has", "mAP", "label"
    else:
        counts, why, metric, kind = flat.max(axis=0) > flat.min(axis=0), "all images have the same", "R^2", "number"
    counts = np.asarray(counts)
    if counts.all() or not counts.any():
        return ""
    rest = counted(int(counts.sum()), kind)
    return f"{samples.name}: {why} {_names(samples.class_names, counts)}; {metric} is the mean of the other {rest}"


def _names(names: Sequence[str], counts: Array) -> str:
    places = [int(i) for i in np.flatnonzero(~counts)]
    shown = ", ".join(names[i][:20] if i < len(names) else str(i) for i in places[:SHOWN])
    return f"{shown} and {len(places) - SHOWN} more" if len(places) > SHOWN else shown
