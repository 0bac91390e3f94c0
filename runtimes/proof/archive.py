"""Read zip files and NumPy arrays that may be hostile: all is checked before a byte is unpacked, nothing is written.

    names      relative, printable, no `..`, no duplicates (also not by upper and lower case), regular members only
    sizes      members may not overlap, nor grow to more than 16 MiB + 100 x what they take in the archive
    arrays     the header's shape must fit the bytes that are there; no pickled objects

Source: PKWARE APPNOTE.TXT 4.3; Fifield 2019, "A better zip bomb"; numpy.lib.format. Test: tests/test_archive.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.proof.held import Held
from runtimes.proof.zip_structure import faults

MAX_ARCHIVE_BYTES = 2**33
FREE_BYTES = 2**24
MAX_EXPANSION = 100
AGAIN = "build it again, or get it from where it was built"
_CHUNK = 2**20
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, OSError, RuntimeError, ValueError, MemoryError)


class Changed(BadInput):
    """A member of a bundle is not what was packed: damaged, or tampered with."""


class Archive:
    """The members of a zip file by name, checked when this is made; raises `BadInput` with the first thing wrong.

    The file that was opened is read as long as this lives, whatever is renamed to its path, by any number of threads.
    """

    def __init__(self, source: Path | bytes, subject: str) -> None:
        self.subject = subject
        self._source = source if isinstance(source, bytes) else Held(source, MAX_ARCHIVE_BYTES)
        with self._open() as zipped:
            infos = zipped.infolist()
        for info in infos:
            _check_member(info, subject)
        size = len(self._source) if isinstance(self._source, bytes) else self._source.size
        _check_together(infos, size, subject)
        self.members: Mapping[str, int] = {info.filename: info.file_size for info in infos}

    def read(self, name: str, limit_bytes: int = MAX_ARCHIVE_BYTES) -> bytes:
        """The content of a member; raises `BadInput` when it is missing or too large, `Changed` when it is damaged."""
        if name not in self.members:
            raise BadInput(f"{self.subject}: has no {name}; it is incomplete, build it again")
        if self.members[name] > limit_bytes:
            size = f"{name} has {self.members[name]:,} bytes, the limit is {limit_bytes:,}"
            raise BadInput(f"{self.subject}: {size}; build it again")
        with self._open(name) as zipped:
            return zipped.read(name)

    def sha256(self, name: str) -> str:
        """Hash of a member's content, which is not held in memory; raises `Changed` when it is damaged."""
        digest = hashlib.sha256()
        with self._open(name) as zipped, zipped.open(name) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def require_structure(self) -> None:
        """Raise `Changed` where the file holds more than its members, or says two things of one."""
        with self._open("its structure") as zipped:
            assert zipped.fp is not None
            fault = next(faults(zipped.fp, zipped), "")
        if fault:
            raise Changed(f"{self.subject}: is not the zip that was packed: {fault}; build or copy it again")

    @contextlib.contextmanager
    def _open(self, member: str = "") -> Iterator[zipfile.ZipFile]:
        """The zip file; what goes wrong with the `member` that is read of it is damage to that."""
        try:
            source = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source.stream()
            with source, zipfile.ZipFile(source) as zipped:
                yield zipped
        except _BROKEN as error:
            if member:
                raise Changed(f"{self.subject}: {member} is damaged ({error}); copy or build it again") from error
            raise BadInput(f"{self.subject}: is not a whole zip file ({error}); copy or build it again") from error


def read_npz(source: Path | bytes, subject: str, limit_bytes: int) -> dict[str, Array]:
    """The arrays of an `.npz` file by name; raises `BadInput` for what is damaged, pickled or larger than the limit."""
    archive = Archive(source, subject)
    total = sum(archive.members.values())
    if total > limit_bytes:
        raise BadInput(f"{subject}: holds {total:,} bytes, the limit is {limit_bytes:,}; give fewer samples")
    arrays = {name: read_npy(archive.read(name), f"{subject}: {name}") for name in archive.members}
    return {name.removesuffix(".npy"): array for name, array in arrays.items()}


def read_npy(data: bytes, subject: str) -> Array:
    """The array of an `.npy` file's bytes, in native byte order; raises `BadInput` unless header and bytes agree.

    `numpy.load` allocates what the header claims before it looks at the bytes: a 128-byte file may claim a terabyte.
    """
    stream = io.BytesIO(data)
    try:
        shape, fortran, dtype = npy_header(stream)
    except Exception as error:  # numpy reads headers with Python's own tokenizer, which has its own errors
        raise BadInput(f"{subject}: is not an .npy array; write it with numpy.save") from error
    if dtype.hasobject or dtype.kind not in "biufcSU":
        raise BadInput(f"{subject}: holds {dtype}, only plain numbers and strings are read; convert it")
    body = len(data) - stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != body:
        raise BadInput(f"{subject}: its header says {list(shape)} {dtype}, but {body:,} bytes follow; write it again")
    flat = np.frombuffer(data, dtype, offset=stream.tell()) if body else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="), order="C")


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """(shape, Fortran order, dtype) of the `.npy` array that starts here; ValueError for an unknown version, and
    whatever numpy raises for what is none."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the format")
    shape, fortran, dtype = readers[version](stream)
    return shape, fortran, dtype


def safe_name(name: str) -> bool:
    """Whether `name` is a plain relative path that means the same on every system.

    >>> safe_name("lib/model.onnx"), safe_name("../model.onnx"), safe_name("C:\\\\model.onnx"), safe_name("/model.onnx")
    (True, False, False, False)
    """
    plain = name.isprintable() and len(name) <= 200 and not set(name) & set('\\:*?"<>|')
    return plain and all(part not in ("", ".", "..") for part in name.split("/"))


def _check_member(info: zipfile.ZipInfo, subject: str) -> None:
    mode = info.external_attr >> 16
    if info.orig_filename != info.filename or not safe_name(info.filename):
        raise BadInput(f"{subject}: the member name {info.orig_filename!r} is not a plain relative path; {AGAIN}")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise BadInput(f"{subject}: {info.filename} is a link or device, not a file; {AGAIN}")
    if info.flag_bits & 0x1:
        raise BadInput(f"{subject}: {info.filename} is encrypted, which is not needed; {AGAIN}")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput(
            f"{subject}: {info.filename} is compressed by method {info.compress_type}, only deflate is read; {AGAIN}"
        )
    if info.file_size > FREE_BYTES + MAX_EXPANSION * info.compress_size:
        grows = f"would grow from {info.compress_size:,} to {info.file_size:,} bytes"
        raise BadInput(f"{subject}: {info.filename} {grows}; {AGAIN}")


def _check_together(infos: list[zipfile.ZipInfo], size: int, subject: str) -> None:
    names = [info.filename.casefold() for info in infos]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BadInput(f"{subject}: has {twice[0]} more than once; build it again")
    if sum(info.compress_size for info in infos) > size:
        raise BadInput(f"{subject}: its members overlap; build it again")
    if sum(info.file_size for info in infos) > 4 * FREE_BYTES + MAX_EXPANSION * size:
        raise BadInput(f"{subject}: its members would grow to more than {MAX_EXPANSION} times its size; {AGAIN}")
