"""Which kernels really ran, on which provider, for how long: ONNX Runtime's own profile of its runs, read and counted.

    model, feeds --profiled runs--> JSON events --"Node", *_kernel_time--> NodeRun... --by (op, provider)--> Kernel...

The graph that runs is not the graph in the file: ONNX Runtime fuses, removes and inserts nodes when it loads. An int8
claim is proven by QLinearConv in this list. The time of If, Loop and Scan is theirs alone: what ran in their bodies is
in the list itself. Source: ONNX Runtime, core/common/profiler.h, core/framework/sequential_executor.cc.
Test: tests/test_census.py.
"""

from __future__ import annotations

import collections
import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtimes.base import Array, BadInput, Tensors
from runtimes.execution import provider_options
from runtimes.execution.watch import temporary_prefix
from runtimes.session import Model, Session, open_session

_SUFFIX = "_kernel_time"
_GRAPH = "graph.onnx"
_SIZES = (("activation", "output"), ("parameter",))
CONVOLUTIONS = ("Conv", "ConvTranspose")
_WITH_BODIES = ("If", "Loop", "Scan")

Typed = tuple[str, tuple[int, ...]]
"""A tensor as it was: its type in ONNX Runtime's word (`float`, `uint8`) and its sizes."""


@dataclass(frozen=True)
class NodeRun:
    """One executed node, in the order they ran. `time_us` includes ONNX Runtime's call of the kernel, nothing else.

    `inputs` has no weights that were packed at load; `moved_bytes` are the activations read and written, and
    `weight_bytes` the constants that the profile knows of: packed ones are not among them.
    """

    node: str
    op: str
    provider: str
    time_us: float
    inputs: tuple[Typed, ...] = ()
    outputs: tuple[Typed, ...] = ()
    moved_bytes: int = 0
    weight_bytes: int = 0


@dataclass(frozen=True)
class Pass:
    """One run of the whole model: its nodes, and the time from its begin to its end, the profiler's own included."""

    time_us: float
    nodes: tuple[NodeRun, ...]


class Tracer:
    """A session that notes every kernel it runs; calling it runs it. Made by `tracing`."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session = session
        self._folder = folder

    def __call__(self, feeds: Tensors) -> dict[str, Array]:
        return self.session(feeds)

    def end(self) -> tuple[Pass, ...]:
        """Every run so far, in order; no run is noted after this."""
        written = Path(self.session.raw.end_profiling())
        try:
            events = json.loads(written.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # ONNX Runtime says nothing about a disk that is full
            raise BadInput(f"{written}: the profile is cut off; set TMPDIR to a folder with room") from error
        return passes(events)

    def graph(self) -> bytes:
        """The graph that runs, as an ONNX model with ONNX Runtime's own operators; `tracing` was told to keep it."""
        return (self._folder / _GRAPH).read_bytes()


@dataclass(frozen=True)
class Kernel:
    """All nodes of one operator on one provider: how many ran, and their time together; `half`: some on float16."""

    op: str
    provider: str
    count: int
    time_us: float
    half: bool = False


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
    return profiles(model, feeds, provider, threads, external=external)[-1]


def profiles(
    model: Model,
    feeds: Tensors,
    provider: str = "cpu",
    threads: int = 1,
    *,
    runs: int = 1,
    external: Mapping[str, bytes] | None = None,
) -> tuple[tuple[NodeRun, ...], ...]:
    """Every node of each of `runs` runs, after one more that also allocates."""
    with tracing(model, provider, threads, external=external) as tracer:
        for _ in range(runs + 1):
            tracer(feeds)
        return tuple(each.nodes for each in tracer.end()[1:])


@contextlib.contextmanager
def tracing(
    model: Model,
    provider: str = "cpu",
    threads: int = 1,
    *,
    external: Mapping[str, bytes] | None = None,
    keep_graph: bool = False,
    subject: str | None = None,
) -> Iterator[Tracer]:
    """A profiled session of `model`, with the graph that it runs if `keep_graph`; leaves no file behind.

    Nothing is recorded: a CUDA graph that is replayed runs no node that could be noted, and has the same kernels.
    """
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as name:
        folder = Path(name)
        graph = str(folder / _GRAPH) if keep_graph else None
        session = open_session(
            model, _unrecorded(provider), threads, profile_prefix=str(folder / "run"), graph_path=graph,
            external=external, subject=subject,
        )  # fmt: skip
        try:
            yield Tracer(session, folder)
        finally:
            session.raw.end_profiling()


def _unrecorded(provider: str) -> str:
    asked = provider_options.parse(provider)
    return asked.but(enable_cuda_graph=False).text if hasattr(asked.options, "enable_cuda_graph") else provider


def kernels(runs: Iterable[NodeRun]) -> tuple[Kernel, ...]:
    """Count and time by operator and provider, the slowest first."""
    grouped: dict[tuple[str, str], list[NodeRun]] = collections.defaultdict(list)
    for run in runs:
        grouped[run.op, run.provider].append(run)
    found = [
        Kernel(op, provider, len(group), sum(run.time_us for run in group), any(map(_on_half, group)))
        for (op, provider), group in grouped.items()
    ]
    return tuple(sorted(found, key=lambda kernel: (-kernel.time_us, kernel.op, kernel.provider)))


def kernels_dict(found: Iterable[Kernel]) -> dict[str, int]:
    """Operator to number of nodes that ran, over all providers, most frequent first (the `kernels` of `bench`)."""
    counts: collections.Counter[str] = collections.Counter()
    for kernel in found:
        counts[kernel.op] += kernel.count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def dequantized(found: Iterable[Kernel]) -> bool:
    """Whether int8 ran as what it is on an accelerator without integer kernels: dequantized, in float."""
    return any(kernel.op in ("QuantizeLinear", "DequantizeLinear") and kernel.provider != "cpu" for kernel in found)


def convolves_in_half(found: Iterable[Kernel]) -> bool:
    """Whether an accelerator convolved in float16."""
    return any(kernel.half and kernel.op in CONVOLUTIONS and kernel.provider != "cpu" for kernel in found)


def _on_half(run: NodeRun) -> bool:
    return any(kind == "float16" for kind, _ in run.inputs)


def passes(events: list[dict[str, Any]]) -> tuple[Pass, ...]:
    """Each `model_run` in a list of trace events, with the kernels between its begin and its end."""
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(_SUFFIX)]
    kernels.sort(key=lambda e: (e["ts"], -e["dur"]))
    found = []
    for run in (event for event in events if event.get("name") == "model_run"):
        inside = [e for e in kernels if run["ts"] <= e["ts"] <= run["ts"] + run["dur"]]
        found.append(Pass(float(run["dur"]), _own(inside)))
    return tuple(found)


def _own(events: list[dict[str, Any]]) -> tuple[NodeRun, ...]:
    """The events (by begin) as nodes, the time of each without that of the nodes that ran inside it, in its bodies."""
    runs = [_node_run(event) for event in events]
    around: list[int] = []
    for i, event in enumerate(events):
        while around and not (
            event["ts"] < events[around[-1]]["ts"] + events[around[-1]]["dur"]
            and events[around[-1]]["args"]["op_name"] in _WITH_BODIES
        ):
            around.pop()
        if around:
            outer = runs[around[-1]]
            runs[around[-1]] = replace(outer, time_us=max(0.0, outer.time_us - event["dur"]))
        around.append(i)
    return tuple(runs)


def _node_run(event: dict[str, Any]) -> NodeRun:
    args = event["args"]
    inputs, outputs = (_typed(args.get(f"{which}_type_shape", ())) for which in ("input", "output"))
    moved, weights = (sum(int(args.get(f"{kind}_size", 0)) for kind in kinds) for kinds in _SIZES)
    name = event["name"].removesuffix(_SUFFIX)
    return NodeRun(name, args["op_name"], _ours(args["provider"]), float(event["dur"]), inputs, outputs, moved, weights)


def _typed(entries: Iterable[Mapping[str, list[int]]]) -> tuple[Typed, ...]:
    return tuple((kind, tuple(sizes)) for entry in entries for kind, sizes in entry.items())


def _ours(ort_name: str) -> str:
    """`CPUExecutionProvider` is `cpu` here."""
    return ort_name.removesuffix("ExecutionProvider").lower()
