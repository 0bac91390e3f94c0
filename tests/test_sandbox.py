"""exporters/isolation/sandbox.py: whatever the child does, the parent gets an answer or a sentence; nothing stays.

The functions that misbehave are in this file; the child imports it by name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from exporters.isolation import sandbox
from exporters.isolation.sandbox import ChildFailed, run_in_child
from runtimes.base import BadInput, Unavailable

HERE = "test_sandbox"
TIMEOUT_S = 20.0
"""Far more than any of these needs; only tests of the time limit give a short one."""

pytestmark = pytest.mark.usefixtures("fresh_children")
posix = pytest.mark.skipif(os.name != "posix", reason="signals and sessions are POSIX")
Answer = tuple[bytes, dict[str, Any]]


# ------------------------------------------------------------------------------------------ what runs in the children
def echo(data: bytes, **options: Any) -> Answer:
    return data[::-1], options


def noisy(data: bytes) -> Answer:
    print("hello from Python")
    os.system("echo hello from a shell; echo and again >&2")
    return b"", {}


def bad_input(data: bytes) -> Answer:
    raise BadInput("x.onnx: is wrong\n; mend it")


def unavailable(data: bytes) -> Answer:
    raise Unavailable("cuda: is missing")


def broken(data: bytes) -> Answer:
    raise KeyError("nothing\nhere")


def die(data: bytes, number: int) -> Answer:
    os.kill(os.getpid(), number)
    time.sleep(60)
    return b"", {}


def leave(data: bytes) -> Answer:
    os._exit(3)


def eat(data: bytes) -> Answer:
    return bytes(2 << 30), {}


def sleep_with_a_child(data: bytes, file: str) -> Answer:
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(file).write_text(f"{os.getpid()} {grandchild.pid}")
    time.sleep(60)
    return b"", {}


def imported(data: bytes, name: str) -> Answer:
    return b"", {"file": str(sys.modules[name].__file__)}


# ------------------------------------------------------------------------------------------------------------ answers
def call(
    function: str, data: bytes = b"", timeout_s: float = TIMEOUT_S, memory_mb: int = 1024, **options: Any
) -> Answer:
    return run_in_child(f"{HERE}:{function}", data, options, timeout_s=timeout_s, memory_mb=memory_mb)


def test_bytes_and_options_go_in_and_come_out() -> None:
    assert call("echo", b"abc\0", a=1, b=[2, "x"]) == (b"\0cba", {"a": 1, "b": [2, "x"]})


def test_nothing_that_a_child_prints_is_seen(capfd: pytest.CaptureFixture[str]) -> None:
    call("noisy")
    assert capfd.readouterr() == ("", "")


def test_our_own_errors_come_back_as_they_are() -> None:
    with pytest.raises(BadInput, match=r"^x.onnx: is wrong\\n; mend it$"):
        call("bad_input")
    with pytest.raises(Unavailable, match="cuda"):
        call("unavailable")


def test_other_errors_are_one_sentence() -> None:
    with pytest.raises(ChildFailed, match=r"^KeyError: .*nothing"):
        call("broken")


@posix
@pytest.mark.parametrize("number", [signal.SIGFPE, signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_named(number: int) -> None:
    with pytest.raises(ChildFailed, match=signal.Signals(number).name):
        call("die", number=int(number))


def test_an_exit_without_an_answer_is_named() -> None:
    with pytest.raises(ChildFailed, match="ended with code 3"):
        call("leave")


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no limit on address space")
def test_memory_is_limited() -> None:
    with pytest.raises(ChildFailed, match="more than 1,024 MB"):
        call("eat")


# -------------------------------------------------------------------------------------------------- nothing is left
def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z" if Path("/proc").is_dir() else True
    except OSError:
        return False


def all_gone(pids: list[int], within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, pids))


@posix
def test_time_is_limited_and_grandchildren_die_too(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ChildFailed, match=r"longer than 1\.5 s"):
        call("sleep_with_a_child", timeout_s=1.5, file=str(tmp_path / "pids"))
    assert time.monotonic() - started < 10
    assert all_gone([int(pid) for pid in (tmp_path / "pids").read_text().split()])


PARENT = """
import sys
sys.path[:0] = {path!r}
from exporters.isolation.sandbox import run_in_child
run_in_child("test_sandbox:sleep_with_a_child", b"", {{"file": {file!r}}}, timeout_s=60)
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_parent_that_is_stopped_takes_its_child_along(tmp_path: Path, number: signal.Signals) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent was killed")
    file = tmp_path / "pids"
    code = PARENT.format(path=[str(Path(__file__).parent), str(Path(__file__).parent.parent)], file=str(file))
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    end = time.monotonic() + TIMEOUT_S
    while not (file.exists() and len(file.read_text().split()) == 2) and time.monotonic() < end:
        time.sleep(0.02)
    child, grandchild = map(int, file.read_text().split())
    assert alive(child)
    assert alive(grandchild)
    parent.send_signal(number)
    code_seen = parent.wait(TIMEOUT_S)
    if number == signal.SIGKILL:  # nobody is left to tell the grandchild
        os.kill(grandchild, signal.SIGKILL)
    assert code_seen == {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 128 + signal.SIGTERM}.get(number, -number)
    assert all_gone([child, grandchild])
    if number != signal.SIGKILL:
        assert [p.name for p in tmp_path.iterdir()] == ["pids"], "the temporary folder is gone"


@posix
def test_signal_handlers_are_as_they_were() -> None:
    own = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        call("echo")
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        call("echo")
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN, "a caller who decided otherwise is left alone"
    finally:
        signal.signal(signal.SIGTERM, own)


def test_modules_of_the_current_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('foreign code ran')")
    (tmp_path / "exporters.py").write_text("raise SystemExit('foreign code ran')")
    monkeypatch.chdir(tmp_path)
    _, answer = call("imported", name="json")
    assert not answer["file"].startswith(str(tmp_path))


# --------------------------------------------------------------------------------------------------------- phases
def phases(data: bytes, last_s: float) -> Answer:
    sandbox.enter("first", 0.5)
    sandbox.enter("second", last_s)
    while True:  # the alarm needs no help of the interpreter, but a test should not depend on C++ code that hangs
        time.sleep(0.05)


@posix
def test_a_phase_has_its_own_limit_and_is_named() -> None:
    with pytest.raises(ChildFailed, match=r"^it takes longer than 0\.7 s$") as caught:
        call("phases", last_s=0.7)
    assert caught.value.phase == "second"
    with pytest.raises(ChildFailed, match=r"^it takes longer than 1\.5 s$") as caught:
        call("phases", timeout_s=1.5, last_s=0)
    assert caught.value.phase == "second", "without a limit of its own it has that of the job"
    with pytest.raises(ChildFailed) as caught:
        call("die", number=int(signal.SIGKILL))
    assert caught.value.phase == ""


def test_outside_a_child_a_phase_is_nothing() -> None:
    sandbox.enter("first", 0.01)
    time.sleep(0.05)


def test_a_child_finds_this_checkout_before_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -c` in the checkout has only the current folder on its path, which no child gets."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: made.update(options))
    monkeypatch.setattr(sys, "path", [""])
    sandbox.popen("exporters.isolation.sandbox", stdin=0, stdout=1)
    assert made["env"]["PYTHONPATH"] == str(Path(__file__).resolve().parent.parent)
