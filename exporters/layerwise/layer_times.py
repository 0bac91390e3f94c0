"""How long each node of a model's file takes on ONNX Runtime, although other nodes run: fused, renamed, inserted.

    file:   Conv c -> Clip h             float kernels:  h_nchwc (Conv)           named by the tensor they end in
            Conv c -> Clip h -> Q, DQ    int8 kernels:   c_token_7 (QLinearConv)  named by the node they began as

What belongs to no node of the file (Transpose, Reorder, Quantize, Dequantize) is the cost of boundaries, and counted
apart. Source: names as ONNX Runtime's optimizers give them, read off its profiles. Test: tests/test_layer_times.py.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from exporters.graph import Graph, label, nodes_within
from runtimes.base import Tensors
from runtimes.census import NodeRun, profiles

_TOKEN = re.compile(r"_token_\d+$")
_FUSION = re.compile(r"/\w*Fusion\w*/?$")
PUT_IN = ("ReorderInput", "ReorderOutput", "Transpose")
"""What ONNX Runtime puts in of its own; a node of the file with such an operator keeps its name."""
FUSED = {"Gemm": ("MatMul",), "MatMul": ("Gemm",), "QuickGelu": ("Sigmoid",), "Gelu": ("Erf",)}
"""Kernels that stand for a node of another operator."""
WHOLE = ("QuickGelu", "Gelu")
"""Those of `FUSED` that have several nodes with costs of their own in them."""
FUSED_DEPTH = 4
"""A kernel ends at most this many nodes behind the Conv that it is: Conv, Add, Clip and a pair."""


@dataclass(frozen=True)
class LayerTimes:
    """Microseconds of one image's run: `by_node` of the file's nodes, `between_us` of all that was inserted."""

    by_node: Mapping[str, float]
    between_us: float

    @property
    def total_us(self) -> float:
        return sum(self.by_node.values()) + self.between_us


def layer_times(
    model: onnx.ModelProto, feeds: Tensors, source: onnx.ModelProto | None = None, runs: int = 3
) -> LayerTimes:
    """Times of `model` on one thread, told by the nodes of `source` (default: itself), the fastest of `runs` runs."""
    graph = Graph(source if source is not None else model)
    measured = [attribute(nodes, graph) for nodes in profiles(model, feeds, runs=runs)]
    names = {name for times in measured for name in times.by_node}
    fastest = {name: min(times.by_node.get(name, float("inf")) for times in measured) for name in names}
    return LayerTimes(fastest, min(times.between_us for times in measured))


def attribute(runs: Iterable[NodeRun], graph: Graph) -> LayerTimes:
    """Sum the executed kernels by the node of `graph` that each of them stands for."""
    named = named_in(graph.proto.node)
    times: dict[str, float] = collections.defaultdict(float)
    between = 0.0
    for run in runs:
        node = origin(run, graph, named, times)
        if node is None:
            between += run.time_us
        else:
            times[label(node)] += run.time_us
    return LayerTimes(dict(times), between)


def named_in(nodes: Iterable[onnx.NodeProto]) -> dict[str, onnx.NodeProto]:
    """Nodes by name, those in bodies too."""
    return {node.name: node for node in nodes_within(nodes) if node.name}


def origin(
    run: NodeRun,
    graph: Graph,
    named: Mapping[str, onnx.NodeProto],
    taken: Iterable[str] = (),
    makes: Iterable[str] = (),
) -> onnx.NodeProto | None:
    """The node of `graph` that the kernel `run` executes; None for what ONNX Runtime or we put between the nodes.

    `makes` are the tensors that it writes, where the graph that ran is known: a fused kernel with a name of its own
    (MatMul and Add as Gemm) still ends in the tensor of the last node that is in it, or has that node in its name
    (Sigmoid and Mul m as QuickGelu m/QuickGeluFusion/).
    """
    if run.node in named:
        return named[run.node]
    if run.op in PUT_IN:
        return None
    name = _TOKEN.sub("", run.node)
    if name in named:
        return named[name]
    op = run.op.removeprefix("Fused")
    ends_in = named.get(_FUSION.sub("", name))
    if ends_in is not None:
        return _same_operator(ends_in, (op, *FUSED.get(op, ())), graph, set(taken)) or ends_in
    last = graph.producer.get(name.removesuffix("_nchwc"))
    if last is not None:
        return _same_operator(last, (op,), graph, set(taken))
    last = next((graph.producer[tensor] for tensor in makes if tensor in graph.producer), None)
    return None if last is None else _same_operator(last, (op, *FUSED.get(op, ())), graph, set(taken)) or last


def _same_operator(node: onnx.NodeProto, ops: Sequence[str], graph: Graph, taken: set[str]) -> onnx.NodeProto | None:
    """Backwards from `node`, the nearest node with one of the operators `ops` that no other kernel stands for."""
    near = [node]
    for _ in range(FUSED_DEPTH + 1):
        found = next((each for each in near if each.op_type in ops and label(each) not in taken), None)
        if found is not None:
            return found
        near = [graph.producer[name] for each in near for name in each.input if name in graph.producer]
    return None
