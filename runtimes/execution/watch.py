"""A command that runs native code: one process watches with its signals on, a fork of it does the work.

    edgecnn run NAME.edge ──fork──> numpy, ONNX Runtime, the answer or the one line ──exit code──> the same exit code
       │ Ctrl-C, SIGTERM, SIGHUP ─> a second to end by itself, else SIGKILL            ──────────> 130, 143, 129
       └ a signal ended it (SIGFPE, SIGSEGV)                                           ──────────> one line, exit 2

A valid ONNX file can kill the process that opens it or never end, and C++ code does not listen to Ctrl-C. The fork
comes before anything heavy is imported, so that it costs some milliseconds and nothing is loaded twice. Where the
system cannot fork (Windows), the work is done in the one process. Source: fork(2), waitpid(2), prctl(2).
Test: tests/test_watch.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from runtimes.base import BadInput

GRACE_S = 1.0
"""For Python code to leave through its `finally`s; what is in C++ code by then does not hear."""
_POLL_S = 0.01


def watched(subject: str, work: Callable[[], int]) -> int:
    """The exit code of `work`, which says itself what goes wrong in it and never raises.

    Raises `BadInput` about `subject` where a signal ended it, and what interrupted this process where it did not end.
    """
    if not hasattr(os, "fork"):
        return work()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # the fork must not print it again
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ends())
    child = os.fork()
    if child == 0:
        _work(work, parent, before)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        status = os.waitpid(child, 0)[1]
    except BaseException as interruption:
        left = _end(child, signal.SIGINT if isinstance(interruption, KeyboardInterrupt) else signal.SIGTERM)
        if left is None or os.WIFSIGNALED(left):
            raise
        status = left
    if os.WIFSIGNALED(status):
        _sweep(child)
        raise BadInput(f"{subject}: {_crash(os.WTERMSIG(status))}")
    return os.WEXITSTATUS(status)


def temporary_prefix() -> str:
    """How the names of this process's temporary folders begin: a watcher removes what a killed one left."""
    return _prefix(os.getpid())


def die_with(parent: int) -> None:
    """End this process when `parent` ends (Linux)."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)


def _ends() -> set[signal.Signals]:
    return {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}  # Windows has no SIGHUP


def _work(work: Callable[[], int], parent: int, mask: set[int | signal.Signals]) -> None:
    """The fork's side; it ends here, and nothing of the parent's is cleaned up twice."""
    code = 5
    try:
        die_with(parent)
        for number in _ends():
            kept = signal.getsignal(number)
            if callable(kept):
                signal.signal(number, _interrupted if kept == signal.default_int_handler else _unheard)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = work()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(code)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Ctrl-C comes twice, from the terminal and from the watcher: the second must not hit what cleans up."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _unheard(number: int, frame: FrameType | None) -> None:
    """Under the handler of `work`, which one signal ends: a second comes from the watcher, who hears the first too."""


def _end(child: int, number: int) -> int | None:
    """Tell `child` to end; its status where it does in time, else it is killed.

    Signals stay blocked from here on: this process has only its line to say.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _ends())
    with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has ended, and was waited for
        os.kill(child, number)
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
            time.sleep(_POLL_S)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    _sweep(child)
    return None


def _prefix(process: int) -> str:
    return f"edgecnn-{process}-"


def _sweep(child: int) -> None:
    import shutil  # heavy for what is hardly ever needed
    import tempfile

    for left in Path(tempfile.gettempdir()).glob(f"{_prefix(child)}*"):
        shutil.rmtree(left, ignore_errors=True)


def _crash(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == signal.SIGKILL:
        return f"its process was killed ({name}), often for want of memory; free some, or use a smaller input"
    return f"native code crashed on it ({name}): onnxruntime, onnx or torch; make it again, or use another version"
