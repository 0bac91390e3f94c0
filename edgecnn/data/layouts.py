"""Which of the known layouts some DATA has, and its samples: masks, boxes or rows of numbers with their pictures.

    images/, masks/         annotated.py      JPEGImages/, Annotations/, SegmentationClass/   voc.py
    annotations(/)*.json    coco.py           images/, labels/                                yolo.py
    labels.csv              table.py          images/, targets/                           pairs.py

Test: tests/test_layouts.py.
"""

from __future__ import annotations

from pathlib import Path

from edgecnn.data import annotated, coco, pairs, table, voc, yolo
from edgecnn.data.annotated import Parts, joined
from edgecnn.data.samples import Samples, split_off
from runtimes.imaging.preprocess import Preprocess

LAYOUTS = (table.parts, annotated.parts, pairs.parts, coco.parts, voc.parts, yolo.parts)
LISTS = (coco.file_parts, voc.file_parts, table.file_parts, yolo.file_parts)
"""Files that stand for the pictures they name."""


def parts_of(path: Path, task: str = "") -> Parts | None:
    """The parts of the folder or list in `path`, None where no layout fits; `task` decides what it is read for."""
    known = LAYOUTS if path.is_dir() else LISTS if path.is_file() else ()
    return next((found for layout in known if (found := layout(path, task)) is not None), None)


def has_parts(path: Path) -> bool:
    """Whether the data itself says what is for training and what for testing."""
    found = parts_of(path)
    return found is not None and "all" not in found


def load(path: Path, preprocess: Preprocess, split: str, task: str) -> Samples | None:
    """The samples of a folder or list in one of the layouts, None for another; raises `BadInput` for what is broken."""
    parts = parts_of(path, task)
    if parts is None:
        return None
    if "all" in parts:
        return split_off(parts["all"](preprocess), split)
    if split != "all":
        return parts[split](preprocess)
    return joined(str(path), parts["train"](preprocess), parts["test"](preprocess))
