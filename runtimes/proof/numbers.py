"""Answers that are numbers: the arrays themselves for the caller, or in files where these are asked for.

    NAME.npz       every output of one image under its name, float as the network gives it, without the batch

Test: tests/test_numbers_saved.py.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from runtimes.files import replace_whole
from runtimes.imaging.named import check_folder, make_folder, stems
from runtimes.proof.answers import NumbersPrediction

KEPT_BYTES = 256 * 2**20
"""Of arrays that a report carries, for all images together."""


@dataclass
class Keeping:
    """Hands on each answer with its arrays while they fit into `left` bytes together; writes those that go to files."""

    left: int = KEPT_BYTES

    def hold(self, found: NumbersPrediction, files: Sequence[Path]) -> NumbersPrediction:
        """`found`, saved in `files` where there are any; then, or where there is no room, without its arrays."""
        for file in files:
            _save(found, file)
        size = sum(value.nbytes for value in found.arrays.values())
        if files or size > self.left:
            return replace(found, arrays={}, files=tuple(map(str, files)))
        self.left -= size
        return found


def files_of_numbers(folder: Path, names: Sequence[str], force: bool) -> list[tuple[Path, ...]]:
    """Where the outputs for each input go; raises `BadInput` where one is there (without `force`) or none can be."""
    files: list[tuple[Path, ...]] = [(folder / f"{stem}.npz",) for stem in stems(names)]
    check_folder(folder, files, force)
    return files


def _save(found: NumbersPrediction, file: Path) -> None:
    make_folder(file.parent)
    with replace_whole(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, value in found.arrays.items():  # numpy.savez has parameters that an output may be called like
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, value, allow_pickle=False)
