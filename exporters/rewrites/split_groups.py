"""A convolution in a few wide groups becomes one convolution a group, side by side: groups miss the fast kernel.

    Conv(x, W, g groups)   =   Concat(Conv(x_1, W_1), ... Conv(x_g, W_g))        x = (x_1 ... x_g) along the channels

ONNX Runtime's integer convolution gathers its input while it multiplies only where there is one group; in groups it
copies every window first. What the parts save is more than Split and Concat cost from 16 outputs a group on, and up to
8 groups (ResNeSt, AlexNet's two columns). An activation behind is done in the parts, where it belongs to the
convolution. Acts on those whose groups have channels in fours. Exact: the same products.
Test: tests/test_split_groups.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import Chain, Conv, activation_behind, convolutions, reshaped

MOST_GROUPS = 8
LEAST, MULTIPLE = 16, 4
"""Of the outputs of a group, and of its channels: below, the part's own convolution misses the fast kernel too."""


def run(model: onnx.ModelProto) -> PassResult:
    """Split every convolution in wide groups; those that would gain nothing are in `kept` with the reason."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for node, conv in convolutions(graph):
        if isinstance(conv, str) or conv.group == 1 or conv.weight.shape[1] == 1:
            continue
        reason = _why_not(conv)
        if reason:
            kept.append(Kept(label(node), reason))
            continue
        _write(graph, node, conv)
        changes.append(Change(label(node), f"{conv.group} groups are {conv.group} convolutions", conv.bound))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _why_not(conv: Conv) -> str:
    inputs, outputs = conv.weight.shape[1], conv.outputs // conv.group
    if conv.group > MOST_GROUPS:
        return f"it has {conv.group} groups, more than {MOST_GROUPS}"
    if outputs < LEAST or outputs % MULTIPLE or inputs % MULTIPLE:
        return f"its groups have {inputs} inputs and {outputs} outputs"
    return ""


def _write(graph: Graph, node: onnx.NodeProto, conv: Conv) -> None:
    act = activation_behind(graph, node.output[0])
    chain = Chain(graph, node)
    sizes = chain.constant(np.full(conv.group, conv.weight.shape[1], np.int64), "sizes")
    parts = [graph.fresh(f"{node.output[0]}.part") for _ in range(conv.group)]
    chain.node("Split", [node.input[0], sizes], parts[0], axis=1)
    chain.nodes[-1].output.extend(parts[1:])
    biases = [None] * conv.group if conv.bias is None else np.split(conv.bias, conv.group)
    done = []
    for i, (part, weight, bias) in enumerate(zip(parts, np.split(conv.weight, conv.group), biases, strict=True)):
        made = chain.conv(part, reshaped(conv, weight, bias, group=1))
        chain.nodes[-1].name += f"/{i}" * (i > 0)
        done.append(chain.activation(made, act))
        chain.nodes[-1].name += f"/{i}" * (i > 0 and act is not None)
    chain.node("Concat", done, node.output[0] if act is None else act.output[0], axis=1)
    chain.write([node] if act is None else [node, act])
