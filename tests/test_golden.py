"""The limits of a bundle's proof mean something: for tensors, for boxes, and at a second size."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.comparing.matching import NAMES
from runtimes.proof.golden import DISAGREEMENT, MAX_ABS, is_entry, limit_of, measure_of


def test_boxes_are_known_by_the_names_of_the_outputs() -> None:
    assert measure_of(NAMES[::-1]) == DISAGREEMENT
    assert measure_of(("logits",)) == measure_of(("boxes", "scores")) == MAX_ABS


@pytest.mark.parametrize(
    ("measured", "least", "most"),
    [
        (0.0, 1e-5, 1e-3),  # float: what another order of sums leaves, no box of a thousand
        (0.1, 0.2, 0.201),  # twice as much
        (0.4, 0.7, 0.701),  # half of the way to no agreement at all
        (0.9, 0.95, 0.951),
    ],
)
def test_the_limit_of_a_disagreement_stays_below_no_agreement(measured: float, least: float, most: float) -> None:
    assert least <= limit_of(measured, DISAGREEMENT, [np.full((1, 5, 4), 300.0)]) <= most


def test_the_limit_of_tensors_follows_their_size() -> None:
    assert limit_of(0.0, MAX_ABS, [np.float32([[-20.0, 1.0]])]) == pytest.approx(2e-4)
    assert limit_of(0.25, MAX_ABS, [np.zeros((1, 3))]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "entry",
    [
        {"images": 3},
        {"images": 3, "limit_max_abs": 1.0, "limit_disagreement": 0.1},
        {"images": 3, "limit_disagreement": True},
        {"images": True, "limit_disagreement": 0.1},
        {"images": 0, "limit_disagreement": 0.1},
        {"images": 3, "limit_disagreement": float("nan")},
        [3, 0.1],
    ],
)
def test_entries_that_say_nothing(entry: object) -> None:
    assert not is_entry(entry)
    assert is_entry({"images": 3, "limit_disagreement": 0.1})
