"""COCO's folders: boxes as pycocotools reads them, moved with their images, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_folders import HEIGHT, WIDTH, coco_folder, picture
from edgecnn.data.load import load_data
from edgecnn.networks.spec import unit_range
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess

READY = unit_range(16, 16)
CROP = Preprocess((16, 16), resize=16)


def coco(root: Path, **changes: Any) -> Path:
    """Five images 64x32; image 1 has an ant in its left half and a crowd of cats, the others a cat in the middle."""
    for i in range(5):
        picture(root / "images" / f"{i}.png")
    middle = [{"id": 10 + i, "image_id": i, "category_id": 7, "bbox": [24, 8, 16, 16]} for i in range(5) if i != 1]
    document = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(5)],
        "categories": [{"id": 9, "name": "ant"}, {"id": 7, "name": "cat"}],
        "annotations": [
            *middle,
            {"id": 1, "image_id": 1, "category_id": 9, "bbox": [0, 0, 32, 32]},
            {"id": 2, "image_id": 1, "category_id": 7, "bbox": [40.5, 4, 8, 8], "iscrowd": 1},
        ],
        **changes,
    }
    (root / "annotations.json").write_text(json.dumps(document))
    return root


def test_boxes_move_with_their_images(tmp_path: Path) -> None:
    samples = load_data(coco(tmp_path / "photos"), READY)
    assert samples.class_names == ("cat", "ant")  # in the order of their ids
    assert samples.targets[0].boxes.tolist() == [[6, 4, 10, 12]]
    ant, crowd = samples.targets[1].boxes
    assert ant.tolist() == [0, 0, 8, 16]
    assert crowd.tolist() == [10.125, 2, 12.125, 6]
    assert samples.targets[1].labels.tolist() == [1, 0]
    assert samples.targets[1].crowd.tolist() == [False, True]


def test_boxes_that_the_crop_takes_away(tmp_path: Path) -> None:
    samples = load_data(coco(tmp_path / "photos"), CROP)  # 32 x 16, of which the middle 16 x 16 is kept
    assert samples.targets[0].boxes.tolist() == [[4, 4, 12, 12]]
    assert samples.targets[1].boxes.tolist() == [[0, 0, 8, 16], [12.25, 2, 16, 6]]
    moved = [{"id": 1, "image_id": 1, "category_id": 9, "bbox": [0, 0, 17, 32]}]
    assert load_data(coco(tmp_path / "photos", annotations=moved), CROP).targets[1].boxes.tolist() == []


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"annotations": [{"id": 1, "image_id": 99, "category_id": 7, "bbox": [0, 0, 1, 1]}]},
            "annotation 1 names no image",
        ),
        (
            {"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
            "annotation 1 names no image",
        ),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, -1, 1]}]}, "annotation 1 names no"),
        (
            {"annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 1]}]},
            "annotation 1 names no image",
        ),
        (
            {"annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 1, float("nan")]}]},
            "annotation 1 names",
        ),
        ({"annotations": []}, "has no list of annotations with an id each"),
        ({"categories": {}}, "has no list of categories with an id each; it must be in COCO's format"),
        ({"images": [{"file_name": "0.png"}]}, "has no list of images with an id each"),
        (
            {"images": [{"id": 1, "file_name": "0.png"}, {"id": 1, "file_name": "1.png"}]},
            "two of its images have the same id",
        ),
        (
            {"images": [{"id": 1, "file_name": "nine.png"}]},
            r"images/nine.png: no such image, but .* names it; put it there",
        ),
        (
            {"images": [{"id": 1, "file_name": "../secret.png"}]},
            r"names the image '../secret.png'; names are relative to",
        ),
        ({"images": [{"id": 1, "file_name": "/etc/passwd"}]}, r"names the image '/etc/passwd'; names are relative to"),
    ],
)
def test_annotations_that_cannot_be_used(changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=match):
        load_data(coco(tmp_path / "photos", **changes), READY)


@pytest.mark.parametrize("text", ["{", "[1]", "\x00", '{"images": 3}'])
def test_annotations_that_are_no_coco(text: str, tmp_path: Path) -> None:
    coco(tmp_path / "photos")
    (tmp_path / "photos" / "annotations.json").write_text(text)
    with pytest.raises(BadInput, match=r"annotations.json: (is not JSON|is a list|has no list)"):
        load_data(tmp_path / "photos", READY)


@pytest.mark.slow
def test_a_detector_is_trained_on_own_boxes(tmp_path: Path) -> None:
    from edgecnn.training.train import train

    report = train("ssd_tiny", str(coco(tmp_path / "photos")), tmp_path / "w.safetensors", epochs=2)
    assert (report.classes, report.train_images, report.test_images) == (2, 4, 1)


# --------------------------------------------------------------------------------------------------- COCO's own folder
def test_it_is_what_pycocotools_reads(tmp_path: Path) -> None:
    import contextlib
    import io

    from pycocotools.coco import COCO

    root = coco_folder(tmp_path / "coco")
    path = root / "annotations" / "instances_val2017.json"
    with contextlib.redirect_stdout(io.StringIO()):
        record = COCO(str(path))
    samples = load_data(root, unit_range(HEIGHT, WIDTH), split="test", task="detection")
    places = sorted(record.getCatIds())
    assert list(samples.class_names) == [c["name"] for c in record.loadCats(places)]
    for name, target in zip(samples.ids, samples.targets, strict=True):
        (image,) = (i for i in record.imgs.values() if i["file_name"] == Path(name).name)
        theirs = record.loadAnns(record.getAnnIds(imgIds=[image["id"]]))
        assert [places[k] for k in target.labels] == [a["category_id"] for a in theirs]
        sizes = target.boxes[:, 2:] - target.boxes[:, :2]
        assert np.array_equal(np.hstack([target.boxes[:, :2], sizes]), [a["bbox"] for a in theirs])


def test_only_the_part_that_is_asked_for_is_read(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    (root / "annotations" / "instances_train2017.json").write_text("{")
    assert len(load_data(root, READY, split="test")) == 2
    with pytest.raises(BadInput, match=r"instances_train2017.json: is not JSON"):
        load_data(root, READY, split="train")


def test_a_document_is_data(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    samples = load_data(root / "annotations" / "instances_train2017.json", READY)
    assert (len(samples), len(samples.targets)) == (4, 4)
    assert samples.name.endswith("instances_train2017.json")
    (root / "annotations" / "instances_train2014.json").write_text("{}")
    with pytest.raises(BadInput, match=r"train2017.json: is a second train part beside instances_train2014.json; give"):
        load_data(root, READY)


def test_one_part_and_others_files(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    (root / "annotations" / "instances_train2017.json").rename(root / "annotations" / "person_keypoints_train2017.json")
    assert len(load_data(root, READY)) == 2
    picture(root / "train" / "a.jpg")
    document = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "a"}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4]}]}  # fmt: skip
    for part in ("train", "valid"):
        picture(tmp_path / "flow" / part / "a.jpg")
        (tmp_path / "flow" / part / "_annotations.coco.json").write_text(json.dumps(document))
    assert [len(load_data(tmp_path / "flow", READY, split=s)) for s in ("train", "test", "all")] == [1, 1, 2]


def test_ids_may_be_words_and_numbers(tmp_path: Path) -> None:
    categories = [{"id": "b", "name": "bee"}, {"id": 7, "name": "cat"}, {"id": 9, "name": "ant"}]
    assert load_data(coco(tmp_path / "photos", categories=categories), READY).class_names == ("cat", "ant", "bee")
