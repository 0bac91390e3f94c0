"""Top-1 and top-5 count what is right and nothing else; oracle: scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from edgecnn.data.samples import Samples
from edgecnn.tasks import classification as task
from runtimes.base import Array, BadInput, Runner, Tensors


def made(labels: Array, classes: int = 7, side: int = 2) -> Samples:
    """Images whose only value is their own number."""
    names = tuple(map(str, range(classes)))
    ids = tuple(f"image {i}" for i in range(len(labels)))
    return Samples("made", ids, lambda i: np.full((1, side, side), i, np.float32), labels, names)


def saying(logits: Array) -> Runner:
    """A network that answers image i with row i."""
    return lambda feeds: {"logits": logits[feeds["x"][:, 0, 0, 0].astype(int)]}


def drawn(count: int = 50, classes: int = 7, seed: int = 0) -> tuple[Array, Array]:
    order = np.random.default_rng(seed)
    return order.standard_normal((count, classes)), order.integers(0, classes, count)


@pytest.mark.parametrize("batch", [1, 32, 64])
def test_it_is_sklearns_over_uneven_batches(batch: int) -> None:
    logits, labels = drawn()
    found = task.score(saying(logits), made(labels), "x", batch)
    assert (found.metric, found.images) == ("top-1", 50)
    assert found.value == accuracy_score(labels, logits.argmax(1))
    assert found.details == {"top5": top_k_accuracy_score(labels, logits, k=5, labels=range(7))}
    assert np.array_equal(found.per_sample, labels == logits.argmax(1))


def test_five_classes_have_no_top_5() -> None:
    logits, labels = drawn(classes=5)
    assert task.score(saying(logits), made(labels, 5), "x").details == {}


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
    assert (task.ranks(np.array([row]), np.array([label])) == 1).tolist() == [right]


def test_non_finite_answers_are_not_among_the_five_either() -> None:
    logits = np.array([[np.nan, 1, 2, 3, 4, 5, 6.0]])
    assert task.score(saying(logits), made(np.array([6])), "x").details == {"top5": 0.0}


def test_labels_and_outputs_that_do_not_fit() -> None:
    logits, labels = drawn()
    with pytest.raises(BadInput, match="made: class 9 is unknown to a network with 7; check the data"):
        task.score(saying(logits), made(np.where(labels == 0, 9, labels)), "x")
    with pytest.raises(BadInput, match=r"output: has shape \[32, 7, 1, 1\]; top-1 needs \(images, classes\)"):
        task.score(saying(logits[:, :, None, None]), made(labels), "x")
    with pytest.raises(BadInput, match="made: has no labels; put the images into class folders"):
        task.score(saying(logits), made(labels).without_answers(), "x")


def test_the_drop_is_paired_and_names_its_interval() -> None:
    logits, labels = drawn(200)
    good = np.where(np.arange(7) == labels[:, None], logits + 2, logits)
    ours, theirs = (task.score(saying(x), made(labels), "x") for x in (good, logits))
    found = task.drop(ours, theirs)
    assert found.value == pytest.approx(ours.value - theirs.value, abs=1e-12)
    assert 0 < found.low < found.value < found.high
    assert "Tango" in found.method
    assert task.drop(ours, ours).low < 0 < task.drop(ours, ours).high


def test_agreement_needs_no_labels() -> None:
    logits, labels = drawn()
    other = logits.copy()
    other[:5] = -other[:5]
    other[5] = np.nan
    same = int((logits.argmax(1) == other.argmax(1))[6:].sum() + (logits.argmax(1) == other.argmax(1))[:5].sum())
    feeds = made(labels).without_answers().feeds("x", 16)
    found = task.agreement(saying(logits), saying(other), feeds)
    assert (found.share, found.images) == (same / 50, 50)
    assert task.agreement(saying(logits), saying(logits), feeds).share == 1.0


def test_augmentation_moves_images_and_keeps_labels() -> None:
    images, labels = np.random.default_rng(0).standard_normal((8, 1, 16, 16)), np.arange(8)
    moved, kept = task.augment(images, labels, np.random.default_rng(1), flip=False)
    assert np.array_equal(kept, labels)
    assert moved.shape == images.shape
    assert not np.array_equal(moved, images)
    mirrored, _ = task.augment(images, labels, np.random.default_rng(1), flip=True)
    which = [not np.array_equal(a, b) for a, b in zip(moved, mirrored, strict=True)]
    assert 0 < sum(which) < 8
    assert all(np.array_equal(a[..., ::-1], b) for a, b, w in zip(moved, mirrored, which, strict=True) if w)


def test_the_loss_is_smoothed_cross_entropy_by_hand() -> None:
    import torch

    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
    loss = task.loss(torch.nn.Identity(), logits, np.array([0, 2]), 0.1)
    powers = np.exp(logits.numpy().astype(float))
    logs = np.log(powers / powers.sum(1, keepdims=True))
    wanted = np.array([[0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3], [0.1 / 3, 0.1 / 3, 0.9 + 0.1 / 3]])
    assert float(loss) == pytest.approx(float(-(wanted * logs).sum(1).mean()), abs=1e-6)  # float32


def test_feeds_are_called_as_the_network_calls_them() -> None:
    seen = []

    def runner(feeds: Tensors) -> Tensors:
        seen.append((list(feeds), len(feeds["pixels"])))
        return {"other": np.eye(7)[np.zeros(len(feeds["pixels"]), int)]}

    task.score(runner, made(np.zeros(5, int)), "pixels", 2)
    assert seen == [(["pixels"], 2), (["pixels"], 2), (["pixels"], 1)]
