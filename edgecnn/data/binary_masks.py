"""Masks that hold 0 and 255 alone: how most tools write those of two classes, where 255 is the object.

    {0, 255} in the whole set        255 is class 1, and a line says so
    any other class in one of them   255 counts for nothing, as in PASCAL VOC

A whole set: the masks of train/ and of val/ are read alike. They are looked at when the first of them is wanted, no
further than to one that has another class, and once. Data that names three classes or more has them.
Test: tests/test_binary_masks.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgecnn.data.images import read_mask
from edgecnn.data.samples import IGNORE
from runtimes.base import Array, BadInput

OBJECT = 1
TWO = 2
"""Names at most, of masks of two classes."""
Found = Callable[[], bool]


def in_files(files: Sequence[Path], names: Sequence[str]) -> Found:
    """Whether 255 is class 1 in the masks in `files`, whose classes have `names`; looks when it is called."""
    return functools.cache(lambda: len(names) <= TWO and _are_binary(tuple(map(_as_it_is, files))))


def in_array(masks: Array) -> bool:
    """Whether 255 is class 1 in `masks` (N, H, W)."""
    return bool((masks == IGNORE).any()) and bool(((masks == 0) | (masks == IGNORE)).all())


def as_classes(mask: Array, binary: bool) -> Array:
    """`mask` with class 1 where 255 is that."""
    return np.where(mask == IGNORE, OBJECT, mask).astype(mask.dtype) if binary else mask


def _as_it_is(file: Path) -> tuple[Path, int, int]:
    """What tells whether `file` is still the one that was looked at."""
    try:
        about = file.stat()
    except OSError:
        return file, 0, 0
    return file, about.st_mtime_ns, about.st_size


@functools.lru_cache(2)
def _are_binary(files: tuple[tuple[Path, int, int], ...]) -> bool:
    seen = False
    for file, *_ in files:
        try:
            mask = read_mask(file)
        except BadInput:
            continue  # it is told by whoever wants this mask
        marked = mask == IGNORE
        if (marked | (mask == 0)).all():
            seen = seen or bool(marked.any())
        else:
            return False
    return seen
