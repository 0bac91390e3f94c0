"""What malloc does with large blocks that are freed: given back, so that a long search stays small, or kept, for speed.

    glibc's malloc, by default     blocks above a size that moves (at most 32 MiB) are mapped and go back when freed
    within `memory_goes_back`      blocks of `LARGE_BYTES` and more are mapped, and unmapped when they are freed
    within `memory_is_kept`        nothing is mapped and nothing goes back before the end

Partial runs of one network ask for ever other sizes: what is kept of them added up to several times the largest tensor
(U-Net 275 MB, now 70 to 132; a fifth more time). The opposite holds where copies of the same weights come and go: the
system zeroes every page of a block that it maps, which was two thirds of the time of quantizing an AlexNet (57 s, now
28; 2.7 GB, now 3.0). Source: mallopt(3). Test: tests/test_memory.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Iterator
from typing import Any

LARGE_BYTES = 256 * 1024
STEP_BYTES = 64 * 2**20
"""By so much the heap grows at least."""
AFTERWARDS_BYTES = 32 * 2**20
"""The highest value that glibc's own rule reaches; a threshold that was set no longer moves by itself."""
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
USUAL = {
    M_MMAP_THRESHOLD: AFTERWARDS_BYTES,
    M_TRIM_THRESHOLD: 2 * AFTERWARDS_BYTES,
    M_TOP_PAD: 2**17,
    M_MMAP_MAX: 2**16,
}


@functools.cache
def _libc() -> Any:
    """glibc, where that is the C library; else None."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


@contextlib.contextmanager
def memory_goes_back() -> Iterator[None]:
    """Within it, large blocks are never kept by malloc; other C libraries than glibc are left as they are."""
    with _within({M_MMAP_THRESHOLD: LARGE_BYTES}):
        yield


@contextlib.contextmanager
def memory_is_kept() -> Iterator[None]:
    """Within it, blocks of any size are used again; at the end what is free goes back to the system."""
    with _within({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: STEP_BYTES}):
        yield
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


@contextlib.contextmanager
def _within(options: dict[int, int]) -> Iterator[None]:
    libc = _libc()
    if libc is None:
        yield
        return
    for option, value in options.items():
        libc.mallopt(option, value)
    try:
        yield
    finally:
        for option in options:
            libc.mallopt(option, USUAL[option])
