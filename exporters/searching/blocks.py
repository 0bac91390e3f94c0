"""Pieces that the rewrites share: a 2-D convolution read off the graph, and a chain of new nodes written into it.

    conv = read_conv(graph, node)           weights, bias and all attributes as numbers, or one sentence why not
    chain = Chain(graph, node)              chain.nhwc(x) -> chain.reshape(...) -> chain.conv(...) -> chain.write(...)

Reshapes are done on channels-last tensors, where merging neighbouring pixels and channels moves no data; ONNX Runtime
runs integer convolutions in that layout, so that the Transposes around them cancel. Test: tests/test_blocks.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from exporters.graph import Graph, attributes, copy_node, is_standard, label
from runtimes.base import Array

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Elu", "Tanh")
"""Elementwise operators of one tensor: they give the same numbers before and after a change of layout."""


@dataclass(frozen=True)
class Conv:
    """A float32 2-D convolution: weights (O, I/group, kh, kw), bias (O,), pads (top, left, bottom, right); constant."""

    weight: Array
    bias: Array | None
    strides: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilations: Pair = (1, 1)
    group: int = 1

    @property
    def kernel(self) -> Pair:
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    @property
    def inputs(self) -> int:
        return int(self.weight.shape[1]) * self.group

    @property
    def outputs(self) -> int:
        return int(self.weight.shape[0])

    @property
    def pointwise(self) -> bool:
        """A 1x1 convolution of one group without padding: a matrix product at every position that it visits."""
        return self.kernel == (1, 1) and self.group == 1 and not any(self.pads)

    @property
    def depthwise(self) -> bool:
        """One filter a channel, as many outputs as inputs."""
        return self.group > 1 and self.group == self.inputs == self.outputs

    def tiled(self, times: int) -> Array | None:
        """The bias for `times` copies of the outputs."""
        return None if self.bias is None else np.tile(self.bias, times)

    @property
    def bound(self) -> float:
        """2 (n - 1) u: n products added up in another order, relative to their size (Higham 2002, section 4.2)."""
        return float((self.weight[0].size - 1) * np.finfo(np.float32).eps)


def read_conv(graph: Graph, node: onnx.NodeProto) -> Conv | str:
    """The Conv `node`, or the reason why it is not a float32 2-D convolution with constant weights."""
    a = attributes(node)
    weight = graph.constant(node.input[1])
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if weight is None or (bias is None and len(node.input) > 2 and node.input[2]):
        return "its weights or its bias are not constant"
    if weight.dtype != np.float32 or weight.ndim != 4:
        return f"its weights are {weight.ndim - 2}-D {weight.dtype}, not 2-D float32"
    if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return "its padding is automatic"
    pads = [0] * 4 if a.get("auto_pad") == b"VALID" else a.get("pads", [0] * 4)
    if min(pads) < 0:
        return "its padding is negative"
    strides, dilations = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    return Conv(weight, bias, tuple(strides), tuple(pads), tuple(dilations), int(a.get("group", 1)))


def convolutions(graph: Graph) -> Iterator[tuple[onnx.NodeProto, Conv | str]]:
    """Every Conv of `graph` with what `read_conv` makes of it, in order; those before may be rewritten meanwhile."""
    for name in nodes_of(graph, "Conv"):
        node = graph.producer[name]
        yield node, read_conv(graph, node)


def nodes_of(graph: Graph, *op_types: str) -> list[str]:
    """First output of every standard node of these types: names stay true while the graph is edited."""
    return [n.output[0] for n in graph.proto.node if any(is_standard(n, op) for op in op_types)]


def activation_behind(graph: Graph, name: str) -> onnx.NodeProto | None:
    """The elementwise node that alone reads tensor `name`, and whose other inputs are constants of one element."""
    node = graph.only_consumer(name)
    if node is None or not any(is_standard(node, op) for op in ACTIVATIONS) or node.input[0] != name:
        return None
    bounds = [graph.constant(other) for other in node.input[1:] if other]
    return node if all(b is not None and b.size == 1 for b in bounds) else None


class Chain:
    """New nodes in the order of their making; called NAME/Op after the node that they stand for, with its metadata."""

    def __init__(self, graph: Graph, like: onnx.NodeProto, names: set[str] | None = None) -> None:
        """`names`: those of all nodes, also of chains that are not written yet (`write_all`)."""
        self.graph = graph
        self.like = like
        self.nodes: list[onnx.NodeProto] = []
        self._names = {node.name for node in graph.proto.node} if names is None else names

    def node(self, op: str, inputs: Sequence[str], output: str = "", **settings: Any) -> str:
        """Append a node; returns its output, which is `output` or a fresh name."""
        output = output or self.graph.fresh(f"{self.like.output[0]}.{op.lower()}")
        made = helper.make_node(op, list(inputs), [output], self._name(op), **settings)
        made.metadata_props.extend(self.like.metadata_props)
        self.nodes.append(made)
        return output

    def _name(self, op: str) -> str:
        base, count = f"{label(self.like)}/{op}", 0
        name = base
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name

    def constant(self, value: Array, hint: str) -> str:
        return self.graph.add_constant(value, f"{self.like.output[0]}.{hint}")

    def nhwc(self, x: str, output: str = "") -> str:
        return self.node("Transpose", [x], output, perm=[0, 2, 3, 1])

    def nchw(self, x: str, output: str = "") -> str:
        return self.node("Transpose", [x], output, perm=[0, 3, 1, 2])

    def reshape(self, x: str, sizes: Sequence[int], output: str = "") -> str:
        """`x` in other sizes; 0 keeps the size on that axis (the batch), -1 is what is left."""
        return self.node("Reshape", [x, self.constant(np.asarray(sizes, np.int64), "sizes")], output)

    def conv(self, x: str, conv: Conv, output: str = "") -> str:
        """A convolution that keeps the name of the node it stands for, so that patterns and reports still find it."""
        inputs = [x, self.constant(conv.weight.astype(np.float32), "weight")]
        if conv.bias is not None:
            inputs.append(self.constant(conv.bias.astype(np.float32), "bias"))
        settings = {"kernel_shape": conv.kernel, "strides": conv.strides, "pads": conv.pads, "group": conv.group}
        made = self.node("Conv", inputs, output, **settings, dilations=conv.dilations)
        self.nodes[-1].name = self.like.name
        return made

    def activation(self, x: str, node: onnx.NodeProto | None, output: str = "") -> str:
        """The activation `node` (or none) on `x` under its own name."""
        if node is None:
            return x
        copy = copy_node(node)
        copy.input[0] = x
        copy.output[0] = output or self.graph.fresh(f"{node.output[0]}.folded")
        self.nodes.append(copy)
        return str(copy.output[0])

    def write(self, old: Iterable[onnx.NodeProto]) -> None:
        """Put the chain where the last of `old` stood; constants that nobody reads any more go."""
        write_all(self.graph, [(self, list(old))])


def write_all(graph: Graph, chains: Sequence[tuple[Chain, Sequence[onnx.NodeProto]]]) -> None:
    """Write every chain where the last of its old nodes stood; once for all, as each time costs a walk of the graph."""
    names = [name for _, old in chains for node in old for name in node.input[1:]]
    graph.replace_all([(old, chain.nodes) for chain, old in chains])
    graph.drop_unread(names)


def reshaped(conv: Conv, weight: Array, bias: Array | None, **changed: Any) -> Conv:
    """`conv` with other weights, and whatever else is `changed`."""
    return replace(conv, weight=weight, bias=bias, **changed)
