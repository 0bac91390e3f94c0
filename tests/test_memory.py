"""edgecnn/memory.py: what is freed goes back although smaller blocks behind it live on, or is kept until the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgecnn import memory

SCRIPT = """
import ctypes, sys
from pathlib import Path
from edgecnn.memory import memory_goes_back, memory_is_kept

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
elif sys.argv[1] == "kept":
    use()
else:
    with memory_is_kept():
        block = libc.malloc(100 * 2**20)
        ctypes.memset(block, 1, 100 * 2**20)
        libc.free(block)
        if sys.argv[1] == "inside":
            print(resident_mb() - before)
            sys.exit()
print(resident_mb() - before)
"""


def grown_mb(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return float(done.stdout)


only_glibc = pytest.mark.skipif(memory._libc() is None, reason="glibc's malloc alone can be told what to keep")


@only_glibc
def test_large_blocks_go_back() -> None:
    assert grown_mb("kept") > 32
    assert grown_mb("back") < 8


@only_glibc
def test_what_is_kept_goes_back_at_the_end() -> None:
    assert grown_mb("inside") > 90
    assert grown_mb("after") < 8


@pytest.mark.parametrize("within", [memory.memory_goes_back, memory.memory_is_kept])
def test_without_glibc_nothing_happens(within: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_libc", lambda: None)
    with within():
        pass


def test_the_usual_is_back_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, int]] = []
    libc = SimpleNamespace(mallopt=lambda *what: said.append(what), malloc_trim=lambda _: None)
    monkeypatch.setattr(memory, "_libc", lambda: libc)
    with pytest.raises(KeyError), memory.memory_goes_back():
        raise KeyError
    assert said == [(-3, memory.LARGE_BYTES), (-3, memory.AFTERWARDS_BYTES)]
    with pytest.raises(KeyError), memory.memory_is_kept():
        raise KeyError
    assert dict(said) == {-3: memory.AFTERWARDS_BYTES, -4: 2**16, -1: 2 * memory.AFTERWARDS_BYTES, -2: 2**17}


def test_where_memory_is_scarce_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    fake = SimpleNamespace(mallopt=lambda option, value: told.append((option, value)), malloc_trim=lambda pad: None)
    monkeypatch.setattr(memory, "_libc", lambda: fake)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000 * memory.PLENTY)
    with memory.memory_is_kept(1001):
        assert not told
    with memory.memory_is_kept(1000):
        assert (memory.M_MMAP_MAX, 0) in told


def test_what_is_available_is_read_from_linux(tmp_path: Path) -> None:
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:       24683084 kB\nMemFree:  100 kB\nMemAvailable:   14021172 kB\n")
    assert memory.available_bytes(table) == 14021172 * 1024
    table.write_text("MemTotal: 1 kB\n")
    assert memory.available_bytes(table) == 0
    assert memory.available_bytes(tmp_path / "nothing") == 0
