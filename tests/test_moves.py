"""Moved pictures are where numpy's own padding puts them, and boxes follow."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn import tasks
from edgecnn.data.moves import area, flip_images, flip_target, flips, shift_images, shift_target, shifts
from edgecnn.data.samples import Target
from edgecnn.tasks import keypoints
from edgecnn.tasks.image import Wanted
from runtimes.base import BadInput


def test_a_shift_is_a_cut_from_the_padded_image() -> None:
    images = np.random.default_rng(0).standard_normal((40, 2, 32, 48)).astype(np.float32)
    down, right = shifts(images.shape, np.random.default_rng(1))
    assert (down.min(), down.max(), right.min(), right.max()) == (-2, 2, -3, 3)
    for image, moved, y, x in zip(images, shift_images(images, down, right), down, right, strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (3, 3)), mode="edge")
        assert np.array_equal(moved, padded[:, 2 + y : 34 + y, 3 + x : 51 + x])


def test_signals_and_volumes_move_along_every_axis_that_they_have() -> None:
    signals = np.random.default_rng(0).standard_normal((40, 2, 64)).astype(np.float32)
    (along,) = shifts(signals.shape, np.random.default_rng(1))
    assert (along.min(), along.max()) == (-4, 4)
    for signal, moved, by in zip(signals, shift_images(signals, along), along, strict=True):
        assert np.array_equal(moved, np.pad(signal, ((0, 0), (4, 4)), mode="edge")[:, 4 + by : 68 + by])
    volume = np.random.default_rng(2).standard_normal((1, 1, 3, 4, 5))
    one, two, three = (np.array([by]) for by in (1, -2, 3))
    padded = np.pad(volume[0], ((0, 0), (3, 3), (3, 3), (3, 3)), mode="edge")
    assert np.array_equal(shift_images(volume, one, two, three)[0], padded[:, 4:7, 1:5, 6:11])


def test_what_has_no_places_is_not_moved() -> None:
    rows = np.arange(12.0).reshape(4, 3)
    assert shifts(rows.shape, np.random.default_rng(0)) == ()
    assert shift_images(rows) is rows


def test_small_images_are_not_moved() -> None:
    down, right = shifts((9, 3, 15, 15), np.random.default_rng(0))
    assert not down.any()
    assert not right.any()


def test_masks_have_no_channels() -> None:
    masks = np.random.default_rng(0).integers(0, 9, (5, 32, 32))
    moves = shifts((5, 1, 32, 32), np.random.default_rng(0))
    assert np.array_equal(shift_images(masks, *moves), shift_images(masks[:, None], *moves)[:, 0])
    assert np.array_equal(flip_images(masks, np.array([1, 0, 0, 0, 1], bool))[4], masks[4, :, ::-1])


def test_half_of_the_images_are_mirrored() -> None:
    assert 400 < flips(1000, np.random.default_rng(0)).sum() < 600


def test_boxes_are_cut_at_the_edge_and_left_out_when_almost_gone() -> None:
    boxes = np.array([[2, 2, 10, 10], [0, 8, 4, 12], [26, 10, 32, 14]], np.float32)
    target = Target.of(boxes, np.array([0, 1, 2]), np.array([False, True, False]))
    moved = shift_target(target, 1, 3, (20, 32))
    assert moved.boxes.tolist() == [[0, 1, 7, 9], [0, 7, 1, 11], [23, 9, 29, 13]]  # a quarter of the second is left
    assert moved.labels.tolist() == [0, 1, 2]
    assert shift_target(target, 0, 4, (20, 32)).labels.tolist() == [0, 2]
    assert shift_target(target, 0, 4, (20, 32)).crowd.tolist() == [False, False]
    assert shift_target(target, 0, -3, (20, 32)).boxes[2].tolist() == [29, 10, 32, 14]


def test_mirrored_boxes() -> None:
    target = Target.of(np.array([[2, 3, 10, 12]]), np.array([1]))
    assert flip_target(target, 32).boxes.tolist() == [[22, 3, 30, 12]]
    assert flip_target(flip_target(target, 32), 32).boxes.tolist() == target.boxes.tolist()


@pytest.mark.parametrize(
    ("box", "pixels"), [([0, 0, 3, 2], 6), ([3, 0, 0, 2], 0), ([1, 1, 1, 5], 0), ([4, 4, 2, 2], 0)]
)
def test_area(box: list[int], pixels: int) -> None:
    assert area(np.array([box], np.float32)).tolist() == [pixels]


@pytest.mark.parametrize("name", [name for name in tasks.names() if hasattr(tasks.load(name), "augment")])
def test_images_are_mirrored_only_where_the_data_allows_it(name: str) -> None:
    """All get brighter to the right; the answers of two tasks have places of their own, those of others do not move."""
    images = np.tile(np.arange(48, dtype=np.float32), (40, 1, 32, 1))
    answers = {
        "detection": [Target.of(np.array([[6, 6, 20, 20]]), np.array([0]))] * 40,
        "segmentation": np.zeros((40, 32, 48), np.uint8),
        "image": Wanted(images.transpose(0, 2, 3, 1), 0.0, 1.0),
        "keypoints": keypoints.Wanted(np.zeros((40, 2)), np.ones((40, 1, 2)), np.zeros((40, 1, 2)), (0.0, 1.0)),
    }.get(name, np.zeros(40))
    for flip in (False, True):
        if flip and name == "keypoints":
            with pytest.raises(BadInput, match="left and right points would be in each other's place"):
                tasks.load(name).augment(images, answers, np.random.default_rng(1), flip)
            continue
        moved, _ = tasks.load(name).augment(images, answers, np.random.default_rng(1), flip)
        brighter = sum(bool((np.diff(image[0], axis=1) >= 0).all()) for image in moved)
        assert brighter == 40 if not flip else 10 < brighter < 30
