"""A folder of images and what its subfolders mean: classes, or a split into train and test (val, valid) parts.

    photos/*.png            photos/cat/**.png           photos/train/cat/**.png   photos/val/cat/**.png
    no labels               label = place of the class  the same, split as it is

Classes are counted in the order of their names as text, as torchvision's ImageFolder does: 10 comes before 9. Links are
followed. Files are listed, not opened. Test: tests/test_folders.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.imaging.images import SUFFIXES

TRAIN, TEST = ("train",), ("test", "val", "valid")


@dataclass(frozen=True)
class Found:
    """`labels` int64 (N,) index `class_names`; `is_split` says that the folder itself made the split."""

    files: tuple[Path, ...]
    labels: Array | None
    class_names: tuple[str, ...]
    is_split: bool


def scan(root: Path, split: str) -> Found:
    """The images below `root` (or its train or test part, where it has both); raises `BadInput` for none."""
    train, test = _part(root, TRAIN), _part(root, TEST)
    is_split = train is not None and test is not None
    wanted = {"all": (train, test), "train": (train,), "test": (test,)}[split]
    places = [place for place in (train, test) if place is not None] if is_split else [root]
    everything = [(file, file.relative_to(place).parts) for place in places for file in list_images(place)]
    # Classes are counted over both parts: one that the test part lacks must not move the numbers of the others.
    classes = tuple(sorted({parts[0] for _, parts in everything if len(parts) > 1}))
    listed = [(f, parts) for f, parts in everything if not is_split or any(p and f.is_relative_to(p) for p in wanted)]
    if not listed:
        raise BadInput(f"{root}: holds no images; put {', '.join(SUFFIXES[:5])} ... files there")
    files = tuple(file for file, _ in listed)
    if not classes:
        return Found(files, None, (), is_split)
    loose = next((file for file, parts in listed if len(parts) == 1), None)
    if loose is not None:
        raise BadInput(f"{loose}: lies beside class folders; move it into one of them")
    place = {name: i for i, name in enumerate(classes)}
    return Found(files, np.array([place[parts[0]] for _, parts in listed], np.int64), classes, is_split)


def list_images(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Files with one of `suffixes` anywhere below `folder`, sorted by path; hidden files and folders are left out."""
    found = []
    for place, files in walk(folder):
        found += [Path(place, name) for name in files if not name.startswith(".") and name.lower().endswith(suffixes)]
    return sorted(found)


def walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(a folder, the names of its files) for `folder` and all folders below that are not hidden; links are followed,
    but not into a folder that they lie in.
    """
    above: dict[str, frozenset[str]] = {os.fspath(folder): frozenset()}
    for place, folders, files in os.walk(folder, followlinks=True):
        known, real = above.pop(place), os.path.realpath(place)
        if real in known:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        above |= dict.fromkeys((os.path.join(place, name) for name in folders), known | {real})
        yield place, files


def by_number(names: Iterable[str]) -> tuple[str, ...] | None:
    """`names` in the order of the numbers that they are, 9 before 10; None where one is no number."""
    known = sorted(names)
    numbers = all(name.isascii() and name.isdigit() and len(name) < 10 for name in known)
    return tuple(sorted(known, key=int)) if numbers else None


def _part(root: Path, names: Iterable[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)
