"""Folders and arrays with masks and boxes: moved with their images, and one line for what is wrong with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecnn.data.images import image_size, read_image, read_mask
from edgecnn.data.load import load_data
from edgecnn.networks.spec import unit_range
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess

READY = unit_range(16, 16)
CROP = Preprocess((16, 16), resize=16)


def picture(path: Path, height: int = 32, width: int = 64, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).convert(mode).save(path)


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """Six images 64x32 whose left half is class 1, the right one 2, with one row of 255."""
    root = tmp_path / "photos"
    for i in range(6):
        picture(root / "images" / f"{i}.jpg")
        mask = np.full((32, 64), 2, np.uint8)
        mask[:, :32], mask[:2] = 1, 255
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    (root / "labels.txt").write_text("ground\nleft\nright\n")
    return root


# ---------------------------------------------------------------------------------------------------------------- masks
def test_masks_are_stretched_with_their_images(masked: Path) -> None:
    samples = load_data(masked, READY)
    assert samples.class_names == ("ground", "left", "right")
    assert samples.labels is None
    assert len(samples) == len(samples.masks) == 6
    wanted = np.full((16, 16), 2)
    wanted[:, :8], wanted[0] = 1, 255
    assert np.array_equal(samples.masks[3], wanted)
    assert np.array_equal(samples[3], READY(read_image(masked / "images" / "3.jpg")))


def test_masks_are_cut_with_their_images(masked: Path) -> None:
    mask = load_data(masked, CROP).masks[0]
    wanted = np.full((16, 16), 2)
    wanted[:, :8], wanted[0] = 1, 255
    assert np.array_equal(mask, wanted)


def test_parts_and_calibration_use_the_images_only(masked: Path) -> None:
    train, test = (load_data(masked, READY, split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (5, 1)
    assert len(train.masks) == 5
    assert all("/images/" in name for name in load_data(masked, READY).ids)


def test_own_train_and_val_folders(masked: Path, tmp_path: Path) -> None:
    root = tmp_path / "both"
    root.mkdir()
    masked.rename(root / "train")
    for kind in ("images", "masks"):
        (root / "val" / kind).mkdir(parents=True)
        for name in ("0", "1"):
            source = next((root / "train" / kind).glob(f"{name}.*"))
            source.rename(root / "val" / kind / source.name)
    with pytest.raises(BadInput, match="its two parts name different classes"):
        load_data(root, READY)
    (root / "train" / "labels.txt").rename(root / "labels.txt")
    parts = {split: load_data(root, READY, split=split) for split in ("all", "train", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"all": 6, "train": 4, "test": 2}
    assert parts["all"].class_names == ("ground", "left", "right")
    assert np.array_equal(parts["all"].masks[5], parts["test"].masks[1])
    assert np.array_equal(parts["all"][5], parts["test"][1])


def test_palette_masks_hold_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8), "P")
    image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 1], [2, 255]]


@pytest.mark.parametrize(
    ("break_it", "match"),
    [
        (lambda r: (r / "masks/2.png").unlink(), r"masks/2.png: no such mask; save the class of every pixel there"),
        (
            lambda r: picture(r / "masks/2.png", 16, 64, "L"),
            r"masks/2.png: is 64x16, its image 64x32; save it as large",
        ),
        (lambda r: picture(r / "masks/2.png"), r"masks/2.png: holds RGB pixels; a mask is a grey or palette PNG"),
        (lambda r: picture(r / "masks/2.png", mode="L"), r"masks/2.png: holds class \d+, but there are 3 names"),
        (lambda r: (r / "masks/2.png").write_bytes(b"junk"), r"masks/2.png: is not an image or is damaged"),
    ],
)
def test_masks_that_cannot_be_used(break_it: Any, match: str, masked: Path) -> None:
    break_it(masked)
    with pytest.raises(BadInput, match=match):
        list(load_data(masked, READY).masks)


def test_a_folder_of_masks_without_images(masked: Path) -> None:
    for file in (masked / "images").iterdir():
        file.unlink()
    with pytest.raises(BadInput, match="images: holds no images; put them there, and their masks into"):
        load_data(masked, READY)


def test_the_camera_may_have_been_turned(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    image = Image.fromarray(np.zeros((32, 64, 3), np.uint8))
    for value, size in ((1, (32, 64)), (3, (32, 64)), (6, (64, 32)), (8, (64, 32))):
        exif = Image.Exif()
        exif[0x0112] = value
        image.save(path, exif=exif)
        assert image_size(path) == size == read_image(path).shape[:2]


# --------------------------------------------------------------------------------------------------------------- arrays
def test_masks_and_boxes_of_uint8_pictures_are_moved(tmp_path: Path) -> None:
    x = np.zeros((3, 32, 64), np.uint8)
    masks = np.zeros((3, 32, 64), np.int64)
    masks[:, :, 32:] = 2
    boxes = np.array([[0, 0, 32, 32], [32, 16, 64, 32]])
    np.savez(tmp_path / "a.npz", x=x, masks=masks, boxes=boxes, box_labels=np.array([0, 4]), box_image=np.array([2, 2]))
    samples = load_data(tmp_path / "a.npz", READY)
    assert samples.masks[0].dtype == np.uint8
    assert samples.masks[0][0].tolist() == [0] * 8 + [2] * 8
    assert [len(t.labels) for t in samples.targets] == [0, 0, 2]
    assert samples.targets[2].boxes.tolist() == [[0, 0, 8, 16], [8, 8, 16, 16]]
    assert samples.class_names == tuple("01234")


def test_pictures_without_any_object_are_read(tmp_path: Path) -> None:
    none = {"boxes": np.zeros((0, 4), np.float32), "box_labels": np.zeros(0, int), "box_image": np.zeros(0, int)}
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 16, 16, 3), np.uint8), **none)
    assert [len(target.labels) for target in load_data(tmp_path / "a.npz", READY).targets] == [0] * 4
    np.savez(tmp_path / "[boxes].npz", x=np.zeros((0, 16, 16, 3), np.uint8), **none)
    with pytest.raises(BadInput, match=r"\[x.npy\]: is empty, shape \[0, 16, 16, 3\]; save at least one image"):
        load_data(tmp_path / "[boxes].npz", READY)


def test_those_of_ready_arrays_stay(tmp_path: Path) -> None:
    x, masks = np.zeros((2, 3, 16, 16), np.float32), np.random.default_rng(0).integers(0, 3, (2, 16, 16))
    np.savez(tmp_path / "a.npz", x=x, masks=masks)
    samples = load_data(tmp_path / "a.npz", CROP)
    assert np.array_equal(samples.masks[1], masks[1])
    assert samples.class_names == ()


def test_boxes_of_arrays_may_be_in_any_order(tmp_path: Path) -> None:
    image, x = np.array([2, 0, 2, 0, 2]), np.zeros((3, 16, 16, 3), np.uint8)
    boxes = np.array([[i, i, i + 4, i + 4] for i in range(5)], np.float32)
    np.savez(tmp_path / "a.npz", x=x, boxes=boxes, box_labels=np.arange(5), box_image=image)
    samples = load_data(tmp_path / "a.npz", READY)
    assert [target.labels.tolist() for target in samples.targets] == [[1, 3], [], [0, 2, 4]]
    assert samples.targets[0].boxes.tolist() == boxes[[1, 3]].tolist()


def test_the_boxes_of_an_image_cost_the_same_among_many(tmp_path: Path) -> None:
    """Of all others none is looked at again for each image: a million take as long as a thousand."""
    taken = []
    for count in (1_000, 1_000_000):
        image = np.minimum(np.arange(count), 500)
        boxes = np.tile(np.array([1, 1, 9, 9], np.float32), (count, 1))
        arrays = {"boxes": boxes, "box_labels": np.zeros(count, int), "box_image": image}
        np.savez(tmp_path / "a.npz", x=np.zeros((501, 16, 16), np.uint8), **arrays)
        targets = load_data(tmp_path / "a.npz", READY).targets
        began = time.perf_counter()
        assert all(len(targets[i].labels) == 1 for i in range(200))
        taken.append(time.perf_counter() - began)
    assert taken[1] < 10 * taken[0]


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        (
            {"masks": np.zeros((2, 16, 16), int)},
            r"masks are int64 \[2, 16, 16\]; whole numbers from 0 to 255, \[3, 16, 16\]",
        ),
        ({"masks": np.zeros((3, 8, 8), int)}, r"masks are int64 \[3, 8, 8\]"),
        ({"masks": np.zeros((3, 16, 16))}, "masks are float64"),
        ({"masks": np.full((3, 16, 16), 256)}, "whole numbers from 0 to 255"),
        ({"boxes": np.zeros((1, 4))}, "box_image .*, are needed; save them together"),
        ({"boxes": np.zeros((1, 5)), "box_labels": [0], "box_image": [0]}, "are needed; save them together"),
        ({"boxes": np.zeros((1, 4)), "box_labels": [0], "box_image": [3]}, "are needed; save them together"),
        ({"boxes": np.zeros((1, 4)), "box_labels": [-1], "box_image": [0]}, "are needed; save them together"),
        ({"boxes": np.zeros((1, 4)), "box_labels": [0.5], "box_image": [0]}, "are needed; save them together"),
        ({"boxes": np.full((1, 4), np.nan), "box_labels": [0], "box_image": [0]}, "are needed; save them together"),
    ],
)
def test_arrays_that_do_not_fit(arrays: dict[str, Any], match: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 16, 16, 3), np.uint8), **arrays)
    with pytest.raises(BadInput, match=match):
        load_data(tmp_path / "a.npz", READY)
