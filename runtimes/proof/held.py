"""One file that is held open, and read from any thread: what gets its name later is another file, and is not read.

    open_bundle --> Held --stream()--> a position of its own      mv new.edge net.edge: readers go on with the old file

A path that is opened again for every member finds two files where a rename came between. Where the system has no
`pread` (Windows, which lets nobody rename over an open file) the path is opened for each stream, and nothing is held.
Source: pread(2), rename(2). Test: tests/test_held.py.
"""

from __future__ import annotations

import io
import os
import weakref
from pathlib import Path
from typing import Any, BinaryIO, cast

from runtimes.base import BadInput
from runtimes.files import check_input_file

CHUNK = 2**20
"""Bytes that are copied at a time."""


class Held:
    """The regular file `path` of 1 to `limit_bytes` bytes; raises `BadInput` for anything else. It is closed when
    nothing reads it any more; a copy, also one sent to another process, opens the path again.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path, self._limit = check_input_file(path, limit_bytes), limit_bytes
        self._number: int | None = None
        if hasattr(os, "pread"):
            try:
                self._number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            except OSError as error:
                raise BadInput(f"{path}: cannot be read ({error.strerror}); check the name") from error
            weakref.finalize(self, os.close, self._number).atexit = False  # a thread may be reading still

    @property
    def size(self) -> int:
        return (os.fstat(self._number) if self._number is not None else self.path.stat()).st_size

    def stream(self) -> BinaryIO:
        """The file from its start, with a position that nobody else moves."""
        if self._number is None:
            return open(self.path, "rb")
        return cast(BinaryIO, io.BufferedReader(_Placed(self, self._number)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Held, (self.path, self._limit)


class _Placed(io.RawIOBase):
    """Reads `number` from a position of its own; `held` stays open as long as this is there."""

    def __init__(self, held: Held, number: int) -> None:
        self._held, self._number, self._at = held, number, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._number, min(len(buffer), CHUNK), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._held.size}[whence]
        if start + offset < 0:
            raise OSError(f"seek to {start + offset}")
        self._at = start + offset
        return self._at
