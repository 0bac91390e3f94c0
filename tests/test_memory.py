"""edgecnn/checking/memory.py: what is freed is the system's again, although smaller blocks behind it live on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgecnn.checking import memory

SCRIPT = """
import ctypes, sys
from pathlib import Path
from edgecnn.checking.memory import memory_goes_back

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def use():
    libc.free(libc.malloc(31 * 2**20))  # glibc now keeps blocks up to this size
    blocks = []
    for _ in range(64):
        large, _ = libc.malloc(2**20), libc.malloc(2**16)
        ctypes.memset(large, 1, 2**20)
        blocks.append(large)
    for block in blocks:
        libc.free(block)

before = resident_mb()
if sys.argv[1] == "back":
    with memory_goes_back():
        use()
else:
    use()
print(resident_mb() - before)
"""


def grown_mb(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(memory._mallopt() is None, reason="only glibc's malloc keeps what is freed and can be told not to")
def test_large_blocks_go_back() -> None:
    assert grown_mb("kept") > 32
    assert grown_mb("back") < 8


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_mallopt", lambda: None)
    with memory.memory_goes_back():
        pass


def test_the_threshold_is_left_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, int]] = []
    monkeypatch.setattr(memory, "_mallopt", lambda: lambda *what: said.append(what) or 1)
    with pytest.raises(KeyError), memory.memory_goes_back():
        raise KeyError
    assert said == [(-3, memory.LARGE_BYTES), (-3, memory.AFTERWARDS_BYTES)]
