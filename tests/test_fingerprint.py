"""A set of images is known again wherever it lies, and not when anything in it has changed."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn.data.data_argument import given
from edgecnn.data.fingerprint import DataSet, fingerprint, identified, is_among, known_sets

IMAGES, LABELS = np.zeros((3, 1, 4, 4), np.float32), np.array([0, 1, 0])


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(3):
        picture(tmp_path / "photos" / "ab"[i % 2] / f"{i}.bmp", i)
    (tmp_path / "photos" / "labels.csv").write_text("file,a\n0.bmp,1\n")
    return tmp_path / "photos"


def test_its_place_and_what_is_no_data_do_not_count(photos: Path, tmp_path: Path) -> None:
    first = fingerprint(str(photos))
    assert len(first) == 32
    (photos / "notes.md").write_text("mine")
    picture(photos / ".thumbnails" / "0.bmp", 9)
    moved = tmp_path / "elsewhere" / "other"
    shutil.move(photos, tmp_path / "elsewhere" / "other")
    assert fingerprint(str(moved)) == first
    assert is_among(str(moved), [("photos", first)])
    assert not is_among(str(moved), [("other", "0" * 32), ("other", "")])


def test_a_class_that_is_a_link_is_read(photos: Path, tmp_path: Path) -> None:
    first = fingerprint(str(photos))
    (photos / "b").rename(tmp_path / "b")
    assert fingerprint(str(photos)) != first
    (photos / "b").symlink_to(tmp_path / "b")
    (photos / "a" / "round").symlink_to(photos)
    assert fingerprint(str(photos)) == first


@pytest.mark.parametrize("change", ["more", "other pixels", "other class", "other rows"])
def test_any_change_makes_it_another(change: str, photos: Path) -> None:
    first = fingerprint(str(photos))
    if change == "more":
        picture(photos / "a" / "9.bmp", 0)
    elif change == "other pixels":
        picture(photos / "a" / "0.bmp", 200)
    elif change == "other class":
        (photos / "a" / "0.bmp").rename(photos / "b" / "0.bmp")
    else:
        (photos / "labels.csv").write_text("file,a\n0.bmp,1\n1.bmp,0\n")
    assert fingerprint(str(photos)) != first


def test_a_yaml_is_the_folder_that_it_stands_for(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("path: photos\nnames: [a, b]\n")
    first = fingerprint(str(tmp_path / "mine.yaml"))
    assert first == fingerprint(str(photos)) != ""
    picture(photos / "a" / "9.bmp", 0)
    assert fingerprint(str(tmp_path / "mine.yaml")) not in ("", first)
    (tmp_path / "mine.yaml").write_text("path: nowhere")
    assert fingerprint(str(tmp_path / "mine.yaml")) == ""


def test_files_and_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=IMAGES, y=LABELS)
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    assert fingerprint(str(tmp_path / "a.npz")) == fingerprint(str(tmp_path / "b.npz")) != ""
    assert fingerprint(given((IMAGES, LABELS))) == fingerprint(given((IMAGES.copy(), LABELS.copy())))
    assert len({fingerprint(given(data)) for data in (IMAGES, IMAGES + 1, (IMAGES, LABELS), (IMAGES, LABELS + 1))}) == 4


@pytest.mark.parametrize("data", ["digits", "shapes:9", "builtin:random:2", "no/such/folder", "a\0b"])
def test_what_has_none(data: str) -> None:
    assert (fingerprint(data), identified(data)) == ("", ())
    assert not is_among(data, [("x", "")])


@pytest.mark.parametrize("value", [None, 3, "ab", {"a": 1}, [1, ["a"], ["a", 2], ["", "b"], ["a", "b", "c"], "ab"]])
def test_what_is_no_list_of_sets_says_nothing(value: object) -> None:
    assert known_sets(value) == ()


def test_sets_come_back_from_json() -> None:
    assert known_sets([["photos", "ab"], ("x", "cd")]) == (DataSet("photos", "ab"), DataSet("x", "cd"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_nothing_is_read_of_a_pipe_or_a_device(photos: Path) -> None:
    first = fingerprint(str(photos))
    os.mkfifo(photos / "a" / "endless.png")
    (photos / "b" / "zeros.jpg").symlink_to("/dev/zero")
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(fingerprint(str(photos))), daemon=True)
    reader.start()
    reader.join(10)
    assert found == [first]
