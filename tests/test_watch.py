"""A bundle's command that never ends or crashes: Ctrl-C is heard, and a crash is one line."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from edgecnn.cli._click import group
from runtimes.base import BadInput
from runtimes.bundle import MODEL
from runtimes.execution import watch
from small_nets import model
from test_device_bundle import CHILD, changed, cls_bundle, entry, picture

ROOT = Path(__file__).resolve().parent.parent
LOOP = """<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 8, 8] x) => (float[N, 10] y) {
    f = GlobalMaxPool (x)
    t = Tile (f, four)
    s = Flatten (t)
    u = Slice (s, zero, ten, one)
    y = Loop (rounds, go, u) <body = b (int64 i, bool c, float[N, 10] v) => (bool d, float[N, 10] w) {
        d = Identity (c) w = Relu (v)
    }>
}"""
FATAL = """<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 8, 8] x) => (float[N, 10] y) {
    q = Div (low, minus)
    f = Flatten (x)
    u = Slice (f, zero, ten, one)
    r = Cast <to = 1> (q)
    y = Add (u, r)
}"""
"""INT64_MIN / -1: SIGFPE in ONNX Runtime, when it folds constants."""
SLICE = {name: np.array([value]) for name, value in (("zero", 0), ("ten", 10), ("one", 1))}
TILES = np.array([1, 4, 1, 1])
BUSY_S = 1.0
"""More processor time than it takes to come to the model's first run."""


def with_model(path: Path, text: str, **weights: np.ndarray) -> Path:
    """A bundle of pictures and ten classes with another model in it, its hash in order."""
    data = model(text, **weights).SerializeToString()

    def replace(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        members[MODEL], manifest["files"][MODEL] = data, entry(data)

    return changed(cls_bundle(path), replace)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rounds = {"rounds": np.array(2**62), "go": np.array(True), "four": TILES}
    return with_model(tmp_path_factory.mktemp("endless") / "net.edge", LOOP, **rounds, **SLICE)


@pytest.fixture(scope="module")
def fatal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    low = {"low": np.array([-(2**63)]), "minus": np.array([-1])}
    return with_model(tmp_path_factory.mktemp("fatal") / "net.edge", FATAL, **low, **SLICE)


def command(place: str, bundle: Path, words: list[str]) -> list[str]:
    """`edgecnn WORD NAME.edge ...`, or `python NAME.edge WORD ...` where there is no edgecnn."""
    if place == "device":
        return [sys.executable, "-c", CHILD, str(bundle), *words]
    return [sys.executable, "-m", "edgecnn", words[0], str(bundle), *words[1:]]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}


def tree(process: int) -> Iterator[int]:
    """`process` and all that it has started."""
    yield process
    with contextlib.suppress(OSError):  # gone meanwhile
        for line in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield from tree(int(line))


def stat(process: int) -> list[str]:
    """From the state on; a zombie or nothing is `Z`."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["Z", *"0" * 20]


def busy_s(process: int) -> float:
    """Seconds of processor time of all of them."""
    return sum(int(n) for pid in tree(process) for n in stat(pid)[11:13]) / os.sysconf("SC_CLK_TCK")


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
@pytest.mark.parametrize(
    ("place", "words", "to", "send", "code"),
    [
        ("edgecnn", ["run", "IMAGE"], os.kill, signal.SIGINT, 130),
        ("edgecnn", ["verify", "--json"], os.killpg, signal.SIGINT, 130),
        ("edgecnn", ["bench"], os.kill, signal.SIGTERM, 143),
        ("device", ["run", "IMAGE", "--require-all", "--json"], os.killpg, signal.SIGINT, 130),
        ("device", ["verify"], os.kill, signal.SIGTERM, 143),
        ("device", ["bench"], os.kill, signal.SIGINT, 130),
        ("edgecnn", ["run", "IMAGE"], os.killpg, signal.SIGHUP, 129),
        ("edgecnn", ["check", "ITSELF"], os.kill, signal.SIGTERM, 143),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else getattr(value, "__name__", None),
)
def test_it_can_be_interrupted(
    place: str, words: list[str], to: Callable[[int, int], None], send: int, code: int, endless: Path, tmp_path: Path
) -> None:
    """`kill` reaches the parent alone, Ctrl-C in a terminal all of its group."""
    image = picture(tmp_path / "a.ppm")
    folder = tmp_path / "temporary"
    folder.mkdir()
    named = {"IMAGE": str(image), "ITSELF": str(endless)}
    args = command(place, endless, [named.get(word, word) for word in words])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    heard = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, which bequeaths it
    parent = subprocess.Popen(args, **pipes, env=environment(folder), start_new_session=True, preexec_fn=heard)
    try:
        while busy_s(parent.pid) < BUSY_S:
            assert parent.poll() is None
            time.sleep(0.02)
        started = list(tree(parent.pid))
        to(parent.pid, send)
        out, err = parent.communicate(timeout=10)  # for ever, where it does not listen
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
    assert (parent.returncode, out) == (code, b"")
    word = {129: b"the terminal was closed", 130: b"interrupted", 143: b"terminated"}[code]
    assert err == b"error: " + word + b"; nothing half-written was left behind\n"
    assert list(folder.iterdir()) == []
    assert {stat(pid)[0] for pid in started} == {"Z"}


@pytest.mark.skipif(sys.platform != "linux", reason="the signal of a processor")
@pytest.mark.parametrize(
    ("place", "words"),
    [("edgecnn", ["run", "IMAGE"]), ("edgecnn", ["verify", "--json"]), ("device", ["run", "IMAGE", "--json"]),
     ("device", ["verify"]), ("edgecnn", ["evaluate", "--data", "digits"])],
)  # fmt: skip
def test_a_crash_is_one_line(place: str, words: list[str], fatal: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.ppm")
    args = command(place, fatal, [str(image) if word == "IMAGE" else word for word in words])
    done = subprocess.run(args, capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    what = "native code crashed on it (SIGFPE): onnxruntime, onnx or torch; make it again, or use another version"
    assert done.stderr == f"error: {fatal}: {what}\n"


def test_every_command_that_opens_a_model_is_watched() -> None:
    context = click.Context(group)
    names = group.list_commands(context)
    opened = {name: getattr(group.get_command(context, name), "opens", "") for name in names}
    assert {name for name, parameters in opened.items() if not parameters} == {"demo", "doctor", "models"}
    for name, parameters in opened.items():
        known = {parameter.name for parameter in group.get_command(context, name).params}
        assert set(parameters.split()) <= known, name


# ----------------------------------------------------------------------------------------- the fork, without a network
WATCHED = "import os, sys, signal, time\nfrom runtimes.execution.watch import watched\n"
WATCHED_ENV = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}


def watched_process(work: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"{WATCHED}{work}"], capture_output=True, text=True, timeout=60, env=WATCHED_ENV
    )


def test_exit_code_and_output_come_once() -> None:
    """What the parent had not written yet is not written by both, and nothing after the call is done twice."""
    done = watched_process(
        "print('before', end=' ')\nprint(watched('x', lambda: print('work', end=' ') or 3), 'after')"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "before work 3 after\n", "")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("signal.SIGSEGV", "x: native code crashed on it (SIGSEGV): onnxruntime"),
        ("signal.SIGKILL", "x: its process was killed (SIGKILL), often for want of memory; free some"),
        ("signal.SIGRTMIN + 5", "x: native code crashed on it (signal 39)"),
    ],
)
@linux
def test_how_the_work_died_is_said(number: str, words: str) -> None:
    script = f"try: watched('x', lambda: os.kill(os.getpid(), {number}))\nexcept Exception as e: print(repr(e))"
    assert watched_process(script).stdout.startswith(f"{BadInput.__name__}('{words}")


@pytest.mark.parametrize(("first", "then"), [("parent", "0"), ("os.getpid()", "parent")], ids=["passed on", "twice"])
def test_python_code_has_time_to_clean_up(first: str, then: str) -> None:
    """Ctrl-C is passed on; where a terminal gave it to both, the second does not break into what the first began."""
    script = (
        "parent = os.getpid()\n"
        "def work():\n"
        f"    try: os.kill({first}, signal.SIGINT); time.sleep(30)\n"
        f"    except KeyboardInterrupt: {then} and os.kill({then}, signal.SIGINT)\n"
        "    time.sleep(0.6); print('clean'); return 130\n"
        "print(watched('x', work))"
    )
    done = watched_process(script)
    assert (done.stdout, done.stderr) == ("clean\n130\n", "")


@linux
def test_nobody_works_on_when_the_watcher_was_killed() -> None:
    script = "def work():\n    print(os.getpid(), flush=True); time.sleep(60)\nwatched('x', work)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{WATCHED}{script}"], stdout=subprocess.PIPE, text=True, env=WATCHED_ENV
    ) as watcher:
        assert watcher.stdout is not None
        assert int(watcher.stdout.readline()) != watcher.pid
        watcher.kill()
        rest, _ = watcher.communicate(timeout=20)  # it ends where nobody holds the pipe any more
    assert rest == ""


def test_what_a_killed_process_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = Path(tempfile.mkdtemp(prefix=watch.temporary_prefix()))
    (mine / "run.json").write_text("x")
    (other := tmp_path / f"edgecnn-{os.getpid()}0-x").mkdir()
    watch._sweep(os.getpid())
    assert list(tmp_path.iterdir()) == [other]


def test_without_fork_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    assert watch.watched("x", os.getpid) == os.getpid()


def test_what_python_code_is_called_with_is_not_watched() -> None:
    """A program that calls `main(args)` has its own signals: nothing is forked under it."""
    script = (
        "import os, sys; from edgecnn.cli import main; del os.fork; os.fork = lambda: sys.exit('forked')\n"
        "print(main(['verify', 'none.edge']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment(ROOT)
    )
    assert done.stdout == "2\n"
    assert re.fullmatch(r"error: none.edge: no such file; check the name\n", done.stderr)


SLOW = """
from runtimes.device.process import explain, outcome, run
class Slow:
    def __del__(self): time.sleep(3)
def work():
    held = Slow()
    print("ready", flush=True)
    while True: time.sleep(0.01)
def again(error):
    os.kill(os.getpid(), signal.SIGTERM) if AGAIN else None
    return explain(error)
sys.exit(run(lambda: watched("x", lambda: outcome(work, again)), explain, own=True))
"""


@pytest.mark.parametrize(
    ("send", "again", "code"), [(signal.SIGINT, False, 130), (signal.SIGTERM, False, 143), (signal.SIGTERM, True, 143)]
)
def test_one_of_the_two_speaks(send: int, again: bool, code: int) -> None:
    """Where what the work holds takes longer to be given back than the watcher waits, and where the same signal comes
    twice, to the group and from the watcher.
    """
    script = f"AGAIN = {again}\n{WATCHED}{SLOW}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    args = [sys.executable, "-c", script]
    with subprocess.Popen(args, **pipes, text=True, env=WATCHED_ENV, preexec_fn=heard) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.send_signal(send)
        _, err = parent.communicate(timeout=30)
    word = "interrupted" if send == signal.SIGINT else "terminated"
    assert (parent.returncode, err) == (code, f"error: {word}; nothing half-written was left behind\n")
