"""What the outputs of a network say of one image, by hand: labels, numbers, masks and boxes, in words and in JSON."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from runtimes.base import Array, BadInput
from runtimes.imaging.geometry import Geometry
from runtimes.imaging.maps import Seen
from runtimes.proof.answers import (
    SPOKEN,
    WRITTEN,
    Answer,
    LabelsPrediction,
    best,
    boxes_of,
    labels_of,
    mask_of,
    numbers_of,
    probabilities,
)

CATS = ("cat", "dog", "cow")


def test_labels_over_one_half_are_told_and_all_are_written() -> None:
    scores = labels_of(np.float32([0.2, 0.9, 0.5]), CATS, sigmoid=True)
    found = LabelsPrediction("a.png", scores)
    assert found.words == "dog 90.0%"
    assert found.labels == ("dog",)
    written = found.to_dict()
    assert (written["input"], written["labels"]) == ("a.png", ["dog"])
    assert [entry["label"] for entry in written["scores"]] == ["dog", "cow", "cat"]
    none = LabelsPrediction("a.png", (Answer("cow", 0.5), Answer("cat", 0.25)))
    assert none.words == "no label over 50%, at most cow 50.0%"


def test_logits_of_labels_are_shares_of_their_own() -> None:
    found = {a.label: a.score for a in labels_of(np.float32([0.0, math.log(3), -math.log(3)]), CATS, sigmoid=False)}
    assert found == pytest.approx({"cat": 0.5, "dog": 0.75, "cow": 0.25})


def test_few_numbers_are_told_one_by_one_and_many_by_their_range() -> None:
    few, many, huge = (np.arange(float(n))[None] for n in (SPOKEN, SPOKEN + 1, WRITTEN + 1))
    (told,) = numbers_of("a.png", {"y": few}, ()).outputs
    assert told.words.startswith("0.00, 1.00, 2.00, ")
    (told,) = numbers_of("a.png", {"y": many}, ()).outputs
    assert told.words == "17 numbers from 0.00 to 16.0, mean 8.00"
    assert told.values == tuple(range(17))
    (told,) = numbers_of("a.png", {"y": huge}, ()).outputs
    assert (told.values, told.low, told.high) == (None, 0.0, float(WRITTEN))


def test_labels_name_the_numbers_of_the_first_output_where_there_are_as_many() -> None:
    two = {"pose": np.float32([[1, 2, 3]]), "size": np.float32([[4, 5, 6]])}
    found = numbers_of("a.png", two, CATS)
    assert [one.names for one in found.outputs] == [CATS, ()]
    assert found.words == "pose: cat 1.00, dog 2.00, cow 3.00; size: 4.00, 5.00, 6.00"
    assert numbers_of("a.png", {"pose": two["pose"]}, CATS).words == "cat 1.00, dog 2.00, cow 3.00"
    assert numbers_of("a.png", {"pose": two["pose"]}, CATS[:2]).words == "1.00, 2.00, 3.00"
    with pytest.raises(BadInput, match=r"a\.png: output pose is empty, \[1, 0\]"):
        numbers_of("a.png", {"pose": np.zeros((1, 0))}, ())


def test_logits_that_are_all_positive_are_no_probabilities() -> None:
    """As a last ReLU leaves them."""
    assert probabilities(np.float32([0, math.log(3)])) == pytest.approx([0.25, 0.75])
    assert probabilities(np.float32([0.25, 0.75])).tolist() == [0.25, 0.75]
    assert probabilities(np.float32([-1, 2])).sum() == pytest.approx(1.0), "a sum of 1 alone is none either"


def placed(answer: Array) -> object:
    boxes = {"boxes": np.float32([[0, 0, 2, 2]]), "scores": answer.ravel()[:1], "labels": np.array([0])}
    return boxes_of("a.png", boxes, Geometry.same((2, 2)), CATS, 0.0)


@pytest.mark.parametrize(
    "read",
    [
        lambda answer: best(answer.ravel(), CATS, 1, "a.png"),
        lambda answer: labels_of(answer.ravel(), CATS, False, "a.png"),
        lambda answer: numbers_of("a.png", {"y": answer}, ()),
        lambda answer: mask_of("a.png", answer[0], Geometry.same((2, 2)), CATS, Seen()),
        placed,
    ],
    ids=["classes", "labels", "numbers", "mask", "boxes"],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_no_answer(read: Callable[[Array], object], value: float) -> None:
    answer = np.zeros((1, 3, 2, 2), np.float32)
    read(answer)
    answer[0, 0, 0, 0] = value
    with pytest.raises(BadInput, match=r"a\.png: is answered with NaN or infinity"):
        read(answer)
