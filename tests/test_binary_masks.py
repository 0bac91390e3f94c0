"""Masks of 0 and 255: 255 is class 1 where nothing else occurs in the whole set, and counts for nothing elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn import doubts
from edgecnn.cli import main
from edgecnn.data import binary_masks
from edgecnn.data.load import load_data
from edgecnn.data.samples import Samples
from edgecnn.networks.spec import unit_range
from runtimes.base import Array
from runtimes.imaging.preprocess import Preprocess

READY = unit_range(16, 16, channels=1)
NET = """
import torch
from torch import nn

class Net(nn.Module):
    task = "segmentation"
    input_shape = (1, 16, 16)
    preprocess = {"mean": [0.5], "std": [0.25]}
    labels = ("ground", "spot")

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.b(self.a(x).relu())
"""


def spot(i: int, value: int = 255) -> Array:
    mask = np.zeros((16, 16), np.uint8)
    mask[4 : 9 + i % 3, 2 + i % 5 : 10] = value
    return mask


def folder(root: Path, *masks: Array) -> Path:
    """Pictures that are bright where the mask is."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for i, mask in enumerate(masks):
        order = np.random.default_rng(i)
        picture = 60 + 120 * (mask > 0) + order.integers(0, 30, mask.shape)
        Image.fromarray(picture.astype(np.uint8)).save(root / "images" / f"{i:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i:02}.png")
    return root


def classes(samples: Samples) -> set[int]:
    assert samples.masks is not None
    return {int(c) for mask in samples.masks for c in np.unique(mask)}


def test_255_is_class_1_where_nothing_else_occurs(tmp_path: Path) -> None:
    root = folder(tmp_path / "a", np.zeros((16, 16), np.uint8), *map(spot, range(4)))
    samples = load_data(root, READY)
    assert samples.masks is not None
    assert np.array_equal(samples.masks[2], spot(1, 1))
    line = f"{root}: its masks hold 0 and 255 alone, and 255 is read as class 1; save class 1 as 1 where 255 shall"
    assert doubts.of_masks(samples.subset([0, 1])).startswith(line)
    assert doubts.of_masks(samples.without_answers()) == ""
    assert classes(samples.subset([0])) == {0}
    bordered = load_data(root, Preprocess((16, 32), channels=1, letterbox=114))
    assert bordered.masks is not None
    assert classes(bordered) == {0, 1, 255}, "a border still counts for nothing"


@pytest.mark.parametrize("last", [np.uint8([[1]]), np.uint8([[7]])])
def test_any_other_class_keeps_255_for_nothing(last: Array, tmp_path: Path) -> None:
    mask = spot(9)
    mask[:1, :1] = last
    root = folder(tmp_path / "a", *map(spot, range(3)), mask)
    samples = load_data(root, READY)
    assert classes(samples.subset([0, 1, 2])) == {0, 255}
    assert doubts.of_masks(samples) == ""
    Image.fromarray(spot(9)).save(root / "masks" / "03.png")
    assert classes(load_data(root, READY)) == {0, 1}, "files that have changed are looked at again"


def test_sets_without_255_and_sets_of_three_names_stay(tmp_path: Path) -> None:
    plain = load_data(folder(tmp_path / "a", spot(0, 1), spot(1, 0)), READY)
    assert (classes(plain), doubts.of_masks(plain)) == ({0, 1}, "")
    named = folder(tmp_path / "b", spot(0))
    for names, wanted in (("a\nb\n", {0, 1}), ("a\nb\nc\n", {0, 255})):
        (named / "labels.txt").write_text(names)
        assert classes(load_data(named, READY)) == wanted


def test_both_parts_are_read_alike(tmp_path: Path) -> None:
    folder(tmp_path / "a" / "train", spot(0), spot(1, 1))
    folder(tmp_path / "a" / "val", spot(2))
    assert classes(load_data(tmp_path / "a", READY, split="test")) == {0, 255}
    assert classes(load_data(tmp_path / "a" / "val", READY)) == {0, 255}
    assert classes(load_data(tmp_path / "a", READY)) == {0, 1, 255}
    Image.fromarray(spot(1)).save(tmp_path / "a" / "train" / "masks" / "01.png")
    for split in ("all", "train", "test"):
        samples = load_data(tmp_path / "a", READY, split=split)
        assert classes(samples) == {0, 1}
        assert doubts.of_masks(samples)


def test_vocs_folder(tmp_path: Path) -> None:
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    folder(tmp_path, *map(spot, range(3)))
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    (tmp_path / "masks").rename(tmp_path / "SegmentationClass")
    for name, listed in (("train", "00\n01\n"), ("val", "02\n")):
        (tmp_path / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(listed)
    assert classes(load_data(tmp_path, READY, split="test")) == {0, 1}
    Image.fromarray(spot(0, 1)).save(tmp_path / "SegmentationClass" / "00.png")
    assert classes(load_data(tmp_path, READY, split="test")) == {0, 255}


def test_masks_are_looked_at_once_and_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = binary_masks.read_mask
    monkeypatch.setattr(binary_masks, "read_mask", lambda path: (read.append(path.name), real(path))[1])
    root = folder(tmp_path / "a", *map(spot, range(3)))
    parts = [load_data(root, READY, split=split) for split in ("train", "test")]
    assert read == []
    assert [classes(part) for part in parts] == [{0, 1}] * 2
    assert read == ["00.png", "01.png", "02.png"]
    read.clear()
    other = load_data(folder(tmp_path / "b", spot(0), spot(1, 1), spot(2)), READY)
    assert classes(other) == {0, 1, 255}
    assert read == ["00.png", "01.png"]


@pytest.mark.parametrize(
    ("masks", "wanted", "told"),
    [
        (np.stack([spot(0), spot(1)]), {0, 1}, True),
        (np.stack([spot(0), spot(1)]).astype(np.int64), {0, 1}, True),
        (np.stack([spot(0), spot(1)]) > 0, {0, 1}, False),
        (np.stack([spot(0), spot(1, 2)]), {0, 2, 255}, False),
    ],
)
def test_arrays(masks: Array, wanted: set[int], told: bool, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 16, 16), np.uint8), masks=masks)
    samples = load_data(tmp_path / "a.npz", READY)
    assert samples.masks is not None
    assert samples.masks[0].dtype == np.uint8
    assert (classes(samples), bool(doubts.of_masks(samples))) == (wanted, told)


def test_the_whole_road_learns_and_scores_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """train, evaluate, build and quantize: all say how 255 is read, and name the classes as the model does."""
    (tmp_path / "nets.py").write_text(NET)
    data, net = str(folder(tmp_path / "spots", *map(spot, range(40)))), f"{tmp_path}/nets.py:Net"
    weights = ["--weights", str(tmp_path / "w.safetensors")]

    def run(*words: str) -> dict[str, object]:
        assert main([*words, "--json"]) == 0
        done = capsys.readouterr()
        assert done.err.count("255 is read as class 1") == 1
        return dict(json.loads(done.out))

    run("train", net, "--data", data, "-o", weights[1], "--epochs", "30", "--rate", "0.1")
    found = run("evaluate", net, *weights, "--data", data)
    (model,) = found["models"]  # type: ignore[misc]
    assert list(model["iou"]) == ["ground", "spot"]  # type: ignore[index]
    assert min(model["iou"].values()) > 0.9  # type: ignore[index]
    judged = ("--calib", data, "--data", data, "--search-budget", "0", "--max-drop", "1")
    built = run("build", net, *weights, *judged, "-o", str(tmp_path / "n.edge"))
    assert built["candidates"][0]["accuracy"] > 0.9  # type: ignore[index]
    assert main(["export", net, *weights, "-o", str(tmp_path / "n.onnx")]) == 0
    capsys.readouterr()
    run("quantize", str(tmp_path / "n.onnx"), *judged, "-o", str(tmp_path / "q.onnx"))
