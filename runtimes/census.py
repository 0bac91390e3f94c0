"""Which kernels really ran, on which provider, for how long: ONNX Runtime's own profile of one run, counted.

    model, feeds --profiled run--> JSON events --"Node", *_kernel_time--> NodeRun... --by (op, provider)--> Kernel...

The graph that runs is not the graph in the file: ONNX Runtime fuses, removes and inserts nodes when it loads. An int8
claim is proven by QLinearConv in this list. Source: ONNX Runtime, core/common/profiler.h. Test: tests/test_census.py.
"""

from __future__ import annotations

import collections
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.base import Tensors
from runtimes.session import Model, open_session

_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class NodeRun:
    """One executed node, in the order they ran. `time_us` includes ONNX Runtime's call of the kernel, nothing else."""

    node: str
    op: str
    provider: str
    time_us: float


@dataclass(frozen=True)
class Kernel:
    """All nodes of one operator on one provider: how many ran, and their time together."""

    op: str
    provider: str
    count: int
    time_us: float


def census(
    model: Model,
    feeds: Tensors,
    provider: str = "cpu",
    threads: int = 1,
    *,
    external: Mapping[str, bytes] | None = None,
) -> tuple[Kernel, ...]:
    """Kernels of one run of `model` on `feeds`, the slowest first; arguments and errors are those of `open_session`."""
    return kernels(profile(model, feeds, provider, threads, external=external))


def profile(
    model: Model,
    feeds: Tensors,
    provider: str = "cpu",
    threads: int = 1,
    *,
    external: Mapping[str, bytes] | None = None,
) -> tuple[NodeRun, ...]:
    """Every node of the second run (the first one also allocates)."""
    with tempfile.TemporaryDirectory(prefix="edgecnn-census-") as folder:
        prefix = str(Path(folder) / "run")
        session = open_session(model, provider, threads, profile_prefix=prefix, external=external)
        try:
            session(feeds)
            session(feeds)
        finally:
            written = Path(session.raw.end_profiling())
        return node_runs(json.loads(written.read_text(encoding="utf-8")))


def kernels(runs: Iterable[NodeRun]) -> tuple[Kernel, ...]:
    """Count and time by operator and provider, the slowest first."""
    times: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for run in runs:
        times[run.op, run.provider].append(run.time_us)
    found = [Kernel(op, provider, len(t), sum(t)) for (op, provider), t in times.items()]
    return tuple(sorted(found, key=lambda kernel: (-kernel.time_us, kernel.op, kernel.provider)))


def kernels_dict(found: Iterable[Kernel]) -> dict[str, int]:
    """Operator to number of nodes that ran, over all providers, most frequent first (the `kernels` of `bench`)."""
    counts: collections.Counter[str] = collections.Counter()
    for kernel in found:
        counts[kernel.op] += kernel.count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def node_runs(events: list[dict[str, Any]]) -> tuple[NodeRun, ...]:
    """The kernels between begin and end of the last `model_run` in a list of trace events."""
    last = [event for event in events if event.get("name") == "model_run"][-1]
    begin, end = last["ts"], last["ts"] + last["dur"]
    inside = (e for e in events if e.get("cat") == "Node" and e["name"].endswith(_SUFFIX) and begin <= e["ts"] <= end)
    return tuple(
        NodeRun(e["name"].removesuffix(_SUFFIX), e["args"]["op_name"], _ours(e["args"]["provider"]), float(e["dur"]))
        for e in sorted(inside, key=lambda event: event["ts"])
    )


def _ours(ort_name: str) -> str:
    """`CPUExecutionProvider` is `cpu` here."""
    return ort_name.removesuffix("ExecutionProvider").lower()
