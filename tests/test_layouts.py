"""The layouts that practitioners have on disk: the same boxes from each, and each of use to every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_folders import HEIGHT, TEST, TRAIN, WIDTH, coco_folder, objects, picture, voc_folder, voc_masks, yolo_folder
from edgecnn.cli import main
from edgecnn.data import layouts
from edgecnn.data.load import load_data
from edgecnn.data.parts import part
from edgecnn.networks.spec import unit_range
from runtimes.base import BadInput
from small_nets import conv_net, save

READY = unit_range(HEIGHT, WIDTH)
MAKERS: dict[str, Callable[[Path], Path]] = {
    "coco": coco_folder,
    "voc": voc_folder,
    "yolo": yolo_folder,
    "yolo, parts first": partial(yolo_folder, parts_first=True),
}


@pytest.fixture(params=list(MAKERS))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return MAKERS[request.param](tmp_path / "data")


def test_each_gives_the_same_boxes_in_the_same_parts(folder: Path) -> None:
    for split, numbers in (("train", TRAIN), ("test", TEST), ("all", (*TRAIN, *TEST))):
        samples = load_data(folder, READY, split=split, task="detection")
        assert samples.class_names == ("ant", "bee", "cat")
        assert len(samples) == len(samples.targets) == len(numbers)
        for i, target in zip(numbers, samples.targets, strict=True):
            assert np.allclose(target.boxes, np.array([box for _, box, _ in objects(i)]).reshape(-1, 4), atol=1e-5)
            assert [samples.class_names[k] for k in target.labels] == [name for name, _, _ in objects(i)]
            assert not target.crowd.any()


def test_pictures_are_those_of_their_boxes(folder: Path, tmp_path: Path) -> None:
    samples = load_data(folder, READY, split="test")
    for k, i in enumerate(TEST):
        picture(tmp_path / "one.jpg", seed=i)
        assert np.array_equal(samples[k], READY(np.asarray(Image.open(tmp_path / "one.jpg"))))


def test_parts_are_known_without_a_folder_called_train(folder: Path) -> None:
    assert layouts.has_parts(folder)
    assert (part("train", str(folder), None), part("test", str(folder), "other")) == ("train", "test")
    assert len(load_data(folder, READY, split="train")) == len(TRAIN)


def test_they_are_data_of_check(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(conv_net(size=8), tmp_path / "net.onnx")
    assert main(["check", str(model), str(model), "--data", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6


def test_they_calibrate_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = voc_folder(tmp_path / "voc")
    model, output = save(conv_net(size=8), tmp_path / "net.onnx"), tmp_path / "int8.onnx"
    told = ["quantize", str(model), "-o", str(output), "--calib", str(folder), "--search-budget", "0", "--allow-slower"]
    assert main([*told, "--json"]) == 0, capsys.readouterr().err
    assert output.exists()


def test_a_detector_is_scored_on_their_test_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "names.txt").write_text("ant\nbee\ncat\n")
    assert main(["evaluate", "ssd_tiny", "--data", str(folder), "--labels", str(folder / "names.txt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["metric"]) == (2, "mAP@[.5:.95]")
    assert set(found["models"][0]["ap"]) >= {"ant", "bee", "cat"}
    assert found["models"][0]["ap"]["ant"] is None  # only in the train part


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo"])
def test_a_detector_is_trained_on_them(kind: str, tmp_path: Path) -> None:
    from edgecnn.training.train import train

    report = train("ssd_tiny", str(MAKERS[kind](tmp_path / "data")), tmp_path / "w.safetensors", epochs=1)
    assert (report.classes, report.train_images, report.test_images) == (3, 4, 2)


def test_masks_or_boxes_as_the_task_wants(tmp_path: Path) -> None:
    root = voc_masks(voc_folder(tmp_path / "voc"))
    masks, boxes = (load_data(root, READY, split="train", task=task) for task in ("segmentation", "detection"))
    assert (masks.targets, boxes.masks) == (None, None)
    assert (len(masks.masks), len(boxes.targets)) == (2, 4)


def test_plain_folders_are_none_of_them(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "b" / "1.png")
    assert layouts.parts_of(tmp_path) is None
    assert load_data(tmp_path, READY).class_names == ("a", "b")
    assert layouts.parts_of(tmp_path / "nothing") is None


def test_a_folder_of_voc_folders(tmp_path: Path) -> None:
    voc_folder(tmp_path / "VOCdevkit" / "VOC2007")
    with pytest.raises(BadInput, match=r"VOCdevkit: holds VOC2007 in PASCAL VOC's layout; give .*/VOCdevkit/VOC2007"):
        load_data(tmp_path / "VOCdevkit", READY)
