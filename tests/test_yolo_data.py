"""YOLO's folders: boxes, outlines, names, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_folders import HEIGHT, WIDTH, picture, yolo_folder
from edgecnn.data import layouts
from edgecnn.data.load import load_data
from edgecnn.networks.spec import unit_range
from runtimes.base import BadInput

READY = unit_range(HEIGHT, WIDTH)
TEXT = "labels/train/1.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return yolo_folder(tmp_path / "data")


def targets(root: Path, split: str = "train") -> Any:
    return list(load_data(root, READY, split=split, task="detection").targets)


def test_outlines_become_boxes(root: Path) -> None:
    (root / TEXT).write_text("2 0.25 0.5 0.5 0.25 0.375 0.75\n\n1 0.5 0.5 1 1\n")
    target = targets(root)[1]
    assert target.boxes.tolist() == [[16, 8, 32, 24], [0, 0, 64, 32]]
    assert target.labels.tolist() == [2, 1]


def test_an_empty_text_is_an_empty_picture(root: Path) -> None:
    (root / TEXT).write_text("")
    assert targets(root)[1].boxes.shape == (0, 4)


def test_names_from_a_text(root: Path) -> None:
    (root / "classes.txt").write_text("a\nb\nc\n")  # goes before data.yaml
    assert load_data(root, READY).class_names == ("a", "b", "c")
    (root / "data.yaml").unlink()
    (root / "classes.txt").rename(root / "labels" / "classes.txt")  # where LabelImg puts it
    assert load_data(root, READY).class_names == ("a", "b", "c")


def test_a_yaml_of_another_name(root: Path) -> None:
    (root / "data.yaml").rename(root / "ants.yml")
    assert load_data(root, READY).class_names == ("ant", "bee", "cat")
    (root / "more.yaml").write_text("names: [a]")
    with pytest.raises(BadInput, match=r"classes.txt: no such file, and no data.yaml; write the names of the classes"):
        load_data(root, READY)


@pytest.mark.parametrize(
    "said", ["", "path:  # here\n", "path: .\n", "path: '../data'  # relative\n", "path: {root}\n"]
)
def test_a_yaml_stands_for_its_folder(said: str, root: Path) -> None:
    document = root / "data.yaml"
    document.write_text(said.format(root=root) + document.read_text())
    for split in ("train", "test"):
        whole, given = (load_data(data, READY, split=split, task="detection") for data in (root, document))
        assert given.ids == whole.ids
        assert given.class_names == ("ant", "bee", "cat")
        for a, b in zip(whole.targets or (), given.targets or (), strict=True):
            assert np.array_equal(a.boxes, b.boxes)


def test_a_yaml_elsewhere_names_the_folder_and_the_classes(root: Path, tmp_path: Path) -> None:
    (root / "data.yaml").unlink()
    (tmp_path / "conf").mkdir()
    document = tmp_path / "conf" / "mine.yml"
    document.write_text("path: ../data\ntrain: images/train\nval: images/val\nnames: [x, y, z]\n")
    samples = load_data(document, READY, split="train", task="detection")
    assert (samples.class_names, len(samples)) == (("x", "y", "z"), len(list((root / "images" / "train").iterdir())))
    document.write_text("path: ../nowhere\nnames: [x, y, z]\n")
    with pytest.raises(BadInput, match=r"mine.yml: looks for pictures in .*nowhere, where there are no images/train"):
        load_data(document, READY)


def test_one_part(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "images" / f"{i}.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("ant\n")
    assert not layouts.has_parts(tmp_path)
    found = targets(tmp_path, "all")
    assert [len(target.labels) for target in found] == [0, 1, 0]
    assert np.array_equal(found[1].boxes, [[16, 8, 48, 24]])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0 0.5 0.5 0.5", "0 0.5 0.5 0.5"),
        ("0 0.5 0.5 0.5 0.5 0.9", "0 0.5 0.5 0.5 0.5 0.9"),
        ("3 0.5 0.5 0.5 0.5", "3 0.5"),
        ("-1 0.5 0.5 0.5 0.5", "-1 0.5"),
        ("0.5 0.5 0.5 0.5 0.5", "0.5 0.5"),
        ("0 32 16 8 8", "0 32 16 8 8"),
        ("0 0.5 nan 0.5 0.5", "0 0.5 nan"),
        ("0 0.5 0.5 -0.5 0.5", "0 0.5 0.5 -0.5"),
        ("cat 0.5 0.5 0.5 0.5", "cat 0.5"),
    ],
)
def test_lines_that_cannot_be_used(text: str, shown: str, root: Path) -> None:
    (root / TEXT).write_text(f"\n0 0.5 0.5 0.5 0.5\n{text}\n")
    with pytest.raises(BadInput, match=rf"^{root / TEXT}: line 3 is `{shown}.*`; a class from 0 to 2 and a centre"):
        targets(root)


def test_texts_that_are_of_no_picture(root: Path) -> None:
    for path in (root / "labels" / "train").iterdir():
        path.rename(path.with_name(f"old_{path.name}"))
    with pytest.raises(
        BadInput, match=r"labels/train: no text is named after a picture in .*; 0.txt is that of the fir"
    ):
        targets(root)


def test_a_text_that_is_none(root: Path) -> None:
    (root / TEXT).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"1.txt: is no text"):
        targets(root)


def test_a_part_without_pictures(root: Path) -> None:
    for path in (root / "images" / "train").iterdir():
        path.unlink()
    with pytest.raises(BadInput, match=r"images/train: holds no images; put those of .*labels/train there"):
        targets(root)
