"""The one size that all pictures of some DATA have, told from their headers. Test: tests/test_assumptions.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edgecnn.data.data_argument import InMemory, Spec
from edgecnn.data.folders import list_images
from edgecnn.data.pairs import TARGETS
from runtimes.base import Array, EdgeError
from runtimes.imaging.arrays import read_npy, read_npz
from runtimes.imaging.images import has_pillow, picture_size
from runtimes.imaging.shown import images_in, is_pixels

MOST = 200
"""Headers that are read, spread over all pictures: it is for a hint."""
Size = tuple[int, int]


def common_size(specs: Iterable[Spec | None]) -> Size | None:
    """(height, width) of every picture in the folders and arrays `specs`; None where they differ or are none."""
    found = sizes(specs)
    return found.pop() if len(found) == 1 else None


def sizes(specs: Iterable[Spec | None]) -> set[Size]:
    """(height, width) of the pictures in the folders and arrays `specs`; empty where they cannot be told."""
    found: set[Size] = set()
    try:
        for spec in specs:
            found.update(_sizes(spec) if spec is not None else ())
    except EdgeError:  # whoever reads the pictures says it better
        return set()
    return found


def _sizes(spec: Spec) -> Iterable[Size]:
    if isinstance(spec, InMemory):
        return _of(spec.images)
    path = Path(spec)
    if path.is_dir():
        shown = [file for file in list_images(path) if TARGETS not in file.relative_to(path).parts]
        return {picture_size(file) for file in _spread(shown)} if has_pillow() else set()
    if not path.is_file() or path.suffix not in (".npz", ".npy"):
        return set()
    return _of(images_in(read_npz(path), path) if path.suffix == ".npz" else read_npy(path))


def _of(images: Array) -> Iterable[Size]:
    return {(images.shape[1], images.shape[2])} if is_pixels(images) and images.ndim > 2 else set()


def _spread(files: Sequence[Path]) -> Sequence[Path]:
    return files[:: -(-len(files) // MOST) or 1]
