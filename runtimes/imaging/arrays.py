"""`.npy` and `.npz` files, read with distrust: the header is held against the file before any memory is asked for.

A `.npy` is mapped, not read: its size on disk is its memory. An `.npz` is a zip, where 2 MB can claim 2 GiB, so its
arrays have a limit. Objects (pickles) are never loaded. Of rows that are asked for one by one none is made before.
Test: tests/test_arrays.py.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.files import check_input_file
from runtimes.proof.archive import npy_header

T = TypeVar("T")
FILE_LIMIT_BYTES = 64 << 30
NPZ_LIMIT_BYTES = 1 << 30
FAULTS = (
    ValueError, OSError, EOFError, MemoryError, OverflowError, SyntaxError, RecursionError, TypeError,
    tokenize.TokenError,
)  # fmt: skip
"""What numpy lets out for a damaged header; the last one since it parses old headers with Python's tokenizer."""


class Rows(Sequence[T]):
    """`count` items, of which `make` makes each, every time that it is asked for: a million take no room."""

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self.places, self.make = range(count), make

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self.make(i) for i in self.places[place]]
        return self.make(self.places[place])


TRUTH = ("[y.npy]", "[labels.npy]")
"""Members that may hold text: what is right for each image, for a metric of the user's own."""


def read_npy(path: Path | str) -> Array:
    """The array in a `.npy` file, mapped read-only; raises `BadInput` naming the file."""
    path = check_input_file(Path(path), FILE_LIMIT_BYTES)
    try:
        with open(path, "rb") as stream:
            shape, fortran, dtype = npy_header(stream)
            offset = stream.tell()
        _check(str(path), shape, dtype, path.stat().st_size - offset)
        return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
    except FAULTS as error:
        raise BadInput(f"{path}: is not a .npy array or is damaged ({_brief(error)}); save it again") from error


def read_npz(path: Path | str) -> dict[str, Array]:
    """All arrays in an `.npz` file by name; raises `BadInput` naming the file."""
    path = check_input_file(Path(path), FILE_LIMIT_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > NPZ_LIMIT_BYTES:
                advice = "save the images alone as .npy"
                raise BadInput(f"{path}: unpacks to {size:,} bytes, the limit is {NPZ_LIMIT_BYTES:,}; {advice}")
            return {m.filename.removesuffix(".npy"): _read_member(archive, m, path) for m in archive.infolist()}
    except (*FAULTS, zipfile.BadZipFile, RuntimeError) as error:
        raise BadInput(f"{path}: is not an .npz archive or is damaged ({_brief(error)}); save it again") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Array:
    with archive.open(member) as stream:
        shape, fortran, dtype = npy_header(stream)
        _check(f"{path}[{member.filename}]", shape, dtype, member.file_size - stream.tell())
        data = stream.read()  # to the end, where the check sum is compared
    return np.frombuffer(data, dtype, math.prod(shape)).reshape(shape, order="F" if fortran else "C")


def _check(subject: str, shape: tuple[int, ...], dtype: np.dtype[np.generic], size_bytes: int) -> None:
    """Raise `BadInput` for what is no numbers, text in `y` aside, and for a header that promises more than there is."""
    if dtype.kind not in "fiub" and not (dtype.kind == "U" and subject.endswith(TRUTH)):
        raise BadInput(f"{subject}: holds {str(dtype)[:40]}, not numbers; save float32 or uint8 images")
    if math.prod(shape) == 0 and not subject.rpartition("[")[2].startswith("box"):  # no object in any image
        raise BadInput(f"{subject}: is empty, shape {list(shape)}; save at least one image")
    wanted = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or wanted > size_bytes:
        raise BadInput(f"{subject}: is cut off, {size_bytes:,} bytes of {wanted:,}; save it again")


def _brief(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0][:80]
