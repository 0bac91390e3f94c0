"""PASCAL VOC's folders: boxes, difficult objects, palette masks, lists, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_folders import HEIGHT, WIDTH, annotation, objects, picture, voc_folder, voc_masks, write_lists
from edgecnn.cli import main
from edgecnn.data.load import load_data
from edgecnn.data.voc import CLASSES
from edgecnn.networks.spec import unit_range
from runtimes.base import BadInput

READY = unit_range(HEIGHT, WIDTH)
XML = "Annotations/2008_000001.xml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return voc_folder(tmp_path / "voc")


def read(root: Path, split: str = "all", task: str = "detection") -> Any:
    samples = load_data(root, READY, split=split, task=task)
    return samples, list(samples.targets if samples.targets is not None else samples.masks)


def test_difficult_objects_are_marked(root: Path) -> None:
    _, targets = read(root)
    assert [target.difficult.tolist() for target in targets] == [
        [difficult for _, _, difficult in objects(i)] for i in range(6)
    ]


def test_names(root: Path, tmp_path: Path) -> None:
    (root / "labels.txt").write_text("cat\nbee\nant\ndog\n")
    samples, targets = read(root)
    assert samples.class_names == ("cat", "bee", "ant", "dog")
    assert targets[0].labels.tolist() == [0, 2]
    root.rename(tmp_path / "VOC2012")
    (tmp_path / "VOC2012" / "labels.txt").unlink()
    for path in (tmp_path / "VOC2012" / "Annotations").iterdir():
        text = path.read_text().replace(">ant<", ">aeroplane<").replace(">bee<", ">tvmonitor<")
        path.write_text(text)
    samples, targets = read(tmp_path / "VOC2012")
    assert samples.class_names == CLASSES
    assert len(CLASSES) == 20
    assert targets[0].labels.tolist() == [7, 0]


def test_the_test_part_is_val_where_the_answers_of_test_are_secret(root: Path) -> None:
    write_lists(root / "ImageSets" / "Main", {"test": [9]})
    assert [len(read(root, split)[0]) for split in ("train", "test", "all")] == [4, 2, 6]


def test_trainval_and_test_where_they_are_known(root: Path) -> None:
    write_lists(root / "ImageSets" / "Main", {"train": [0], "val": [1], "trainval": [0, 1], "test": [2, 3, 4]})
    assert [len(read(root, split)[0]) for split in ("train", "test", "all")] == [2, 3, 5]


def test_one_list_and_none(root: Path) -> None:
    for path in (root / "ImageSets" / "Main").iterdir():
        if path.name != "trainval.txt":
            path.unlink()
    assert len(read(root, "all")[0]) == 6
    assert sum(len(read(root, split)[0]) for split in ("train", "test")) == 6
    (root / "ImageSets" / "Main" / "trainval.txt").unlink()
    (root / "Annotations" / "2008_000005.xml").unlink()
    assert len(read(root)[0]) == 5


def test_a_list_is_data(root: Path) -> None:
    samples, targets = read(root / "ImageSets" / "Main" / "ant_val.txt")
    assert (len(samples), len(targets[0].labels)) == (1, 2)
    assert samples.class_names == ("ant", "bee", "cat")
    voc_masks(root)
    samples, masks = read(root / "ImageSets" / "Segmentation" / "val.txt", task="classification")
    assert len(masks) == 1
    (root / "ImageSets" / "Layout").mkdir()
    write_lists(root / "ImageSets" / "Layout", {"train": [1]})
    with pytest.raises(BadInput, match=r"train.txt: lists of Layout are not read; give one of Main or Segmentation"):
        read(root / "ImageSets" / "Layout" / "train.txt")


def test_palette_masks(root: Path) -> None:
    voc_masks(root)
    samples, masks = read(root, "train", "segmentation")
    assert samples.class_names == ()
    assert masks[1][5].tolist() == [1] * 32 + [255] * 4 + [2] * 28
    root.rename(root.parent / "VOC2012")
    samples, _ = read(root.parent / "VOC2012", "test", "segmentation")
    assert samples.class_names == ("background", *CLASSES)
    (root.parent / "VOC2012" / "class_names.txt").write_text("_background_\nleft\nright\n")
    assert read(root.parent / "VOC2012", "all", "segmentation")[0].class_names == ("_background_", "left", "right")


def changed(old: str, new: str) -> Any:
    return lambda root: (root / XML).write_text(annotation(1).replace(old, new, 1))


ENTITIES = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("break_it", "match"),
    [
        (changed("<annotation>", ENTITIES + "<annotation>"), "is not XML that is read .a DOCTYPE, which is not read.;"),
        (changed("<annotation>", OUTSIDE + "<annotation>"), "is not XML that is read .a DOCTYPE"),
        (
            lambda r: (r / XML).write_bytes(f'<?xml version="1.0" encoding="utf-16"?>{OUTSIDE}<a/>'.encode("utf-16")),
            "is not XML that is read .a DOCTYPE",
        ),
        (changed("<name>cat", "<name>&lol;"), "is not XML that is read .undefined entity"),
        (changed("</annotation>", ""), "is not XML that is read .no element found"),
        (lambda r: (r / XML).write_bytes(b"\xff\xfe\x00junk"), "is not XML that is read"),
        (lambda r: (r / XML).write_text("<x>" * 100_000), "is not XML that is read"),
        (lambda r: (r / XML).write_text("<html></html>"), "begins with <html>; PASCAL VOC's begin with <annotation>"),
        (lambda r: (r / XML).write_text(""), "is empty"),
        (changed("<name>cat</name>", ""), "an object has no <name>; add it"),
        (changed("<xmin>5</xmin>", ""), "an object has no <bndbox/xmin>; add it"),
        (changed("<xmin>5<", "<xmin>five<"), "the box five, 3, 20, 18 is none; xmin <= xmax and ymin <= ymax"),
        (changed("<xmin>5<", "<xmin>nan<"), "the box nan, 3, 20, 18 is none"),
        (changed("<xmin>5<", "<xmin>21<"), "the box 21, 3, 20, 18 is none"),
        (changed("<difficult>0<", "<difficult>maybe<"), "an object's <difficult> is 'maybe'; 0 or 1 is needed"),
        (changed("<width>64<", "<width>63<"), "is of a picture of 63x32, its picture is 64x32; annotate that"),
    ],
)
def test_annotations_that_cannot_be_used(break_it: Any, match: str, root: Path) -> None:
    (root / "labels.txt").write_text("ant\nbee\ncat\n")
    break_it(root)
    with pytest.raises(BadInput, match=f"^{root / XML}: {match}"):
        read(root)


@pytest.mark.parametrize(
    ("break_it", "match"),
    [
        (lambda r: (r / XML).unlink(), r"2008_000001.xml: no such annotation, but .*/train.txt names it; put it there"),
        (
            lambda r: (r / "JPEGImages/2008_000001.jpg").unlink(),
            r"JPEGImages/2008_000001: no such picture \(.jpg ...\), but .*/Main/train.txt is of it; add it",
        ),
        (
            lambda r: (r / "ImageSets/Main/train.txt").write_text("../../etc/passwd\n"),
            r"Main/train.txt: names the image '../../etc/passwd'; names are relative to .*/JPEGImages",
        ),
        (lambda r: (r / "ImageSets/Main/train.txt").write_text("\n"), "Main/train.txt: names no picture; write one"),
        (lambda r: (r / "ImageSets/Main/train.txt").write_bytes(b"\xff\xff"), "Main/train.txt: is no text"),
        (
            lambda r: (r / "labels.txt").write_text("ant\ncat\n"),
            r"2008_000004.xml: bee: unknown class; known: ant, cat",
        ),
        (lambda r: picture(r / "JPEGImages/2008_000001.jpg", 32, 63), "is of a picture of 64x32, its picture is 63x32"),
    ],
)
def test_folders_that_cannot_be_used(break_it: Any, match: str, root: Path) -> None:
    break_it(root)
    with pytest.raises(BadInput, match=match):
        read(root)


def test_masks_that_are_missing(root: Path) -> None:
    voc_masks(root)
    (root / "SegmentationClass" / "2008_000001.png").unlink()
    with pytest.raises(
        BadInput, match=r"SegmentationClass/2008_000001.png: no such mask; save the class of every pixel"
    ):
        read(root, task="segmentation")


def test_the_command_says_it_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "Annotations" / "2008_000004.xml").write_text(OUTSIDE + annotation(4))
    (root / "labels.txt").write_text("ant\nbee\ncat\n")
    assert main(["evaluate", "ssd_tiny", "--data", str(root), "--labels", str(root / "labels.txt")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "Annotations/2008_000004.xml: is not XML that is read (a DOCTYPE, which is not read); save it" in said.err


def test_boxes_may_be_fractions_of_pixels(root: Path) -> None:
    changed("<xmin>5<", "<xmin>5.5<")(root)
    assert np.array_equal(read(root)[1][1].boxes[0], [4.5, 2, 20, 18])
