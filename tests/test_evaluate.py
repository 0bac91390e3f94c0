"""Top-1 counts what is right and nothing else; oracle: scikit-learn's accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from edgecnn.evaluate import accuracy, correct, evaluate
from edgecnn.samples import Samples
from runtimes.base import Array, BadInput, Tensors


def answers(*batches: Array) -> tuple[object, list[Tensors]]:
    """A runner that answers the batches one after the other, and its feeds."""
    return (lambda feeds: {"logits": batches[int(feeds["i"][0])]}), [{"i": np.array([i])} for i in range(len(batches))]


def test_top1_is_sklearns_over_uneven_batches() -> None:
    logits, labels = np.random.default_rng(0).standard_normal((50, 7)), np.random.default_rng(1).integers(0, 7, 50)
    runner, feeds = answers(logits[:32], logits[32:49], logits[49:])
    assert accuracy(runner, feeds, labels) == accuracy_score(labels, logits.argmax(1))
    assert accuracy(runner, feeds, [int(label) for label in labels]) == accuracy_score(labels, logits.argmax(1))


@pytest.mark.parametrize(
    ("row", "label", "right"),
    [
        ([0.0, 1.0], 1, True),
        ([0.0, 1.0], 0, False),
        ([1.0, 1.0], 0, False),  # a constant answer is no answer
        ([np.nan, 1.0], 1, False),
        ([0.0, np.inf], 1, False),
        ([-np.inf, 1.0], 1, False),
    ],
)
def test_ties_and_non_finite_answers_are_wrong(row: list[float], label: int, right: bool) -> None:
    assert correct(np.array([row]), np.array([label])).tolist() == [right]


@pytest.mark.parametrize(
    ("logits", "labels", "complaint"),
    [
        (np.zeros((2, 3)), [0], "1 for at least 2 images"),
        (np.zeros((2, 3)), [0, 1, 2], "3 for 2 images"),
        (np.zeros((2, 3)), [0, 3], "3 is no class of a network with 3"),
        (np.zeros((2, 3)), [0, -1], "is no class"),
        (np.zeros((2, 3, 4, 4)), [0, 1], "needs \\(images, classes\\)"),
    ],
)
def test_labels_that_do_not_fit(logits: Array, labels: list[int], complaint: str) -> None:
    runner, feeds = answers(logits)
    with pytest.raises(BadInput, match=complaint):
        accuracy(runner, feeds, labels)


def test_no_feeds_at_all() -> None:
    with pytest.raises(BadInput, match="0 for 0 images"):
        accuracy(lambda feeds: feeds, [], [])


def test_evaluate_feeds_the_samples_in_order_and_needs_labels() -> None:
    images = np.arange(5, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 2, 2), np.float32)
    labels = np.array([0, 1, 2, 0, 0])
    samples = Samples("s", tuple("abcde"), lambda i: images[i], labels, ("x", "y", "z"))

    def runner(feeds: Tensors) -> Tensors:
        return {"y": np.eye(3)[feeds["image"][:, 0, 0, 0].astype(int) % 3]}

    assert evaluate(runner, samples, "image", batch=2) == 4 / 5  # 0 1 2 0 1
    with pytest.raises(BadInput, match="s: has no labels; put the images into class folders"):
        evaluate(runner, Samples("s", ("a",), lambda i: images[i]), "image")
