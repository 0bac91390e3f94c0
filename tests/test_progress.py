"""Progress without a terminal: few plain lines, none for what is short, and never on stdout."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgecnn.cli import _options, _progress
from edgecnn.cli._progress import Lines
from edgecnn.report import Bars
from small_nets import conv_net, save


@pytest.fixture(autouse=True)
def no_progress_lines() -> None:
    """They are what is tested here (tests/conftest.py keeps them away elsewhere)."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    for _ in Lines(stream, clock)(range(100), "training"):
        clock.now += 4
    lines = stream.getvalue().splitlines()
    assert lines[:3] == ["progress: training: 3 of 100 done, 12 s", "progress: training: 6 of 100 done, 24 s",
                         "progress: training: 9 of 100 done, 36 s"]  # fmt: skip
    assert len(lines) < 400 / 10


def test_short_work_says_nothing() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    for label in ("exporting", "racing"):
        for _ in lines(range(60), label):
            clock.now += 0.07
    assert stream.getvalue() == ""


def test_a_day_is_a_page() -> None:
    stream, clock = io.StringIO(), Clock()
    for _ in Lines(stream, clock)(range(86_400), "training"):
        clock.now += 1
    lines = stream.getvalue().splitlines()
    assert 60 < len(lines) < 90
    times = [int(line.split()[-2]) for line in lines]
    assert all(b - a >= max(10, 0.1 * a) for a, b in itertools.pairwise(times))


def test_the_innermost_loop_is_told_and_one_step_has_no_count() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    for _ in lines((None,), "searching\x1b"):
        clock.now += 11
        lines.tell()
        assert list(lines("ab", "racing")) == ["a", "b"]
        for _ in lines("ab", "racing"):
            clock.now += 6
    assert stream.getvalue().splitlines() == ["progress: searching\\x1b, 11 s", "progress: racing: 2 of 2 done, 23 s"]
    assert (lines.loops, lines.thread) == ([], None)


def test_a_loop_that_raises_is_over() -> None:
    lines = Lines(io.StringIO(), Clock())
    loop = lines(range(3), "broken")
    assert next(loop) == 0
    loop.close()
    assert (lines.loops, lines.thread) == ([], None)


def test_a_long_step_is_told_by_a_thread_and_a_race_by_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "FIRST_SECONDS", 0.02)
    stream = io.StringIO()
    for _ in Lines(stream)((None,), "searching"):
        until = time.monotonic() + 10
        while stream.getvalue().count("\n") < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert stream.getvalue().startswith("progress: searching, 0 s\nprogress: searching, 0 s\n")
    before = set(threading.enumerate())
    for _ in Lines(io.StringIO())(range(50), "racing"):
        assert set(threading.enumerate()) == before


def test_a_closed_stream_does_not_matter() -> None:
    stream, clock = io.StringIO(), Clock()
    stream.close()
    for _ in Lines(stream, clock)(range(60), "training"):
        clock.now += 20


def test_which_progress_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, kind in ((io.StringIO(), Lines), (Terminal(), Bars)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert isinstance(_options.track(), kind)


def test_a_command_tells_it_on_stderr_alone(tmp_path: Path) -> None:
    """The whole command in a process of its own, its lines made due at once."""
    import json

    model = save(conv_net(), tmp_path / "net.onnx")
    script = (
        "import sys; from edgecnn.cli import _progress, main; _progress.FIRST_SECONDS = 0.0; _progress.SHARE = 0.0; "
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "check", str(model), str(model), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout)["passed"]
    lines = done.stderr.splitlines()
    assert any(line.startswith("progress: comparing: 0 of 9 done, ") for line in lines)
    assert all(line.startswith("progress: ") for line in lines)
