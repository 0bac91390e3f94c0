"""Load time, first run and peak memory of a model, measured in a process that does nothing else.

    parent ──one line of JSON──> child: open, run once ──one line of JSON──> parent

Both sides are in runtimes/execution/fresh.py; here is what is edgecnn's: torch's networks, and where the child finds
its code. Test: tests/test_benchmark.py.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from edgecnn.latency.job import Job
from edgecnn.latency.racers import wanted
from runtimes.execution.feeds import TensorInfo
from runtimes.execution.fresh import Probe, ask, measured, reply

ROOT = Path(__file__).resolve().parents[2]
"""Where this package lies, for a child that would not find it."""
_START = "import sys; sys.path.append(sys.argv[1]); from edgecnn.latency.fresh_process import main; main()"


def probe(job: Job) -> Probe:
    """Do `job` in a fresh process; raises what the model's opening raises, and `BadInput` when the process dies."""
    return Probe(**_asked(job, "probe"))


def inputs_of(job: Job) -> tuple[TensorInfo, ...]:
    """What `job` wants to be fed, as it declares it; raises what `probe` raises."""
    found = _asked(job, "inputs")["inputs"]
    return tuple(TensorInfo(name, dtype, tuple(shape)) for name, dtype, shape in found)


def _asked(job: Job, what: str) -> dict[str, Any]:
    engine = "ONNX Runtime" if job.kind == "onnx" else "PyTorch"
    command = [sys.executable, "-P", "-c", _START, str(ROOT)]
    return ask(command, {"what": what, "job": asdict(job)}, job.model, engine)


def main() -> None:
    """The child's side."""
    reply(_answer)


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    job = Job(**asked["job"])
    return asdict(measure(job)) if asked["what"] == "probe" else {"inputs": [astuple(i) for i in wanted(job)]}


def measure(job: Job) -> Probe:
    """Open the model, run it once, and ask the system for the peak."""
    from edgecnn.latency.racers import opened, quiet_openmp, torch_threads

    quiet_openmp()
    tools = "onnxruntime" if job.kind == "onnx" else "edgecnn.latency.torch_racer"
    importlib.import_module(tools)  # not the model's time
    with torch_threads([job]):
        return measured(lambda: opened(job))
