"""A picture for each picture, from folders and arrays: as many, of any size, in the colours that are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn.data.load import load_data
from edgecnn.data.pairs import wanted
from edgecnn.data.samples import Samples
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess

READY = Preprocess((4, 4))
SMALL = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
LARGE = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), np.uint8)


def folder(root: Path, count: int = 6) -> Path:
    for kind, pictures, ending in (("images", SMALL, "png"), ("targets", LARGE, "bmp")):
        (root / kind / "deep").mkdir(parents=True)
        for i in range(count):
            Image.fromarray(pictures[i]).save(root / kind / "deep" / f"{i}.{ending}")
    return root


def both(samples: Samples, index: int) -> tuple[list[object], list[object]]:
    return samples[index].tolist(), wanted(samples, index).tolist()


def test_folder_and_arrays_hold_the_same(tmp_path: Path) -> None:
    np.savez(tmp_path / "pairs.npz", x=SMALL, y=LARGE)
    sets = [
        load_data(str(folder(tmp_path / "photos")), READY, task="image"),
        load_data(str(tmp_path / "pairs.npz"), READY, task="image", as_truth=True),
        load_data((SMALL, LARGE), READY, task="image", as_truth=True),
        load_data((SMALL, LARGE.astype(np.uint16) * 257), READY, task="image", as_truth=True),
        load_data((SMALL, LARGE.transpose(0, 3, 1, 2) / np.float32(255)), READY, task="image", as_truth=True),
    ]
    for samples in sets:
        assert samples.truth is None
        assert len(samples) == 6
        assert both(samples, 3) == both(sets[0], 3)
        assert both(samples.subset([3, 1]), 0) == both(samples, 3)
        assert samples.without_answers().pictures is None
    assert np.allclose(wanted(sets[0], 2), LARGE[2] / 255)


def test_parts_and_all_of_them(tmp_path: Path) -> None:
    folder(tmp_path / "train", 4)
    folder(tmp_path / "val", 2)
    load = {part: load_data(str(tmp_path), READY, task="image", split=part) for part in ("train", "test", "all")}
    assert {part: len(samples) for part, samples in load.items()} == {"train": 4, "test": 2, "all": 6}
    assert both(load["all"], 4) == both(load["test"], 0)


def test_colours_are_what_the_answer_has() -> None:
    samples = load_data((SMALL, LARGE), READY, task="image", as_truth=True)
    luma = wanted(samples, 0, 1)
    assert luma.shape == (8, 8, 1)
    assert np.allclose(luma[:, :, 0], LARGE[0] @ [0.299, 0.587, 0.114] / 255, atol=0.51 / 255)
    grey = load_data((SMALL, LARGE[..., 0]), READY, task="image", as_truth=True)
    assert wanted(grey, 0).shape == (8, 8, 1)
    assert wanted(grey, 0, 3).shape == (8, 8, 3)
    turned = load_data((SMALL, LARGE), Preprocess((4, 4), bgr=True), task="image", as_truth=True)
    assert np.array_equal(wanted(turned, 0), wanted(samples, 0)[:, :, ::-1])


def test_numbers_stand_for_the_levels_of_the_network() -> None:
    signed = Preprocess((4, 4), mean=(0.5,), std=(0.5,))
    y = np.float32([-1, 0, 1, 3])[:, None, None, None] * np.ones((1, 1, 8, 8), np.float32)
    samples = load_data((SMALL[:4], y), signed, task="image", as_truth=True)
    assert [wanted(samples, i)[0, 0, 0] for i in range(4)] == [0, 0.5, 1, 1]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda root: (root / "targets/deep/2.bmp").unlink(), r"images/deep/2\.png: has no target; save what it"),
        (lambda root: Image.new("L", (8, 8)).save(root / "targets/deep/2.png"), "is one of two targets of that name"),
        (lambda root: [f.unlink() for f in (root / "images/deep").iterdir()], "images: holds no images"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, broken: object, message: str) -> None:
    root = folder(tmp_path / "photos")
    broken(root)  # type: ignore[operator]
    with pytest.raises(BadInput, match=message):
        load_data(str(root), READY, task="image")


def test_what_is_no_picture_is_refused() -> None:
    for y in (np.zeros((6, 8, 8, 2), np.uint8), np.zeros((6, 8), np.uint8), np.zeros((6, 8, 8, 3), np.int64)):
        samples = load_data((SMALL, y), READY, task="image", as_truth=True)
        with pytest.raises(BadInput, match="for one picture; uint8 or uint16"):
            wanted(samples, 0)


def test_a_target_with_nan_is_named() -> None:
    y = np.zeros((6, 3, 8, 8), np.float32)
    y[4, 0, 0, 0] = np.nan
    samples = load_data((SMALL, y), READY, task="image", as_truth=True)
    with pytest.raises(BadInput, match=r"\[4\]: its target: holds NaN or infinity"):
        wanted(samples, 4)


def test_without_the_task_it_is_named() -> None:
    with pytest.raises(BadInput, match="--task image reads what is in y"):
        load_data((SMALL, LARGE), READY)
