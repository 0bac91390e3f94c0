"""The last layer in float: its rounding errors meet no later layer that could average them out.

    ... -> int8 -> DequantizeLinear -> last layer (float) -> output

A classifier's last layer is a small share of the work, and its quantized input and weights are most of the noise in the
logits: +3 to +5 dB where the output itself was on a grid. Here a last Gemm has a float output already (its integer
kernel gives one for free), so there is less to win. It costs speed: whoever searches for speed decides.
Source: Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference", section 3 (practice);
Jacob et al. 2018, section 2.4 (what stays float). Test: tests/test_float_last.py.
"""

from __future__ import annotations

import onnx

from exporters.base import Change
from exporters.graph import Graph, label
from exporters.quantization.work import Outcome, Work, layers
from runtimes.base import Track, silent

MIN_GAIN_DB = 1.0
"""A decibel is what leaving the integer kernels must buy."""


def run(work: Work, *, seconds: float, threads: int | None = None, track: Track = silent) -> Outcome:
    graph = Graph(work.model)
    plan = work.plan()
    last = last_layers(graph, layers(graph, plan))
    if not last or len(last) == len(plan.int8):
        return Outcome(work)
    names = [label(node) for node in last]
    return Outcome(work.floated(names), tuple(Change(name, "stays float") for name in names))


def last_layers(graph: Graph, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Those of `nodes` behind which, on every way to an output, no other of them comes."""
    compute = {node.output[0] for node in nodes}
    followed: set[str] = set()  # tensors that reach one of the nodes
    for node in reversed(graph.proto.node):
        if node.output[0] in compute or any(name in followed for name in node.output):
            followed |= set(node.input)
    return [node for node in nodes if node.output[0] not in followed]
