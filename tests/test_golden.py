"""The limits of a bundle's proof mean something: for tensors, for boxes, and at a second size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from exporters.golden_limits import limit_of
from runtimes.base import Array, Tensors
from runtimes.bundle import Verification
from runtimes.comparing.matching import NAMES, pad
from runtimes.machine import describe
from runtimes.proof.golden import DISAGREEMENT, MAX_ABS, GoldenCheck, checks, is_entry, measure_of
from runtimes.proof.parts import Part
from runtimes.proof.verification import VerifyReport
from runtimes.session import TensorInfo


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
        {"images": 3, "limit_max_abs": 1.0, "limit_relative_l2": -0.1},
        {"images": 3, "limit_max_abs": 1.0, "limit_relative_l2": "0.1"},
        [3, 0.1],
    ],
)
def test_entries_that_say_nothing(entry: object) -> None:
    assert not is_entry(entry)
    assert is_entry({"images": 3, "limit_disagreement": 0.1})


# ---------------------------------------------------------------------------------------- made-up models on the proof
class Model:
    """Answers the image filled with i with `answers[i]`, as a session does."""

    def __init__(self, answers: Sequence[Tensors]) -> None:
        self.answers = answers
        self.inputs = (TensorInfo("x", "float32", (1, 2)),)
        self.outputs = tuple(TensorInfo(name, "float32", ()) for name in answers[0])

    def __call__(self, feeds: Tensors) -> Tensors:
        return self.answers[int(feeds["x"][0, 0])]


def held(answers: Sequence[Tensors], outputs: Sequence[Array], entry: dict[str, object]) -> tuple[GoldenCheck, ...]:
    images = np.arange(len(answers), dtype=np.float32)[:, None].repeat(2, 1)
    return checks(Model(answers), [images], outputs, entry)  # type: ignore[arg-type]


def boxes(*left: float) -> dict[str, Array]:
    corners = np.float32([[x, 0, x + 10, 10] for x in left]).reshape(-1, 4)
    found = np.full(len(left), 0.9, np.float32), np.zeros(len(left), int), np.zeros(len(left), int)
    return dict(zip(NAMES, (corners, *found), strict=True))


def test_boxes_are_proven_by_their_disagreement_on_all_images() -> None:
    right = [boxes(0, 40), boxes(), boxes(80)]
    outputs, entry = list(pad(right).values()), {"images": 3, "limit_disagreement": 0.1}
    (same,) = held(right, outputs, entry)
    assert (same.value, same.limit, same.measure, same.images, same.passed) == (0.0, 0.1, DISAGREEMENT, 3, True)
    (lost,) = held([boxes(0, 40), boxes(), boxes()], outputs, entry)
    assert not lost.passed
    assert 0.1 < lost.value < 1
    (elsewhere,) = held([boxes(300, 400), boxes(), boxes(500)], outputs, entry)
    assert elsewhere.value == pytest.approx(1.0)
    (others,) = held([{"logits": np.zeros(2)}] * 3, outputs, entry)
    assert others.value == math.inf
    (fewer,) = held(right, outputs[:3], entry)
    assert fewer.value == math.inf


def test_a_kind_without_a_relative_limit_is_held_to_the_other() -> None:
    """The original is zero in it: what is a share of nothing?"""
    kind = {**Part(0).to_dict(), "limit_max_abs": 0.5}
    (found,) = held([{"y": np.float32([[0.25, 0.0]])}], [np.zeros((1, 2), np.float32)], {"images": 1, "kinds": [kind]})
    assert (found.value, found.limit, found.measure, found.of) == (0.25, 0.5, MAX_ABS, "y")
    (single,) = held([{"y": np.float32(0.25)}], [np.zeros((1, 2), np.float32)], {"images": 1, "kinds": [kind]})
    assert single.value == math.inf, "one number, where there were two"


@pytest.mark.parametrize(("count", "words"), [(1, "1 golden output differs by"), (2, "2 golden outputs differ by")])
def test_one_golden_output_differs_and_two_differ(count: int, words: str) -> None:
    found = Verification(True, (GoldenCheck(0.5, 1.0, images=count),), "cpu", 1, describe())
    assert f"{words} at most 0.5 (limit 1)" in VerifyReport("a.edge", found).verdict
