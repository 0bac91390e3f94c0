"""YOLO's layout: a text of boxes for each picture, and the names of the classes in data.yaml or classes.txt.

    data/images/train/a.jpg   data/labels/train/a.txt        or  data/train/images/a.jpg   data/train/labels/a.txt
    data/images/val/...       (or valid, test)                   data/valid/images/...     (or val, test)
    data/images/*.jpg         data/labels/*.txt              one part

    a line    class  x  y  w  h      centre and size as shares of the picture's width and height
              class  x1 y1 x2 y2 ..  corners of an outline, whose box is taken

A picture without a text has no objects. Names: labels.py. A data.yaml may be given for the folder that its `path`
names, else that it stands in, and names the classes then. Test: tests/test_yolo_data.py.
"""

from __future__ import annotations

import math
import os
import re
from functools import partial
from pathlib import Path

import numpy as np

from edgecnn.data.annotated import IMAGES, NAMES, Parts, Reader, boxed, folders, names_in, train_and_test
from edgecnn.data.folders import list_images
from edgecnn.data.samples import Samples, Target
from runtimes.base import Array, BadInput
from runtimes.files import check_input_file
from runtimes.imaging.preprocess import Preprocess

LABELS, SUFFIX = "labels", ".txt"
NAME_FILES, YAML = ("classes.txt", *NAMES), (".yaml", ".yml")
PART = re.compile(r"(train|val|valid|test)\d{0,4}")
ROOT = re.compile(r"^path[ ]*:[ ]+((?:[^#\n]|(?<=\S)#)+)", re.MULTILINE)
TEXT_LIMIT_BYTES = 16 << 20
NEAR = 1e-3
"""Rounding: a share may be this far outside of 0 to 1."""


def parts(root: Path, task: str) -> Parts | None:
    """The parts of one of the folders drawn above, or None."""
    return _parts(root, None)


def file_parts(path: Path, task: str) -> Parts | None:
    """Those of the folder that a data.yaml stands for, None for another file; raises `BadInput` where it has none."""
    if path.suffix not in YAML:
        return None
    root = root_of(path)
    found = _parts(root, path) if root.is_dir() else None
    if found is None:
        where = f"looks for pictures in {root}, where there are no images/train and labels/train"
        raise BadInput(f"{path}: {where}; give the folder that has them, or mend `path`")
    return found


def root_of(document: Path) -> Path:
    """The folder that the `path` of a data.yaml names, relative to where it stands; that itself without one."""
    try:
        text = check_input_file(document, TEXT_LIMIT_BYTES).read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise BadInput(f"{document}: is no text ({str(error)[:80]}); give the folder of the pictures") from error
    said = ROOT.search(text)
    named = said[1].strip().strip("'\"") if said else ""
    return Path(os.path.normpath(document.parent / named)) if named else document.parent


def _parts(root: Path, document: Path | None) -> Parts | None:
    return _below_images(root, document) or folders(root, lambda place: _reader(place, root, document))


def _below_images(root: Path, document: Path | None) -> Parts | None:
    if not (root / IMAGES).is_dir() or not (root / LABELS).is_dir():
        return None
    found: dict[str, Reader] = {}
    for place in sorted((root / IMAGES).iterdir()):
        match = PART.fullmatch(place.name)
        if match is not None and _has_texts(root / LABELS / place.name):
            found[match[1]] = partial(_read, place, root / LABELS / place.name, root, document)
    return train_and_test(found) or ({"all": next(iter(found.values()))} if len(found) == 1 else None)


def _reader(place: Path, root: Path, document: Path | None) -> Reader | None:
    images, labels = place / IMAGES, place / LABELS
    return partial(_read, images, labels, root, document) if images.is_dir() and _has_texts(labels) else None


def _has_texts(folder: Path) -> bool:
    return folder.is_dir() and next(folder.rglob(f"*{SUFFIX}"), None) is not None


def _read(images: Path, labels: Path, root: Path, document: Path | None, preprocess: Preprocess) -> Samples:
    files = list_images(images)
    if not files:
        raise BadInput(f"{images}: holds no images; put those of {labels} there")
    texts = [(labels / file.relative_to(images)).with_suffix(SUFFIX) for file in files]
    if not any(text.is_file() for text in texts):
        raise BadInput(f"{labels}: no text is named after a picture in {images}; {texts[0].name} is that of the first")
    names = _names(root, labels) if document is None else names_in((document.parent,), (document.name,))
    return boxed(str(images), files, lambda i, size: objects_in(texts[i], names, size), preprocess, names)


def _names(root: Path, labels: Path) -> tuple[str, ...]:
    """Raises `BadInput` where nothing names the classes."""
    documents = sorted(path.name for path in root.iterdir() if path.suffix in YAML)
    alone = documents if len(documents) == 1 else []  # dog.yaml, where it is the only one
    found = names_in((root, root / LABELS, labels), (*NAME_FILES, "data.yaml", *alone))
    if not found:
        raise BadInput(f"{root / 'classes.txt'}: no such file, and no data.yaml; write the names of the classes there")
    return found


def objects_in(path: Path, names: tuple[str, ...], size: tuple[int, int]) -> Target:
    """The objects of a picture of `size` (H, W); none where there is no text. Raises `BadInput` for what is broken."""
    height, width = size
    boxes, labels = [], []
    for number, words in _lines(path):
        numbers = _numbers(words)
        if numbers is None or numbers[0] not in range(len(names)):
            raise BadInput(
                f"{path}: line {number} is `{' '.join(words)[:40]}`; a class from 0 to {len(names) - 1} and a centre "
                "and size (or an outline) as shares of the picture, 0 to 1, are needed"
            )
        labels.append(int(numbers[0]))
        boxes.append(_box(numbers[1:]) * [width, height, width, height])
    return Target.of(np.array(boxes, np.float64), np.array(labels, np.int64))


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """(number, words) of each line that is not empty; a text that is empty or missing has none."""
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return []
    try:
        lines = check_input_file(path, TEXT_LIMIT_BYTES).read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: is no text ({str(error)[:80]}); write a line for each object") from error
    return [(i, line.split()) for i, line in enumerate(lines, start=1) if line.strip()]


def _numbers(words: list[str]) -> list[float] | None:
    """A class and 4, or 6 and more, shares; None for anything else."""
    try:
        found = [float(word) for word in words]
    except ValueError:
        return None
    paired = len(found) == 5 or (len(found) >= 7 and len(found) % 2 == 1)
    good = paired and all(math.isfinite(v) and -NEAR <= v <= 1 + NEAR for v in found[1:])
    return found if good else None


def _box(shares: list[float]) -> Array:
    """x1, y1, x2, y2 of x, y, w, h, or around an outline."""
    if len(shares) == 4:
        x, y, w, h = shares
        return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    outline = np.array(shares).reshape(-1, 2)
    return np.concatenate([outline.min(axis=0), outline.max(axis=0)])
