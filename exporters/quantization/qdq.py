"""Write QuantizeLinear/DequantizeLinear pairs into a graph, so that ONNX Runtime fuses every convolution into int8.

    x --Q--DQ--> Conv --> Relu --Q--DQ--> ...           becomes           QLinearConv (the ReLU is the grid's lower end)
                  ^ int8 weights --DQ, int32 bias --DQ

Where the pairs go is decided in `placement`; the grids are those of `grids`: uint8 activations, int8 weights per output
channel, int32 biases on the product of the two scales. What an int8 node makes is read through its pair by all, because
the float value does not exist; what a float node makes is read through a pair by int8 nodes only. Carriers stand
between Q and DQ and move the integers; so does a ReLU or Clip on one grid with what it reads: cutting is monotone,
hence Q(clip(x, a, b)) = clip(Q(x), Q(a), Q(b)) exactly. On a grid of its own (`grids`) it is float between two pairs.
Source: ONNX Runtime documentation, "Quantize ONNX models", QDQ format. Test: tests/test_qdq.py (oracle: kernels run).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx
from onnx import helper

from exporters.graph import Graph, copy_model, copy_node, get_meta, keep_module, label, set_meta
from exporters.quantization.affine import (
    WEIGHT_FORMS,
    Grid,
    activation_grid,
    fit_bias,
    quantize_bias,
    unsigned,
    weight_grid,
)
from exporters.quantization.grids import gate_grid, grids_of, on_grid
from exporters.quantization.kernels import (
    CARRIERS,
    COMPUTE,
    CUTTERS,
    FOLLOWERS,
    HARD,
    carried_outputs,
    channel_axis,
    cut,
)
from exporters.quantization.placement import Plan
from exporters.quantization.stay_float import stay_float
from runtimes.base import Array

EPSILON = float(np.finfo(np.float32).eps)
"""By so much a grid may reach beyond a Clip's ends for ONNX Runtime to take the Clip for the grid's work."""


def insert(
    model: onnx.ModelProto,
    plan: Plan,
    ranges: Mapping[str, tuple[float, float]],
    per_channel: bool = True,
    weight_forms: Mapping[str, str] = MappingProxyType({}),
) -> onnx.ModelProto:
    """A copy of `model` with the pairs of `plan` on the calibrated `ranges` (low, high) of its observed tensors.

    `weight_forms`: node -> `WEIGHT_FORMS`, for layers whose weights are not plain int8.
    """
    graph = Graph(model)
    writer = _Writer(graph, plan, grids_of(plan, ranges), per_channel, weight_forms)
    nodes: list[onnx.NodeProto] = []
    for name in [value.name for value in graph.proto.input if value.name in writer.grids]:
        nodes += writer.pair(name, graph.consumers[name][0])
    for original in graph.proto.node:
        nodes += writer.write(copy_node(original))
    graph.set_nodes(nodes)
    graph.prune()
    stay_float(graph)
    return copy_model(graph.model)  # the memory of a message keeps the float weights that were taken out of it


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)


def reach(grid: Grid) -> tuple[int, int]:
    """Steps from zero down to the lowest and up to the highest value of a uint8 `grid`."""
    return -int(grid.zero_point), 255 - int(grid.zero_point)


@dataclass
class _Writer:
    graph: Graph
    plan: Plan
    grids: Mapping[str, Grid]
    per_channel: bool
    weight_forms: Mapping[str, str]
    quantized: dict[str, str] = field(default_factory=dict)
    integers: dict[str, str] = field(default_factory=dict)
    stored: dict[tuple[str, int | None, str, bytes], str] = field(default_factory=dict)

    def write(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """`node` (a copy, to be edited) with all that must stand around it."""
        int8 = node.output[0] in self.plan.int8
        if int8 and node.op_type == "AveragePool":  # of 1: ONNX Runtime's integer form refuses to hear of them
            _drop_attribute(node, "dilations")
        if int8 and self.carries(node):
            return self.carry(node)
        if int8 and node.op_type in HARD:
            return self.hard(node)
        if not int8 and self.beyond(node):
            return self.cut_behind(node)
        outputs = list(node.output)
        nodes = [*self.rewrite(node, int8), node]
        for i, name in enumerate(outputs):
            if name in self.grids:
                nodes += self.behind(node, i, name)
        return nodes

    def carries(self, node: onnx.NodeProto) -> bool:
        """Carriers, and a ReLU, Clip or Concat that makes the grid which it reads: it cuts or copies integers."""
        if node.op_type not in (*CUTTERS, "Concat"):
            return node.op_type in (*CARRIERS, "Max")
        read = node.input if node.op_type == "Concat" else node.input[:1]
        grids = [self.grids.get(name) for name in (*read, node.output[0])]
        return grids[0] is not None and all(g == grids[0] for g in grids)

    def carry(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The carrier `node` on integers, each output with its dequantizer."""
        names = carried_outputs(node)
        grid = self.grids[names[0]]
        if node.op_type in CUTTERS:
            ends = cut(self.graph, node)
            assert ends is not None
            return self._cut(node.input[0], names[0], grid, ends, node)
        for i, name in enumerate(node.input):
            node.input[i] = self.integers.get(name, name)
        if node.op_type == "Pad":  # with what stands for zero
            node.input[:] = [*node.input[:2], self._grid(grid, names[0])[1], *node.input[3:]]
        nodes = [node]
        for i, name in enumerate(names):
            node.output[i] = self.integers[name] = self.graph.fresh(f"{name}_quantized")
            nodes.append(self._node("DequantizeLinear", [node.output[i], *self._grid(grid, name)], name, name, node))
            self.quantized[name] = name
        return nodes

    def _cut(
        self, source: str, name: str, grid: Grid, ends: tuple[float, float], like: onnx.NodeProto
    ) -> list[onnx.NodeProto]:
        """Tensor `name`: the integers of `source` cut off at `ends`."""
        nodes, bounds = [], [on_grid(end, grid) for end in ends]
        self.integers[name] = self.integers[source]
        self.quantized[name] = name
        if bounds != [0, 255]:  # Max and Min of uint8 have kernels from ONNX Runtime 1.24 on only, and are no faster
            self.integers[name] = self.graph.fresh(f"{name}_quantized")
            limits = [self.graph.add_constant(np.asarray(end, np.uint8), f"{name}_end") for end in bounds]
            nodes.append(helper.make_node("Clip", [self.integers[source], *limits], [self.integers[name]], like.name))
            set_meta(nodes[0], get_meta(like))
        inputs = [self.integers[name], *self._grid(grid, name)]
        return [*nodes, self._node("DequantizeLinear", inputs, name, name, like)]

    def beyond(self, node: onnx.NodeProto) -> bool:
        """Whether `node` is an int8 node's ReLU or Clip, and its grid reaches beyond its ends (a joined one may)."""
        ends = cut(self.graph, node) if node.output[0] in self.plan.made_by_int8 else None
        if ends is None:
            return False
        low, high = (np.float32(q) * self.grids[node.output[0]].scale for q in reach(self.grids[node.output[0]]))
        return bool(low < ends[0] - EPSILON or high > ends[1] + EPSILON)

    def cut_behind(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The ReLU or Clip `node` of an int8 node, done on integers."""
        source, name = node.input[0], node.output[0]
        grid, ends = self.grids[name], cut(self.graph, node)
        assert ends is not None
        self.integers[source] = self.graph.fresh(f"{source}_quantized")
        inputs = [source, *self._grid(grid, source)]
        q = self._node("QuantizeLinear", inputs, self.integers[source], source, node)
        return [q, *self._cut(source, name, grid, ends, node)]

    def hard(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """HardSwish as a product of two readings of one tensor, HardSigmoid as the second of them; see `grids`."""
        source, name = node.input[0], node.output[0]
        gate = name if node.op_type == "HardSigmoid" else self.graph.fresh(f"{name}_gate")
        nodes = self._cut(source, gate, gate_grid(self.grids[source]), (0.0, 1.0), node)
        if node.op_type == "HardSigmoid":
            return nodes
        nodes[0].name = f"{node.name}/{nodes[0].op_type}"
        node.op_type, node.input[:] = "Mul", [source, gate]
        del node.attribute[:]
        return [*nodes, node, *self.behind(node, 0, name)]

    def rewrite(self, node: onnx.NodeProto, int8: bool) -> list[onnx.NodeProto]:
        """Nodes that must stand in front of `node`; `node`'s inputs are redirected when it is int8."""
        before: list[onnx.NodeProto] = []
        if not int8:
            return before
        if node.op_type in COMPUTE:
            before += self.parameters(node)
        for i, name in enumerate(node.input):
            if name in self.quantized:
                node.input[i] = self.quantized[name]
            elif node.op_type in FOLLOWERS and self.graph.constant(name) is not None:
                before += self.constant(node, i, name)
        return before

    def behind(self, node: onnx.NodeProto, index: int, name: str) -> list[onnx.NodeProto]:
        """The pair behind a tensor: everybody reads an int8 node through it; of a float node, only int8 readers do."""
        if name not in self.plan.made_by_int8:
            return self.pair(name, node)
        hidden = self.graph.fresh(f"{name}_float")
        node.output[index] = hidden
        self.quantized[name] = name
        return self._pair(hidden, name, self.grids[name], node, name)

    def pair(self, name: str, like: onnx.NodeProto) -> list[onnx.NodeProto]:
        out = self.graph.fresh(f"{name}_dequantized")
        self.quantized[name] = out
        return self._pair(name, out, self.grids[name], like, name)

    def _pair(self, source: str, target: str, grid: Grid, like: onnx.NodeProto, label: str) -> list[onnx.NodeProto]:
        scale, zero = self._grid(grid, label)
        q = self.integers[label] = self.graph.fresh(f"{label}_quantized")
        return [
            self._node("QuantizeLinear", [source, scale, zero], q, label, like),
            self._node("DequantizeLinear", [q, scale, zero], target, label, like),
        ]

    def constant(self, node: onnx.NodeProto, index: int, name: str) -> list[onnx.NodeProto]:
        """A constant operand (say, of an Add) as uint8 with its dequantizer."""
        value = self.graph.constant(name)
        assert value is not None
        grid = activation_grid(float(value.min()), float(value.max()))
        node.input[index] = out = self.graph.fresh(f"{name}_dequantized")
        return [self._dequantize(grid.quantize(value), grid, name, out, node)]

    def parameters(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Weights and bias of a compute node as integers with their dequantizers."""
        weight = self.graph.constant(node.input[1])
        assert weight is not None
        axis = channel_axis(node) if self.per_channel else None
        form = self.weight_forms.get(label(node), "s8")
        grid = weight_grid(weight, axis, WEIGHT_FORMS[form])
        step = float(self.grids[node.input[0]].scale)
        bias = self.graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if bias is not None:
            grid = fit_bias(grid, bias.reshape(-1), step)
        key = (node.input[1], axis, form, grid.scale.tobytes())
        nodes = []
        if key not in self.stored:  # a weight that several nodes share is stored once
            self.stored[key] = self.graph.fresh(f"{node.output[0]}_weight")
            held = unsigned(grid) if form == "u8" else grid
            nodes.append(self._dequantize(held.quantize(weight), held, node.input[1], self.stored[key], node))
        node.input[1] = self.stored[key]
        if bias is not None:
            nodes.append(self._bias(node, bias.reshape(-1), step, grid))
        return nodes

    def _bias(self, node: onnx.NodeProto, bias: Array, step: float, grid: Grid) -> onnx.NodeProto:
        values, scale = quantize_bias(bias, step, grid.scale)
        axis = 0 if scale.ndim else None
        name, out = node.input[2], self.graph.fresh(f"{node.output[0]}_bias")
        node.input[2] = out
        return self._dequantize(values, Grid(scale, np.zeros(scale.shape, np.int32), axis), name, out, node)

    def _dequantize(self, values: Array, grid: Grid, name: str, out: str, like: onnx.NodeProto) -> onnx.NodeProto:
        scale, zero = self._grid(grid, out)
        stored = self.graph.add_constant(values, f"{name}_{values.dtype}")
        node = self._node("DequantizeLinear", [stored, scale, zero], out, out, like)
        if grid.axis is not None:
            node.attribute.append(helper.make_attribute("axis", grid.axis))
        return node

    def _grid(self, grid: Grid, label: str) -> tuple[str, str]:
        return (
            self.graph.add_constant(grid.scale, f"{label}_scale"),
            self.graph.add_constant(grid.zero_point, f"{label}_zero_point"),
        )

    def _node(self, op: str, inputs: list[str], output: str, label: str, like: onnx.NodeProto) -> onnx.NodeProto:
        node = helper.make_node(op, inputs, [output], name=f"{label}/{op}")
        keep_module(node, like)
        return node
