"""What malloc does with large blocks that are freed: given back, so that a long search stays small, or kept, for speed.

    glibc's malloc, by default     blocks above a size that moves (at most 32 MiB) are mapped and go back when freed
    within `memory_goes_back`      blocks of `LARGE_BYTES` and more are mapped, and unmapped when they are freed
    within `memory_is_kept`        nothing is mapped and nothing goes back before the end

Partial runs of one network ask for ever other sizes: what is kept of them added up to several times the largest tensor
(U-Net 275 MB, now 70 to 132; a fifth more time). The opposite holds where copies of the same weights come and go: the
system zeroes every page of a block that it maps, which is half of the time of quantizing an AlexNet (65 s of CPU time,
37 when kept; 2.1 GB, 2.7 when kept). Source: mallopt(3). Test: tests/test_memory.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGE_BYTES = 256 * 1024
PLENTY = 22
"""Twice what quantizing takes when memory is kept, as a multiple of the weights: 11 for an AlexNet, else 9."""
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
def memory_is_kept(weights_bytes: int = 0) -> Iterator[None]:
    """Within it, blocks of any size are used again; at the end what is free goes back to the system.

    Nothing is changed where the system has less than `PLENTY` times `weights_bytes` available: then size comes first.
    """
    if PLENTY * weights_bytes > available_bytes():
        yield
        return
    with _within({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: STEP_BYTES}):
        yield
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that can be had without swapping, as Linux estimates it; 0 where that is not known."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return 0
    found = next((line.split() for line in lines if line.startswith("MemAvailable:")), ["", "0"])
    return 1024 * int(found[1])


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
