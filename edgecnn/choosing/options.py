"""The options of `quantize` and `build` by name and type: which of them decides what kind of report comes back.

A type checker reads them from the overloads of the two; people read the signatures. Test: tests/test_options.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from edgecnn import doubts
    from edgecnn.data.data_argument import Data
    from edgecnn.data.labels import Labels
    from edgecnn.evaluation.own_metric import Metric
    from edgecnn.networks.forward import InputShape
    from runtimes.base import Track

CPU = Literal["avx2", "avx512", "vnni", "arm"]
"""Values of `target` for which int8 is made to be raced or foretold: the report is that of a race."""
OTHER_RUNTIME = Literal["tensorrt"]


class Judging(TypedDict, total=False):
    """What both have: calibration, the accuracy budget, the search."""

    calibrator: str
    max_drop: float | None
    sure: bool
    data: Data | None
    task: str | None
    metric: str | Metric | None
    limit: int | None
    labels: Labels | None
    preprocess: str | None
    portable: bool
    input: str
    search_budget: float
    seed: int
    skip_unreadable: bool
    allow_slower: bool
    all_int8: bool
    keep_float: bool
    runtime: bool
    force: bool
    track: Track
    tell: doubts.Tell


class QuantizeOptions(Judging, total=False):
    per_tensor: bool
    exclude: Sequence[str]
    input_shape: str | None
    threads: int


class BuildOptions(Judging, total=False):
    weights: str | os.PathLike[str] | None
    input_shape: InputShape | None
    num_classes: int | None
    decode: str | None
    answer: str | int | None
    target: str | None
    threads: int
    dynamic: bool
    dynamic_size: bool
