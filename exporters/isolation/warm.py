"""Children for many small jobs: one process imports the tools once and forks for every job.

    with warm_children():            parent --folder--> keeper (onnx, ONNX Runtime, onnxsim imported)
        for path in paths:                                  fork -> the job, with its own limits -> exit code
            simplify(path, ...)

A fresh Python with these tools takes a second, a fork 20 ms. Every job still has a process of its own, with the limits
that `sandbox` gives it: one that crashes is one job lost, one that hangs is killed together with the keeper, and the
next job starts another. Where the system cannot fork, every job gets a fresh process as before. For one thread at a
time. Source: fork(2). Test: tests/test_warm.py.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from exporters.isolation import sandbox
from exporters.isolation.sandbox import ChildFailed
from runtimes.execution.watch import die_with

START_S = 60.0
"""For the first answer of a keeper, which imports everything."""


@contextlib.contextmanager
def warm_children() -> Iterator[None]:
    """In this block, every child of `sandbox.run_in_child` is a fork of one that has imported the tools."""
    if not hasattr(os, "fork"):
        yield
        return
    keeper = _Keeper()
    try:
        with sandbox.use(keeper.wait):
            yield
    finally:
        keeper.stop()


class _Keeper:
    """The process that forks, as its parent sees it; started when it is first needed, and again after a kill."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def wait(self, folder: Path, timeout_s: float) -> int:
        """The exit code of a child that works on `folder`; raises `ChildFailed` when it takes longer."""
        try:
            with sandbox.terminate_as_exit():
                return self._ask(folder, timeout_s)
        except BaseException:  # Ctrl-C, too: nothing of it may live on
            self.stop()
            raise

    def _ask(self, folder: Path, timeout_s: float) -> int:
        process = self._started()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone: there will be no answer either
            process.stdin.write(os.fsencode(folder) + b"\n")
            process.stdin.flush()
        return int(self._line(timeout_s))

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self.process = sandbox.popen("exporters.isolation.warm", str(os.getpid()), **pipes)
            self._line(START_S)
        return self.process

    def _line(self, timeout_s: float) -> bytes:
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        if not ready:
            raise ChildFailed(sandbox.too_long(timeout_s))
        line = self.process.stdout.readline()
        if not line:
            raise ChildFailed("its process ended without an answer")
        return line

    def stop(self) -> None:
        if self.process is not None:
            sandbox.kill_session(self.process)
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self.process = None


# ------------------------------------------------------------------------------------------------ inside the keeper
def keep(parent: int) -> None:
    """Answer every folder on stdin with the exit code of a fork that worked on it, until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a job prints is no answer
    die_with(parent)
    _import_tools()
    answers.write(b"ready\n")
    for line in sys.stdin.buffer:
        answers.write(b"%d\n" % _fork(Path(os.fsdecode(line.rstrip(b"\n")))))


def _fork(folder: Path) -> int:
    keeper = os.getpid()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sandbox.main(folder, keeper)
        code = 0
    finally:
        os._exit(code)  # nothing of the keeper's is cleaned up twice


def _import_tools() -> None:
    import onnx.version_converter  # noqa: F401

    from exporters.isolation import probe  # noqa: F401
    from exporters.passes import simplify
    from exporters.targets import target  # noqa: F401

    simplify.rehearse()
    gc.collect()
    gc.freeze()  # a fork that looks for garbage would copy the pages of all these modules


if __name__ == "__main__":
    keep(int(sys.argv[1]))
