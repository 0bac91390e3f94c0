"""What the subfolders of a folder of images mean: classes (numbered as torchvision does), parts, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecnn.data.folders import by_number, scan
from runtimes.base import BadInput


def plant(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def seen(root: Path, split: str = "all") -> list[tuple[str, int | None]]:
    found = scan(root, split)
    labels = [None] * len(found.files) if found.labels is None else found.labels.tolist()
    return [(str(file.relative_to(root)), label) for file, label in zip(found.files, labels, strict=True)]


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    plant(tmp_path, "b.png", "a.JPG", "notes.txt", ".hidden.png", "Thumbs.db")
    assert seen(tmp_path) == [("a.JPG", None), ("b.png", None)]


def test_subfolders_are_classes_in_sorted_order_and_may_be_deep(tmp_path: Path) -> None:
    plant(tmp_path, "dog/1.png", "cat/2.png", "cat/deep/3.png", ".git/4.png", "empty/readme.md")
    assert seen(tmp_path) == [("cat/2.png", 0), ("cat/deep/3.png", 0), ("dog/1.png", 1)]
    assert scan(tmp_path, "all").class_names == ("cat", "dog")


def test_folders_of_numbers_are_counted_as_text(tmp_path: Path) -> None:
    """As torchvision's ImageFolder does."""
    plant(tmp_path, *(f"{i}/a.png" for i in range(12)))
    assert scan(tmp_path, "all").class_names == ("0", "1", "10", "11", *"23456789")


def test_names_that_are_numbers_can_be_counted_by_these() -> None:
    assert by_number(["10", "9", "1"]) == ("1", "9", "10")
    assert by_number(["10", "9", "x"]) is None
    assert by_number(["2", "٣"]) is None


@pytest.mark.parametrize("held_out", ["test", "val", "valid"])
def test_a_folder_that_is_split_stays_split_as_it_is(tmp_path: Path, held_out: str) -> None:
    plant(tmp_path, "train/a/1.png", "train/b/2.png", f"{held_out}/b/3.png")
    assert seen(tmp_path, "train") == [("train/a/1.png", 0), ("train/b/2.png", 1)]
    assert len(seen(tmp_path, "all")) == 3
    assert scan(tmp_path, "train").is_split


def test_both_parts_count_their_classes_alike(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.png", "train/b/2.png", "test/b/3.png")
    assert scan(tmp_path, "test").class_names == ("a", "b")
    assert seen(tmp_path, "test") == [("test/b/3.png", 1)]


def test_train_alone_is_a_class(tmp_path: Path) -> None:
    plant(tmp_path, "train/1.png", "bus/2.png")
    assert scan(tmp_path, "all").class_names == ("bus", "train")
    assert not scan(tmp_path, "all").is_split


def test_an_image_beside_class_folders_belongs_nowhere(tmp_path: Path) -> None:
    plant(tmp_path, "cat/1.png", "loose.png")
    with pytest.raises(BadInput, match=r"loose.png: lies beside class folders"):
        scan(tmp_path, "all")


def test_no_images(tmp_path: Path) -> None:
    plant(tmp_path, "readme.txt")
    with pytest.raises(BadInput, match="holds no images"):
        scan(tmp_path, "all")


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    plant(tmp_path, "cat/1.png")
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    assert seen(tmp_path) == [("cat/1.png", 0)]


def test_links_to_folders_are_followed_under_their_own_names(tmp_path: Path) -> None:
    plant(tmp_path, "far/away/1.png", "far/deep/er/2.png", "photos/cat/3.png")
    (tmp_path / "photos" / "ant").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "photos" / "bee").symlink_to("../far/away")
    (tmp_path / "photos" / "dog").symlink_to(tmp_path / "far" / "deep")
    (tmp_path / "far" / "deep" / "round").symlink_to(tmp_path / "far")
    assert seen(tmp_path / "photos") == [
        ("ant/1.png", 0), ("bee/1.png", 1), ("cat/3.png", 2), ("dog/er/2.png", 3), ("dog/round/away/1.png", 3)
    ]  # fmt: skip


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).touch()
    assert len(seen(tmp_path)) == 1
