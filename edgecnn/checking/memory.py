"""Large blocks go back to the system when they are freed, so that a search over many partial runs stays small.

    glibc's malloc, by default     each large block that is freed raises the size up to which blocks are kept
    within `memory_goes_back`      blocks of `LARGE_BYTES` and more are mapped, and unmapped when they are freed

Partial runs of one network ask for ever other sizes: what is kept of them added up to several times the largest tensor
(U-Net 275 MB, now 70 to 132; a fifth more time). Source: mallopt(3), M_MMAP_THRESHOLD. Test: tests/test_memory.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Callable, Iterator

LARGE_BYTES = 256 * 1024
AFTERWARDS_BYTES = 32 * 2**20
"""The highest value that glibc's own rule reaches; a threshold that was set no longer moves by itself."""
M_MMAP_THRESHOLD = -3


@functools.cache
def _mallopt() -> Callable[[int, int], int] | None:
    """glibc's, where that is the C library."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library.mallopt if hasattr(library, "gnu_get_libc_version") else None


@contextlib.contextmanager
def memory_goes_back() -> Iterator[None]:
    """Within it, large blocks are never kept by malloc; other C libraries than glibc are left as they are."""
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    try:
        yield
    finally:
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, AFTERWARDS_BYTES)
