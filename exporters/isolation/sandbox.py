"""Run one named function of ours in a child process that may crash, hang or eat memory without taking us with it.

    parent   folder/input.bin, request.json -> python -m exporters.isolation.sandbox FOLDER -> output.bin, answer.json

A valid ONNX file can kill the process that opens it (SIGFPE on INT64_MIN / -1, a Loop of 2^62 rounds), and C++ code
does not listen to Ctrl-C. The child has its own session, a limit on its address space and a time limit; it is killed
with all its children when the time is over, when the parent is interrupted or terminated, and on Linux even when that
is killed. Nothing that it prints reaches our stdout. `exporters.isolation.warm` keeps one ready for many small jobs.
Source: setrlimit(2), prctl(2). Test: tests/test_sandbox.py.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import operator
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from runtimes import base
from runtimes.base import BadInput, EdgeError
from runtimes.execution.watch import die_with, temporary_prefix

MEMORY_MB = 3072
"""Address space of a child: four times what importing the largest of our tools takes."""


class ChildFailed(EdgeError):
    """The child gave no answer: it crashed, ran out of time or of memory. The message says which, without a subject.

    `phase` is the last one that the child had entered (`enter`).
    """

    phase: str = ""


Wait = Callable[[Path, float], int]
"""Start a child on a folder and wait so many seconds for it; returns its exit code, as `subprocess` has it."""


def run_in_child(
    target: str, data: bytes, options: Mapping[str, Any], *, timeout_s: float, memory_mb: int = MEMORY_MB
) -> tuple[bytes, dict[str, Any]]:
    """`module:function` called in a child as `function(data, **options)`; it returns (bytes, JSON-able dict).

    An `EdgeError` that the function raises is raised here again; anything else it dies of is a `ChildFailed`.
    """
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as name:
        folder = Path(name)
        request = {"target": target, "options": dict(options), "memory_mb": memory_mb, "parent": os.getpid()}
        try:
            (folder / "input.bin").write_bytes(data)
            (folder / "request.json").write_text(json.dumps(request, default=operator.index))
        except OSError as error:
            raise BadInput(
                f"{folder}: cannot be written ({error.strerror}); set TMPDIR to a folder with room"
            ) from error
        try:
            return _answer(folder, _how(folder, timeout_s), memory_mb)
        except ChildFailed as error:
            error.phase = _phase(folder)[0]
            raise


@contextlib.contextmanager
def use(wait: Wait) -> Iterator[None]:
    """Start children with `wait` in the meantime (`exporters.isolation.warm`)."""
    global _how
    before, _how = _how, wait
    try:
        yield
    finally:
        _how = before


def fresh(folder: Path, timeout_s: float) -> int:
    """The `Wait` of a child that is a new process."""
    return wait_for(start(folder), timeout_s)


_how: Wait = fresh


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A child that works on `folder`, in a session of its own."""
    return popen("exporters.isolation.sandbox", str(folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def popen(module: str, *arguments: str, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    """`python -m MODULE ARGUMENTS` with the modules that this process has, and none of the current folder."""
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(dict.fromkeys([home, *(entry for entry in sys.path if entry)]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],  # -P: no module of the current folder
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(child: subprocess.Popen[bytes], timeout_s: float) -> int:
    """The exit code of `child`; afterwards it and all its children are gone, whatever happened."""
    try:
        with terminate_as_exit():
            return child.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ChildFailed(too_long(timeout_s)) from error
    finally:
        kill_session(child)


def too_long(limit_s: float) -> str:
    return f"it takes longer than {limit_s:g} s"


@contextlib.contextmanager
def terminate_as_exit() -> Iterator[None]:
    """While a child runs, SIGTERM is an exception here, so that `finally` gets its turn to kill the child."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def kill_session(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and whatever it started; harmless when all of them have ended."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    elif child.poll() is None:
        child.kill()
    child.wait()


def _answer(folder: Path, code: int, memory_mb: int) -> tuple[bytes, dict[str, Any]]:
    try:
        answer = json.loads((folder / "answer.json").read_text())
        data = (folder / "output.bin").read_bytes()
    except (OSError, ValueError) as error:
        raise ChildFailed(_cause(code, _phase(folder)[1])) from error
    kind = answer.get("error")
    if kind == "MemoryError":
        raise ChildFailed(f"it needs more than {memory_mb:,} MB of memory")
    if kind == ChildFailed.__name__:
        raise ChildFailed(answer["message"])
    if kind is not None:
        raise getattr(base, kind)(answer["message"])
    return data, answer["result"]


def _cause(code: int, limit_s: float) -> str:
    if code >= 0:
        return f"its process ended with code {code}"
    if limit_s and code == -signal.SIGALRM:
        return too_long(limit_s)
    try:
        return f"its process was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"its process was killed by signal {-code}"


def _phase(folder: Path) -> tuple[str, float]:
    """What `enter` wrote last: name and limit in seconds (0: none)."""
    try:
        name, limit_s = json.loads((folder / "phase.json").read_text())
        return str(name), float(limit_s)
    except (OSError, ValueError):
        return "", 0.0


# ------------------------------------------------------------------------------------------------- inside the child
_folder: Path | None = None
"""The folder that this process works on; None in a process that is no child."""


def enter(phase: str, limit_s: float = 0.0) -> None:
    """Note, in a child, that `phase` begins; it may take `limit_s` seconds (0: as long as the child may).

    The kernel's alarm ends the process: C++ code that does not return to Python would not hear of anything else.
    """
    if _folder is None:
        return
    (_folder / "phase.json").write_text(json.dumps([phase, limit_s]))
    if hasattr(signal, "setitimer"):  # not on Windows, where only the limit of the whole job holds
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s)


def _limit(memory_mb: int, parent: int) -> None:
    """Bind this process: address space, no core file, and death together with the parent (Linux)."""
    if sys.platform == "win32":
        return
    import resource

    limit = memory_mb << 20
    with contextlib.suppress(ValueError, OSError):  # macOS refuses; a lower hard limit is stricter already
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    die_with(parent)


def _call(target: str, data: bytes, options: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The function's answer, or (b"", {"error": class, "message": text})."""
    module, _, name = target.partition(":")
    try:
        output, result = getattr(importlib.import_module(module), name)(data, **options)
        return output, {"result": result}
    except MemoryError:
        return b"", {"error": "MemoryError", "message": ""}
    except EdgeError as error:
        return b"", {"error": type(error).__name__, "message": str(error)}
    except Exception as error:
        text = " ".join(str(error).split())[:160]
        kind = "MemoryError" if "bad_alloc" in text else ChildFailed.__name__
        return b"", {"error": kind, "message": f"{type(error).__name__}: {text}"}


def main(folder: Path, parent: int | None = None) -> None:
    """Do the job that lies in `folder`; `parent` is the process that this one dies with (None: who made the job)."""
    global _folder
    _folder = folder
    request = json.loads((folder / "request.json").read_text())
    _limit(request["memory_mb"], parent or request["parent"])
    output, answer = _call(request["target"], (folder / "input.bin").read_bytes(), request["options"])
    (folder / "output.bin").write_bytes(output)
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    from exporters.isolation import sandbox  # not this copy of it, which is called __main__: `enter` is asked for there

    sandbox.main(Path(sys.argv[1]))
