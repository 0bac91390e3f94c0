"""exporters/isolation/warm.py: forks do what fresh children do, with the same limits; nothing outlives the block."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporters.isolation.sandbox import ChildFailed, run_in_child
from exporters.isolation.warm import warm_children
from runtimes.base import BadInput
from test_sandbox import HERE, TIMEOUT_S, alive, all_gone

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.usefixtures("fresh_children"),
]
Answer = tuple[bytes, dict[str, Any]]


def pids(data: bytes) -> Answer:
    return b"", {"own": os.getpid(), "parent": os.getppid(), "tools": "onnxsim" in sys.modules}


def leaves_traces(data: bytes) -> Answer:
    seen = getattr(sys, "_trace", 0)
    sys._trace = seen + 1  # type: ignore[attr-defined]
    return b"", {"seen": seen}


def call(
    function: str, data: bytes = b"", timeout_s: float = TIMEOUT_S, memory_mb: int = 2048, **options: Any
) -> Answer:
    return run_in_child(function, data, options, timeout_s=timeout_s, memory_mb=memory_mb)


def mine(function: str, **options: Any) -> dict[str, Any]:
    return call(f"test_warm:{function}", **options)[1]


@pytest.fixture(scope="module")
def warm() -> Iterator[None]:
    """One keeper for all tests that let it live: starting it takes seconds."""
    with warm_children():
        yield


def test_one_keeper_many_forks() -> None:
    with warm_children():
        first, second = mine("pids"), mine("pids")
        assert first["parent"] == second["parent"] != os.getpid()
        assert first["own"] != second["own"]
        assert first["tools"], "the tools were imported before the fork"
        assert alive(first["parent"])
    assert all_gone([first["parent"], first["own"], second["own"]])
    assert mine("pids")["parent"] == os.getpid(), "after the block children are fresh processes again"


def test_a_job_leaves_nothing_to_the_next(warm: None) -> None:
    assert [mine("leaves_traces")["seen"] for _ in range(2)] == [0, 0]


def test_a_fork_is_quick(warm: None) -> None:
    """A fresh child that imports onnxsim takes a second or more; ten forks must take less than ten of those by far."""
    mine("pids")
    started = time.perf_counter()
    for _ in range(10):
        mine("pids")
    assert time.perf_counter() - started < 5


def test_answers_and_errors_are_those_of_a_fresh_child(warm: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(f"{HERE}:echo", b"abc\0", a=1) == (b"\0cba", {"a": 1})
    call(f"{HERE}:noisy")
    with pytest.raises(BadInput, match=r"x.onnx: is wrong"):
        call(f"{HERE}:bad_input")
    with pytest.raises(ChildFailed, match="KeyError"):
        call(f"{HERE}:broken")
    with pytest.raises(ChildFailed, match="ended with code 3"):
        call(f"{HERE}:leave")
    with pytest.raises(ChildFailed, match=r"longer than 0\.7 s") as caught:
        call(f"{HERE}:phases", last_s=0.7)
    assert caught.value.phase == "second"
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no limit on address space")
def test_memory_is_limited(warm: None) -> None:
    with pytest.raises(ChildFailed, match="more than 2,048 MB"):
        call(f"{HERE}:eat")


@pytest.mark.parametrize("number", [signal.SIGFPE, signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_costs_one_job(warm: None, number: int) -> None:
    keeper = mine("pids")["parent"]
    with pytest.raises(ChildFailed, match=signal.Signals(number).name):
        call(f"{HERE}:die", number=int(number))
    assert mine("pids")["parent"] == keeper


def test_a_job_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    with warm_children():
        keeper = mine("pids")["parent"]
        with pytest.raises(ChildFailed, match=r"longer than 1\.5 s"):
            call(f"{HERE}:sleep_with_a_child", timeout_s=1.5, file=str(tmp_path / "pids"))
        assert all_gone([keeper, *(int(pid) for pid in (tmp_path / "pids").read_text().split())])
        assert mine("pids")["parent"] != keeper, "the next job starts another keeper"


def test_a_keeper_that_dies_is_named_and_replaced() -> None:
    with warm_children():
        os.kill(mine("pids")["parent"], signal.SIGKILL)
        with pytest.raises(ChildFailed, match="without an answer"):
            mine("pids")
        assert mine("pids")["tools"]
