"""Load time, first run and peak memory of a model, measured in a process that does nothing else.

    parent ──one line of JSON──> child: open, run once ──one line of JSON──> parent

A model that crashes ONNX Runtime (a constant Div(INT64_MIN, -1) raises SIGFPE in it) kills the child, not the caller;
one that never ends (a Loop of 2^62 rounds) is stopped, and the child ends with its parent.
Peak memory is the child's high-water mark with Python, numpy and ONNX Runtime in it. On Linux it is VmHWM and not
`ru_maxrss`: a forked child inherits the latter from its parent, so that a big caller makes every model look big.
Test: tests/test_benchmark.py.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from edgecnn.latency.job import Job
from edgecnn.latency.racers import wanted
from exporters.isolation.sandbox import die_with
from runtimes.base import BadInput, EdgeError, Unavailable
from runtimes.feeds import TensorInfo

ROOT = Path(__file__).resolve().parents[2]
"""Where this package lies, for a child that would not find it."""
TIMEOUT_S, TORCH_TIMEOUT_S = 120, 600
"""For loading and one run; torch.compile alone may take minutes."""
_START = "import sys; sys.path.append(sys.argv[1]); from edgecnn.latency.fresh_process import main; main()"


@dataclass(frozen=True)
class Probe:
    """One fresh process: `load_ms` from file to session, `first_ms` the first run, `peak_rss_mb` in 2**20 bytes.

    `finite`: what that run answered holds neither NaN nor infinity.
    """

    load_ms: float
    first_ms: float
    peak_rss_mb: float
    finite: bool = True


def probe(job: Job) -> Probe:
    """Do `job` in a fresh process; raises what the model's opening raises, and `BadInput` when the process dies."""
    return Probe(**_asked(job, "probe"))


def inputs_of(job: Job) -> tuple[TensorInfo, ...]:
    """What `job` wants to be fed, as it declares it; raises what `probe` raises."""
    found = _asked(job, "inputs")["inputs"]
    return tuple(TensorInfo(name, dtype, tuple(shape)) for name, dtype, shape in found)


def _asked(job: Job, what: str) -> dict[str, Any]:
    limit_s = TIMEOUT_S if job.kind == "onnx" else TORCH_TIMEOUT_S
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _START, str(ROOT)],
            input=json.dumps({"what": what, "job": asdict(job), "parent": os.getpid()}).encode(),
            capture_output=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        slow = f"loading it and one run take longer than {limit_s} s; use a smaller batch or input, or mend the model"
        raise BadInput(f"{job.model}: {slow}") from error
    answer = _last_line(done.stdout)
    if "error" in answer:
        kinds = {kind.exit_code: kind for kind in (BadInput, Unavailable)}
        raise kinds.get(answer["exit_code"], EdgeError)(answer["error"])
    if done.returncode != 0 or not answer:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        engine = "ONNX Runtime" if job.kind == "onnx" else "PyTorch"
        raise BadInput(f"{job.model}: {engine} crashed on it ({how}); export the model again")
    return answer


def main() -> None:
    """The child's side."""
    asked = json.loads(sys.stdin.buffer.read())
    die_with(asked["parent"])
    job = Job(**asked["job"])
    try:
        answer = asdict(measure(job)) if asked["what"] == "probe" else {"inputs": [astuple(i) for i in wanted(job)]}
        print(json.dumps(answer))
    except EdgeError as error:
        print(json.dumps({"error": str(error), "exit_code": error.exit_code}))
    except MemoryError:
        print(json.dumps({"error": f"{job.model}: out of memory; use a smaller batch", "exit_code": 2}))
    except Exception as error:
        what = f"bug in edgecnn: {type(error).__name__}: {error}"
        print(json.dumps({"error": what, "exit_code": EdgeError.exit_code}))


def measure(job: Job) -> Probe:
    """Open the model, run it once, and ask the system for the peak."""
    from edgecnn.latency.racers import finite, opened, quiet_openmp, torch_threads

    quiet_openmp()
    tools = "onnxruntime" if job.kind == "onnx" else "edgecnn.latency.torch_racer"
    importlib.import_module(tools)  # not the model's time
    with torch_threads([job]):
        start = time.perf_counter()
        racer = opened(job)
        loaded = time.perf_counter()
        answer = racer.run()
        ran = time.perf_counter()
    peak = peak_bytes() / 2**20
    return Probe(1e3 * (loaded - start), 1e3 * (ran - loaded), peak, finite(answer))


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
