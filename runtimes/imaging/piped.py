"""What comes through standard input: one picture, or one array as a `.npy` or `.npz` file has it.

    run NET -  < photo.png      curl ... | run NET /dev/stdin      the first bytes say what it is

It is read to its end, then held to the same limits as a file. Test: tests/test_piped.py.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from runtimes.base import Array, BadInput, Unavailable
from runtimes.execution.watch import temporary_prefix
from runtimes.imaging.arrays import read_npy, read_npz
from runtimes.imaging.images import FILE_LIMIT_BYTES, read_image

NAMES = ("-", "/dev/stdin")
NPY, NPZ = b"\x93NUMPY", b"PK\x03\x04"
"""How the two kinds of array begin; anything else should be a picture."""
CHUNK_BYTES = 1 << 20
T = TypeVar("T")


def read_piped(name: str, images_in: Callable[[dict[str, Array], Path], T], white: int | None = None) -> Array | T:
    """The pixels, or the array, that standard input holds; `name` is how the user calls it. Raises `BadInput`.

    `images_in` picks the images out of the arrays of an `.npz`; `white` is that of 16-bit pictures, where it is known.
    """
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or stream.isatty():
        raise BadInput(f"{name}: standard input is a terminal or closed; write `< FILE` or pipe a picture into it")
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        path = Path(folder, "piped")
        begins = _spool(stream, path, name)
        try:
            if begins.startswith(NPY):
                return np.array(read_npy(path))  # the file it is mapped from goes away
            return images_in(read_npz(path), path) if begins.startswith(NPZ) else read_image(path, white)
        except (BadInput, Unavailable) as error:
            raise type(error)(str(error).replace(str(path), name)) from error


def _spool(stream: BinaryIO, path: Path, name: str) -> bytes:
    """Write `stream` to `path`; its first bytes. No more is read than a picture may have."""
    begins, size = b"", 0
    with open(path, "wb") as file:
        while chunk := stream.read(CHUNK_BYTES):
            begins, size = begins or chunk[:8], size + len(chunk)
            if size > FILE_LIMIT_BYTES:
                raise BadInput(f"{name}: has more than {FILE_LIMIT_BYTES:,} bytes, the limit; give a file")
            file.write(chunk)
    return begins
