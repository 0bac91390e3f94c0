"""float16 where it is enough, float32 where it is not: which nodes, and the graph with a Cast at each border.

    x f32 --Cast--> f16 Conv -> f16 Relu -> ... --Cast--> f32 softmax, boxes, whatever is sensitive -> y f32

    float16 = 1 sign, 5 exponent, 10 mantissa bits     largest 65,504     smallest normal 6.1e-5     smallest 6.0e-8

Inputs and outputs of the graph keep their types. A tensor is stored once in the type that its maker computes in, and
cast once for all readers that want the other one; weights are rounded once and never clipped: a node with a weight
beyond 65,504 stays float32. So does what has no float16 kernel of use, a detector's decoding of boxes (`tail`), bodies
of If, Loop and Scan, and what `half_probe` measures to be too large or too far off.
Source: IEEE 754-2019, binary16; Micikevicius et al. 2018, "Mixed Precision Training", section 3. Neither
`onnxruntime.transformers.float16` nor `onnxconverter-common` is used: they clip weights in silence, put two Casts of
one name behind a tensor that two float nodes read, and store what lies between two float nodes in float16.
Test: tests/test_half.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters.fp16.half_ops import ALL_INPUTS, ALONE, CAPABLE, COMPUTE, REASONS, SILENT, TAIL, UNTYPED
from exporters.fp16.half_types import element_types
from exporters.graph import Graph, copy_node, get_meta, label, opset, set_meta
from exporters.layerwise.patterns import excluding
from exporters.quantization.tail import tail_of
from exporters.shape_inference import Types
from runtimes.base import Array, counted

LARGEST = float(np.finfo(np.float16).max)
SMALLEST_NORMAL = float(np.finfo(np.float16).tiny)
HALF_KEY = "edgecnn.half"
"""Model metadata: what a converted model kept in float32 and why, as JSON; such a model is not converted again."""

Places = tuple[tuple[int, ...], tuple[int, ...]]
"""Numbers of the inputs and of the outputs that are float16."""


@dataclass(frozen=True)
class Plan:
    """Nodes by first output: those in float16, with the places of their float16 inputs and outputs; and why not."""

    half: Mapping[str, Places]
    kept: Mapping[str, str]


@dataclass(frozen=True)
class Half:
    """A converted model. `kept` are (node, reason); of the rounded weights some are `subnormal`, some became zero."""

    model: onnx.ModelProto
    nodes: int
    kept: tuple[tuple[str, str], ...]
    weights: int = 0
    subnormal: int = 0
    zeroed: int = 0

    @property
    def words(self) -> str:
        """`20 nodes in float16, 2 in float32; 3 of 1,000 weights subnormal, 1 rounded to zero`."""
        small = f"{self.subnormal:,} of {counted(self.weights, 'weight')} subnormal, {self.zeroed:,} rounded to zero"
        return f"{counted(self.nodes, 'node')} in float16, {len(self.kept)} in float32; {small}"


def plan(model: onnx.ModelProto, exclude: Sequence[str] = (), keep: Mapping[str, str] | None = None) -> Plan:
    """Decide for every node of `model` that computes with float32; `keep` adds reasons by first output.

    `exclude` are shell patterns over node labels and module paths. A model that was converted before has no such nodes.
    """
    if HALF_KEY in get_meta(model):
        return Plan({}, {})
    graph, types, version = Graph(model), element_types(model), opset(model)
    half: dict[str, Places] = {}
    kept = dict.fromkeys(tail_of(graph, COMPUTE), TAIL) | dict(keep or {})
    reasons: dict[str, str] = {}
    for node in graph.proto.node:
        if not node.output or node.op_type in SILENT or not _floats(node, types):
            continue
        places = _places(node, types, version)
        reason = kept.get(node.output[0]) or _excluded(node, exclude) or _why_not(graph, node, places)
        if not reason and any(name and name not in types for name in (*node.input, *node.output)):
            reason = UNTYPED
        if reason:
            reasons[node.output[0]] = reason
        else:
            half[node.output[0]] = places
    _drop_lonely(graph, half, reasons)
    return Plan(half, reasons)


def write(model: onnx.ModelProto, chosen: Plan) -> Half:
    """A copy of `model` with the nodes of `chosen` in float16; unchanged, but copied, where there are none."""
    writer = _Writer(Graph(model), chosen)
    nodes = [new for node in list(writer.graph.proto.node) for new in writer.write(copy_node(node))]
    names = {node.output[0]: label(node) for node in model.graph.node if node.output}
    kept = tuple((names[output], reason) for output, reason in chosen.kept.items())
    if not chosen.half:
        return Half(writer.graph.model, 0, kept)
    for name in writer.made:
        writer.graph.forget(name)
    writer.graph.set_nodes([*writer.first, *nodes])
    writer.graph.prune()
    set_meta(writer.graph.model, {HALF_KEY: json.dumps(dict(kept), sort_keys=True)})
    rounded = writer.rounded
    total, small, zero = (sum(getattr(r, name) for r in rounded) for name in ("total", "subnormal", "zeroed"))
    return Half(writer.graph.model, len(chosen.half), kept, total, small, zero)


# ---------------------------------------------------------------------------------------------------------- which nodes
def _floats(node: onnx.NodeProto, types: Types) -> bool:
    return any(_is_float(name, types) for name in (*node.input, *node.output))


def _is_float(name: str, types: Types) -> bool:
    return name in types and types[name].elem_type == TensorProto.FLOAT


def _places(node: onnx.NodeProto, types: Types, version: int) -> Places:
    """Inputs and outputs that share the type of the node's first output, by the operator's schema."""
    if node.op_type not in CAPABLE or node.domain not in ("", "ai.onnx"):
        return (), ()
    schema = onnx.defs.get_schema(node.op_type, version, "")
    kind = schema.outputs[0].type_str
    inputs = [schema.inputs[min(i, len(schema.inputs) - 1)].type_str for i in range(len(node.input))]
    outputs = [schema.outputs[min(i, len(schema.outputs) - 1)].type_str for i in range(len(node.output))]
    every = node.op_type in ALL_INPUTS
    return (
        tuple(i for i, t in enumerate(inputs) if (every or t == kind) and _is_float(node.input[i], types)),
        tuple(i for i, t in enumerate(outputs) if t == kind and _is_float(node.output[i], types)),
    )


def _excluded(node: onnx.NodeProto, exclude: Sequence[str]) -> str:
    pattern = excluding(node, exclude)
    return f"excluded by {pattern}" if pattern else ""


def _why_not(graph: Graph, node: onnx.NodeProto, places: Places) -> str:
    """Why `node` must compute in float32; empty when it need not."""
    if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
        return f"the body of this {node.op_type} is not converted"
    if not places[0] or not places[1]:
        return REASONS.get(node.op_type, f"{node.op_type} is not converted to float16")
    for i in places[0]:
        value = graph.constant(node.input[i])
        if value is not None and value.size and not np.abs(value).max() <= LARGEST:
            return f"a weight of {float(np.abs(value).max()):.3g} is beyond float16 (65,504)"
    return ""


def _drop_lonely(graph: Graph, half: dict[str, Places], kept: dict[str, str]) -> None:
    """Nodes that only move or add a little, between float32 on all sides, stay there."""
    while alone := [name for name in half if not _has_neighbour(graph, graph.producer[name], half)]:
        for name in alone:
            del half[name]
            kept[name] = ALONE


def _has_neighbour(graph: Graph, node: onnx.NodeProto, half: Mapping[str, object]) -> bool:
    if node.op_type in COMPUTE:
        return True
    makers = [graph.producer.get(name) for name in node.input]
    readers = [reader for name in node.output for reader in graph.consumers.get(name, [])]
    return any(other is not None and other.output[0] in half for other in (*makers, *readers))


# ------------------------------------------------------------------------------------------------------------ the graph
@dataclass(frozen=True)
class _Rounded:
    """A weight in float16: how many values, how many of them below the normal range, how many lost."""

    total: int
    subnormal: int
    zeroed: int


@dataclass
class _Writer:
    graph: Graph
    chosen: Plan
    made: set[str] = field(default_factory=set)
    """Tensors that are float16 under their old name."""
    halves: dict[str, str] = field(default_factory=dict)
    """float32 tensor -> its float16 form."""
    floats: dict[str, str] = field(default_factory=dict)
    first: list[onnx.NodeProto] = field(default_factory=list)
    """Casts that belong to nobody: they stand at the front."""
    rounded: list[_Rounded] = field(default_factory=list)

    def write(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """`node` (a copy, to be edited) with the Casts before and behind it."""
        places = self.chosen.half.get(node.output[0]) if node.output else None
        before: list[onnx.NodeProto] = []
        for i, name in enumerate(node.input):
            if places is not None and i in places[0]:
                node.input[i] = self.as_half(name, before)
            elif name in self.made:
                node.input[i] = self.as_float(name, before)
        behind = [cast for i in places[1] for cast in self.store(node, i)] if places is not None else []
        return [*before, node, *behind]

    def as_half(self, name: str, before: list[onnx.NodeProto]) -> str:
        if name in self.made:
            return name
        if name not in self.halves:
            value = self.graph.constant(name)
            if value is not None:
                self.halves[name] = self.graph.add_constant(self.round(value), f"{name}_half")
            else:
                self.halves[name] = self.graph.fresh(f"{name}_half")
                before.append(_cast(name, self.halves[name], TensorProto.FLOAT16))
        return self.halves[name]

    def as_float(self, name: str, before: list[onnx.NodeProto]) -> str:
        if name not in self.floats:
            self.floats[name] = self.graph.fresh(f"{name}_float")
            before.append(_cast(name, self.floats[name], TensorProto.FLOAT))
        return self.floats[name]

    def store(self, node: onnx.NodeProto, index: int) -> list[onnx.NodeProto]:
        """Output `index` in float16; what is read from outside the graph, or inside a body, is float32 as before."""
        name = node.output[index]
        if name not in self.graph.outputs and name not in self.graph.captured:
            self.made.add(name)
            return []
        self.halves[name] = node.output[index] = self.graph.fresh(f"{name}_half")
        return [_cast(self.halves[name], name, TensorProto.FLOAT)]

    def round(self, value: Array) -> Array:
        small = value.astype(np.float16)
        below = (np.abs(small) < SMALLEST_NORMAL) & (value != 0)
        lost = int(np.count_nonzero((small == 0) & (value != 0)))
        self.rounded.append(_Rounded(value.size, int(np.count_nonzero(below)) - lost, lost))
        return small


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=to)
