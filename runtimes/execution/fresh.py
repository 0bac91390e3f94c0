"""One question to a process that does nothing else: how long a model takes to load and to run first, and its memory.

    parent ──one line of JSON──> child: open, run once ──one line of JSON──> parent

A model that crashes ONNX Runtime (a constant Div(INT64_MIN, -1) raises SIGFPE in it) kills the child, not the caller;
one that never ends (a Loop of 2^62 rounds) is stopped, and the child ends with its parent.
Peak memory is the child's high-water mark with Python, numpy and ONNX Runtime in it. On Linux it is VmHWM and not
`ru_maxrss`: a forked child inherits the latter from its parent, so that a big caller makes every model look big.
Test: tests/test_benchmark.py.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from runtimes.base import BadInput, EdgeError, Unavailable
from runtimes.execution.watch import die_with

TIMEOUT_S = {"ONNX Runtime": 120, "PyTorch": 600}
"""For loading and one run; torch.compile alone may take minutes."""
PROBES = 3


@dataclass(frozen=True)
class Probe:
    """One fresh process: `load_ms` from file to session, `first_ms` the first run, `peak_rss_mb` in 2**20 bytes.

    `finite`: what that run answered holds neither NaN nor infinity.
    """

    load_ms: float
    first_ms: float
    peak_rss_mb: float
    finite: bool = True


def middle(seen: Sequence[Probe]) -> Probe:
    """Medians of a few fresh processes, and the largest of their peaks."""
    load, first = (statistics.median(getattr(p, name) for p in seen) for name in ("load_ms", "first_ms"))
    return Probe(load, first, max(p.peak_rss_mb for p in seen), all(p.finite for p in seen))


def ask(command: Sequence[str], question: Mapping[str, Any], model: str, engine: str) -> dict[str, Any]:
    """What the process `command` replies about `model`; raises what it raised there, `BadInput` when it dies or does
    not end in the time that `engine` has, and `Unavailable` where there is no such process to be had.
    """
    asked = json.dumps({**question, "model": model, "parent": os.getpid()}, default=int).encode()
    limit_s = TIMEOUT_S[engine]
    try:
        done = subprocess.run(command, input=asked, capture_output=True, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        slow = f"loading it and one run take longer than {limit_s} s; use a smaller batch or input, or mend the model"
        raise BadInput(f"{model}: {slow}") from error
    except OSError as error:
        raise Unavailable(
            f"{command[0] or 'sys.executable is empty'}: cannot be started ({error.strerror or error}), and a model is "
            "measured in a Python of its own; mend that Python (sys.executable), or free processes and memory"
        ) from error
    answer = _last_line(done.stdout)
    if "error" in answer:
        kinds = {kind.exit_code: kind for kind in (BadInput, Unavailable)}
        raise kinds.get(answer["exit_code"], EdgeError)(answer["error"])
    if done.returncode != 0 or not answer:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise BadInput(f"{model}: {engine} crashed on it ({how}); export the model again")
    return answer


def reply(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's side: read the question, print the answer or what went wrong."""
    asked = json.loads(sys.stdin.buffer.read())
    die_with(asked["parent"])
    try:
        print(json.dumps(work(asked)))
    except EdgeError as error:
        print(json.dumps({"error": str(error), "exit_code": error.exit_code}))
    except MemoryError:
        what = f"{asked['model']}: out of memory; use a smaller batch"
        print(json.dumps({"error": what, "exit_code": BadInput.exit_code}))
    except Exception as error:
        what = f"bug in edgecnn: {type(error).__name__}: {error}"
        print(json.dumps({"error": what, "exit_code": EdgeError.exit_code}))


class Runnable(Protocol):
    def run(self) -> object:
        """One run; raises `BadInput` where the inputs do not fit."""


def measured(opened: Callable[[], Runnable]) -> Probe:
    """Open a model, run it once, and ask the system for the peak of this process."""
    start = time.perf_counter()
    racer = opened()
    loaded = time.perf_counter()
    answer = racer.run()
    ran = time.perf_counter()
    peak = peak_bytes() / 2**20
    return Probe(1e3 * (loaded - start), 1e3 * (ran - loaded), peak, finite(answer))


def finite(answer: object) -> bool:
    """Whether the numbers in `answer`, arrays or tensors however nested, hold neither NaN nor infinity."""
    if isinstance(answer, Mapping | list | tuple):
        return all(map(finite, answer.values() if isinstance(answer, Mapping) else answer))
    if not hasattr(answer, "__array__"):
        return True
    value = np.asarray(answer)
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())


def peak_bytes() -> int:
    """High-water mark of this process's resident memory; 0 where the system does not tell (Windows)."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, the BSDs kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _last_line(output: bytes) -> dict[str, Any]:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    try:
        found: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {}
    return found
