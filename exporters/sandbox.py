"""Run one named function of ours in a child process that may crash, hang or eat memory without taking us with it.

    parent   folder/input.bin, request.json  ->  python -m exporters.sandbox FOLDER  ->  output.bin, answer.json

A valid ONNX file can kill the process that opens it (SIGFPE on INT64_MIN / -1, a Loop of 2^62 rounds), and C++ code
does not listen to Ctrl-C. The child has its own session, a limit on its address space and a time limit; it is killed
with all its children when the time is over, when the parent is interrupted or terminated, and on Linux even when that
is killed. Nothing that it prints reaches our stdout. Source: setrlimit(2), prctl(2). Test: tests/test_sandbox.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from runtimes import base
from runtimes.base import BadInput, EdgeError

MEMORY_MB = 3072
"""Address space of a child: four times what importing the largest of our tools takes."""


class ChildFailed(EdgeError):
    """The child gave no answer: it crashed, ran out of time or of memory. The message says which, without a subject."""


def run_in_child(
    target: str, data: bytes, options: Mapping[str, Any], *, timeout_s: float, memory_mb: int = MEMORY_MB
) -> tuple[bytes, dict[str, Any]]:
    """`module:function` called in a child as `function(data, **options)`; it returns (bytes, JSON-able dict).

    An `EdgeError` that the function raises is raised here again; anything else it dies of is a `ChildFailed`.
    """
    with tempfile.TemporaryDirectory(prefix="edgecnn-") as name:
        folder = Path(name)
        request = {"target": target, "options": dict(options), "memory_mb": memory_mb, "parent": os.getpid()}
        try:
            (folder / "input.bin").write_bytes(data)
            (folder / "request.json").write_text(json.dumps(request))
        except OSError as error:
            raise BadInput(
                f"{folder}: cannot be written ({error.strerror}); set TMPDIR to a folder with room"
            ) from error
        code = _wait(_start(folder), timeout_s)
        return _answer(folder, code, memory_mb)


def _start(folder: Path) -> subprocess.Popen[bytes]:
    home = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(dict.fromkeys([home, *(entry for entry in sys.path if entry)]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "exporters.sandbox", str(folder)],  # -P: no module of the current folder
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait(child: subprocess.Popen[bytes], timeout_s: float) -> int:
    try:
        with _terminate_as_exit():
            return child.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ChildFailed(f"it takes longer than {timeout_s:g} s") from error
    finally:
        _kill_session(child)


@contextlib.contextmanager
def _terminate_as_exit() -> Iterator[None]:
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


def _kill_session(child: subprocess.Popen[bytes]) -> None:
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
        raise ChildFailed(_cause(code)) from error
    kind = answer.get("error")
    if kind == "MemoryError":
        raise ChildFailed(f"it needs more than {memory_mb:,} MB of memory")
    if kind == ChildFailed.__name__:
        raise ChildFailed(answer["message"])
    if kind is not None:
        raise getattr(base, kind)(answer["message"])
    return data, answer["result"]


def _cause(code: int) -> str:
    if code >= 0:
        return f"its process ended with code {code}"
    try:
        return f"its process was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"its process was killed by signal {-code}"


# ------------------------------------------------------------------------------------------------- inside the child
def _limit(memory_mb: int, parent: int) -> None:
    """Bind this process: address space, no core file, and death together with the parent (Linux)."""
    if sys.platform == "win32":
        return
    import resource

    limit = memory_mb << 20
    with contextlib.suppress(ValueError, OSError):  # macOS refuses; a lower hard limit is stricter already
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)


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


def main(folder: Path) -> None:
    request = json.loads((folder / "request.json").read_text())
    _limit(request["memory_mb"], request["parent"])
    output, answer = _call(request["target"], (folder / "input.bin").read_bytes(), request["options"])
    (folder / "output.bin").write_bytes(output)
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
