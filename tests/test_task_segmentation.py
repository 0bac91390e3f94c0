"""mIoU from pixel counts; oracle: scikit-learn's jaccard_score on the pixels themselves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score

from edgecnn.data.samples import Samples
from edgecnn.tasks import segmentation as task
from runtimes.base import Array, BadInput, Runner
from runtimes.imaging.geometry import Geometry

CLASSES, SIDE = 5, 12


def made(masks: Array, names: tuple[str, ...] = ()) -> Samples:
    ids = tuple(f"image {i}" for i in range(len(masks)))
    load = lambda i: np.full((1, SIDE, SIDE), i, np.float32)  # noqa: E731
    return Samples("made", ids, load, class_names=names, masks=list(masks))


def saying(logits: Array) -> Runner:
    return lambda feeds: {"logits": logits[feeds["x"][:, 0, 0, 0].astype(int)]}


def drawn(count: int = 9, seed: int = 0) -> tuple[Array, Array]:
    """(logits, masks): class 4 never occurs in the truth, class 3 only in one image, a tenth of pixels is 255."""
    order = np.random.default_rng(seed)
    masks = order.integers(0, 3, (count, SIDE, SIDE)).astype(np.uint8)
    masks[0, :3] = 3
    logits = order.standard_normal((count, CLASSES, SIDE, SIDE))
    logits += 1.5 * (np.arange(CLASSES)[:, None, None] == masks[:, None])
    masks[order.uniform(size=masks.shape) < 0.1] = 255
    return logits, masks


def by_sklearn(logits: Array, masks: Array) -> float:
    looked = masks != 255
    return float(jaccard_score(masks[looked], logits.argmax(1)[looked], average="macro"))


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_it_is_sklearns(batch: int) -> None:
    logits, masks = drawn()
    found = task.score(saying(logits), made(masks), "x", batch)
    assert (found.metric, found.images) == ("mIoU", 9)
    assert found.value == pytest.approx(by_sklearn(logits, masks), abs=1e-12)  # a mean of five quotients
    looked = masks != 255
    assert found.details["pixel_accuracy"] == accuracy_score(masks[looked], logits.argmax(1)[looked])


def test_each_class_by_name_and_none_for_what_does_not_occur() -> None:
    logits, masks = drawn()
    logits[:, 4] = -9
    names = ("ground", "a", "b", "c", "d")
    found = task.score(saying(logits), made(masks, names), "x").details["iou"]
    looked = masks != 255
    wanted = jaccard_score(masks[looked], logits.argmax(1)[looked], average=None)
    assert [found[n] for n in names[:4]] == pytest.approx(wanted.tolist(), abs=1e-12)
    assert found["d"] is None


def test_resampling_is_the_metric_of_those_images() -> None:
    logits, masks = drawn()
    found = task.score(saying(logits), made(masks), "x")
    weights = np.array([[0, 2, 0, 1, 0, 0, 3, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0]])
    for row, value in zip(weights, found.resample(weights), strict=True):
        picked = np.repeat(np.arange(9), row)
        assert value == pytest.approx(by_sklearn(logits[picked], masks[picked]), abs=1e-12)
    assert found.per_sample[3] == pytest.approx(by_sklearn(logits[3:4], masks[3:4]), abs=1e-12)


def test_an_image_that_counts_for_nothing_has_no_score_of_its_own() -> None:
    logits, masks = drawn()
    masks[2] = 255
    found = task.score(saying(logits), made(masks), "x")
    assert np.isnan(found.per_sample[2])
    assert np.isfinite(np.delete(found.per_sample, 2)).all()
    with pytest.raises(BadInput, match="every pixel is 255"):
        task.score(saying(logits), made(np.full_like(masks, 255)), "x")


def test_nan_has_no_class_and_counts_against_the_truth() -> None:
    logits, masks = np.zeros((2, SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)
    logits[0] = 1
    logits[1, 0] = np.nan
    both, truth, answer = task.counts(logits, masks)
    assert (both.tolist(), truth.tolist(), answer.tolist()) == ([132, 0], [144, 0], [132, 0])
    assert task.iou(both, truth, answer)[0] == 132 / 144
    images = np.tile(logits, (2, 1, 1, 1))
    found = task.score(saying(images), made(np.stack([masks, masks])), "x")
    assert found.details["pixel_accuracy"] == 132 / 144


def test_what_does_not_fit() -> None:
    logits, masks = drawn()
    with pytest.raises(
        BadInput, match=r"output: is \[5, 6, 6\] for one image; mIoU needs \(classes, 12, 8\).*; let forward"
    ):
        task.score(saying(logits[:, :, ::2, :6]), made(masks[:, :, :8]), "x")
    masks[4, 0, 0] = 7
    with pytest.raises(BadInput, match="image 4: its mask has class 7, unknown to a network with 5; check the data"):
        task.score(saying(logits), made(masks), "x")
    with pytest.raises(BadInput, match="made: has no masks; give images/ and masks/"):
        task.score(saying(logits), made(masks).without_answers(), "x")


def test_a_map_of_fewer_pixels_is_enlarged_as_run_enlarges_it() -> None:
    logits, masks = drawn()
    small = logits[:, :, ::3, ::3]
    found = task.score(saying(small), made(masks), "x")
    geometry = Geometry.same((12, 12))
    shown = np.stack([geometry.mask_to_image(one.argmax(0).astype(np.uint8)) for one in small])
    assert np.array_equal(shown, np.kron(small.argmax(1), np.ones((3, 3), int)))
    assert found.details["pixel_accuracy"] == (shown == masks)[masks != 255].mean()


def test_the_drop_of_a_worse_network_is_above_zero() -> None:
    logits, masks = drawn(40)
    noise = np.random.default_rng(9).standard_normal(logits.shape)
    ours, theirs = (task.score(saying(x), made(masks), "x") for x in (logits, logits + noise))
    found = task.drop(ours, theirs)
    assert found.value == pytest.approx(ours.value - theirs.value, abs=1e-12)
    assert 0 < found.low < found.value < found.high
    assert "bootstrap" in found.method


def test_agreement_is_the_overlap_of_masks() -> None:
    logits, masks = drawn()
    other = logits.copy()
    other[0, :, :6] = -np.inf
    feeds = made(masks).without_answers().feeds("x", 4)
    found = task.agreement(saying(logits), saying(other), feeds)
    said = logits.argmax(1)
    kept = said.copy()
    kept[0, :6] = CLASSES  # of no class: nothing near it is forgiven
    names = [c for c in range(CLASSES) if (said == c).sum() >= 100]
    wanted = jaccard_score(said.ravel(), kept.ravel(), average=None, labels=names).mean()
    assert (found.share, found.images) == (pytest.approx(wanted, abs=1e-12), 9)
    assert found.changed == pytest.approx(0.5 / 9, abs=1e-12)
    assert found.lost == 1 - found.share > found.changed
    with pytest.raises(BadInput, match="masks of one size are needed"):
        task.agreement(saying(logits), saying(other[:, :, :6]), feeds)


def test_a_lost_class_of_few_pixels_is_no_agreement() -> None:
    """1.4 % of the pixels change, and half of what mIoU looks at is gone."""
    logits = np.zeros((2, 2, 120, 120))
    logits[:, 1, 40:54, 40:54] = 1
    logits[:, 0] = 0.5
    load = lambda i: np.full((1, 120, 120), i, np.float32)  # noqa: E731
    feeds = Samples("made", ("0", "1"), load).feeds("x", 1)
    lost = task.agreement(saying(logits), saying(logits * [[[1]], [[0]]]), feeds)
    assert lost.share == pytest.approx((1 - 14 * 14 / 120**2) / 2, abs=1e-12)
    assert lost.changed == pytest.approx(14 * 14 / 120**2, abs=1e-12)
    moved = np.roll(logits, 1, axis=3)
    near = task.agreement(saying(logits), saying(moved), feeds)
    either = 14 * 15
    ground = 1  # of 28 pixels, all are forgiven
    assert near.share == pytest.approx((ground + (14 * 13 + 0.05 * either) / either) / 2, abs=1e-12)


def test_the_share_of_equal_pixels_decides_where_it_is_less() -> None:
    """Stripes are all edge: what changes in them is forgiven to their classes, and is still a share of the pixels."""
    striped = np.zeros((1, 2, 120, 120))
    striped[:, 1, :, ::4] = striped[:, 1, :, 1::4] = 1
    striped[:, 0] = 0.5
    frayed = striped.copy()
    frayed[:, 1, ::40, 1::4] = 0  # 3 * 30 of 14400
    load = lambda i: np.full((1, 120, 120), i, np.float32)  # noqa: E731
    found = task.agreement(saying(striped), saying(frayed), Samples("made", ("0",), load).feeds("x", 1))
    assert (found.share, found.lost) == (1.0, pytest.approx(90 / 120**2, abs=1e-12))


def test_images_and_masks_move_together() -> None:
    masks = np.random.default_rng(0).integers(0, 255, (40, 32, 48)).astype(np.uint8)
    images = masks[:, None].astype(np.float32)
    for flip in (False, True):
        moved, answers = task.augment(images, masks, np.random.default_rng(1), flip)
        assert np.array_equal(moved[:, 0], answers.astype(np.float32))
        assert not np.array_equal(answers, masks)


def test_the_loss_looks_away_from_255() -> None:
    import torch

    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    masks = np.random.default_rng(0).integers(0, 3, (2, 4, 4)).astype(np.uint8)
    masks[0, 0] = 255
    logs = torch.log_softmax(logits, 1).numpy()
    seen = np.argwhere(masks != 255)
    wanted = [-logs[n, masks[n, y, x], y, x] for n, y, x in seen]
    shares = np.bincount(masks[masks != 255]) / len(seen)
    weights = [shares[masks[n, y, x]] ** -0.5 for n, y, x in seen]
    p = [np.exp(logs)[:, c][masks != 255] for c in range(3)]
    dice = np.mean([2 * p[c][masks[masks != 255] == c].sum() / (p[c].sum() + len(seen) * shares[c]) for c in range(3)])
    value = float(task.loss(torch.nn.Identity(), logits, masks, 0.0))
    assert value == pytest.approx(np.average(wanted, weights=weights) + 1 - dice, abs=2e-6)  # float32
