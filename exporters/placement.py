"""Which nodes of a float graph become integer kernels, and which tensors need an 8-bit grid for it.

    Conv -> Relu -> MaxPool -> Conv         compute, its activation, carrier, compute: three grids, no float between

1. *Compute* nodes with constant weights (Conv, Gemm, MatMul) are int8.
2. A ReLU or Clip that alone reads an int8 node belongs to it: the grid's lower end does its work.
3. *Followers* (Add, Mul, Concat, pools, Sigmoid ...) are int8 when all that they read has a grid, or when some of it
   has and their output needs one anyway; they never start an island of their own.
4. *Carriers* (MaxPool, Reshape, Resize ...) only move values: their output shares their input's grid.
5. A Gemm or MatMul that nothing int8 reads keeps a float output: its integer kernel gives one for free, and logits keep
   their precision.
6. Of a detector, followers and carriers behind the last compute node stay float (`tail`).

All other nodes stay float, each with its reason.
Source: ONNX Runtime documentation, "Quantize ONNX models", QDQ format. Test: tests/test_placement.py.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from exporters.graph import MODULE_KEY, Graph, attributes, get_meta
from exporters.tail import REASON, tail_of
from runtimes.base import Array

COMPUTE = ("Conv", "Gemm", "MatMul")
FLOAT_OUTPUT = ("Gemm", "MatMul")
FOLLOWERS = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid")
CARRIERS = (
    "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Resize",
    "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
NO_KERNEL = {
    "ConvTranspose": "ConvTranspose has no int8 kernel in ONNX Runtime's CPU provider",
    "HardSwish": "HardSwish has no int8 kernel in ONNX Runtime's CPU provider",
    "BatchNormalization": "a BatchNormalization that could not be folded has no int8 kernel",
}
SHAPE_OPS = frozenset(["Shape", "Constant", "Identity", "Cast", "ConstantOfShape", "Range", "Size"])


@dataclass(frozen=True)
class Plan:
    """Which nodes (by first output's name) are int8, which tensors get a grid, and why the rest stays float.

    `grids` maps a tensor to the tensor whose range it uses (itself, or the source of a chain of carriers).
    """

    int8: frozenset[str]
    grids: Mapping[str, str]
    made_by_int8: frozenset[str]
    float_nodes: tuple[tuple[str, str], ...]

    @property
    def observed(self) -> list[str]:
        """Tensors to calibrate, each once."""
        return sorted(set(self.grids.values()))


def plan(model: onnx.ModelProto, exclude: Sequence[str] = ()) -> Plan:
    """Decide which nodes of `model` become int8; `exclude` are shell patterns over node names and module paths."""
    graph = Graph(model)
    state = _State(graph, exclude)
    for node in graph.proto.node:
        if node.op_type in COMPUTE:
            state.try_compute(node)
    while sum(state.try_follow(node) for node in graph.proto.node):  # every node is asked in every sweep
        pass
    for node in graph.proto.node:
        state.explain(node)
    made = {state.outlet(graph.producer[name]) for name in state.int8}
    made |= {o for name in state.int8 for o in graph.producer[name].output if o in state.root}
    roots = {name: state.root_of(name) for name in state.root}
    return Plan(frozenset(state.int8), roots, frozenset(made & set(roots)), tuple(state.float_nodes))


@dataclass
class _State:
    graph: Graph
    exclude: Sequence[str]
    int8: set[str] = field(default_factory=set)
    root: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    float_nodes: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.refused |= dict.fromkeys(tail_of(self.graph, COMPUTE), REASON)

    def root_of(self, name: str) -> str:
        while self.root[name] != name:
            name = self.root[name]
        return name

    def excluded(self, node: onnx.NodeProto) -> str | None:
        names = [node.name, get_meta(node).get(MODULE_KEY, "")]
        return next((p for p in self.exclude if any(n and fnmatch.fnmatchcase(n, p) for n in names)), None)

    def refuse(self, node: onnx.NodeProto, reason: str) -> bool:
        self.refused[node.output[0]] = reason
        return False

    def try_compute(self, node: onnx.NodeProto) -> bool:
        pattern = self.excluded(node)
        if pattern is not None:
            return self.refuse(node, f"excluded by {pattern}")
        reason = why_not_compute(self.graph, node)
        if reason:
            return self.refuse(node, reason)
        self.int8.add(node.output[0])
        self.root.setdefault(node.input[0], node.input[0])
        if node.op_type not in FLOAT_OUTPUT:
            self.give_grid(self.outlet(node))
        return True

    def give_grid(self, name: str) -> None:
        self.root.setdefault(name, name)

    def try_follow(self, node: onnx.NodeProto) -> bool:
        """Make a follower or carrier int8 once everything it reads has a grid; True when something changed."""
        if not node.output or node.output[0] in self.int8 or node.output[0] in self.refused:
            return False
        if node.op_type not in FOLLOWERS + CARRIERS:
            return False
        moved = moving_inputs(self.graph, node)
        if not moved or not self.worthwhile(node, moved):
            return False
        pattern = self.excluded(node)
        if pattern is not None:
            return self.refuse(node, f"excluded by {pattern}")
        self.int8.add(node.output[0])
        for name in moved:
            if self.graph.constant(name) is None:
                self.give_grid(name)
        if node.op_type in CARRIERS:
            self.root.update({name: moved[0] for name in node.output if name and name not in self.root})
        else:
            self.give_grid(self.outlet(node))
        return True

    def worthwhile(self, node: onnx.NodeProto, moved: list[str]) -> bool:
        """All that the node reads has a grid; or some of it has, and its output needs one for an int8 reader anyway."""
        ready = [name in self.root for name in moved]
        fixed = [self.graph.constant(name) is not None for name in moved]
        if all(r or f for r, f in zip(ready, fixed, strict=True)):
            return True
        return node.op_type in FOLLOWERS and any(ready) and self.outlet(node) in self.root and self.all_float(moved)

    def all_float(self, names: list[str]) -> bool:
        """No operand is an integer tensor (shapes): those come from Shape nodes and constants."""
        return all(is_float_tensor(self.graph, name) for name in names)

    def maker(self, name: str) -> str:
        """First output of the node that makes `name`, looking through a ReLU or Clip that belongs to it."""
        node = self.graph.producer.get(name)
        if node is not None and node.op_type in ("Relu", "Clip"):
            before = self.graph.producer.get(node.input[0])
            if before is not None and self.outlet(before) == name:
                node = before
        return node.output[0] if node is not None else ""

    def outlet(self, node: onnx.NodeProto) -> str:
        """The tensor behind which the node's pair goes: its output, or that of the ReLU or Clip that belongs to it."""
        return activated_output(self.graph, node)

    def explain(self, node: onnx.NodeProto) -> None:
        """Record why a node stays float, unless it is int8, belongs to an int8 node or only handles shapes."""
        if node.output[0] in self.int8 or node.op_type in SHAPE_OPS or self.maker(node.output[0]) in self.int8:
            return
        if not is_float_node(self.graph, node):
            return
        reason = self.refused.get(node.output[0]) or NO_KERNEL.get(node.op_type)
        if reason is None and node.op_type in FOLLOWERS + CARRIERS:
            reason = "nothing int8 in front of it"
        self.float_nodes.append((node.name or node.output[0], reason or f"{node.op_type} has no int8 kernel"))


def why_not_compute(graph: Graph, node: onnx.NodeProto) -> str | None:
    """Reason why a Conv, Gemm or MatMul cannot be an integer kernel, or None when it can."""
    weight = graph.constant(node.input[1])
    if weight is None:
        return f"the weights of this {node.op_type} are not constant"
    if weight.dtype != np.float32:
        return f"the weights are {weight.dtype}, not float32"
    if graph.constant(node.input[0]) is not None:
        return "its input is constant"
    if node.op_type == "MatMul":
        return None if weight.ndim == 2 else f"its weight has rank {weight.ndim}, not 2"
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(0, np.float32)
    if bias is None:
        return "its bias is not constant"
    if node.op_type == "Gemm":
        return _why_not_gemm(node, weight, bias)
    return None


def _why_not_gemm(node: onnx.NodeProto, weight: Array, bias: Array) -> str | None:
    a = attributes(node)
    if a.get("transA", 0) or a.get("alpha", 1.0) != 1.0 or (bias.size and a.get("beta", 1.0) != 1.0):
        return "an integer Gemm takes alpha = beta = 1 and no transposed input"
    channels = weight.shape[0 if a.get("transB", 0) else 1]
    return None if bias.size in (0, channels) else f"its bias has {bias.size} values for {channels} outputs"


def activated_output(graph: Graph, node: onnx.NodeProto) -> str:
    """Output of `node`, or of the ReLU or Clip that is its only reader and that a grid from zero can stand for."""
    after = graph.only_consumer(node.output[0])
    if after is None or node.op_type in CARRIERS:
        return str(node.output[0])
    if after.op_type == "Relu" or (after.op_type == "Clip" and _clip_holds_zero(graph, after)):
        return str(after.output[0])
    return str(node.output[0])


def _clip_holds_zero(graph: Graph, node: onnx.NodeProto) -> bool:
    """A grid always holds zero; a Clip that cuts zero off is more than a range."""
    a = attributes(node)
    ends = [float(a.get("min", -np.inf)), float(a.get("max", np.inf))]
    for i, name in enumerate(node.input[1:3]):
        if name:
            value = graph.constant(name)
            if value is None or value.size != 1:
                return False
            ends[i] = float(value.reshape(()))
    return ends[0] <= 0.0 <= ends[1]


def moving_inputs(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """Inputs of a follower or carrier that hold activations: the first of a carrier, all of an Add, Mul or Concat."""
    names = list(node.input[:1]) if node.op_type not in ("Add", "Mul", "Concat") else list(node.input)
    return names if any(graph.constant(name) is None for name in names) else []


def is_float_node(graph: Graph, node: onnx.NodeProto) -> bool:
    """False for nodes that only compute shapes: everything they read comes from Shape or constants."""
    return any(is_float_tensor(graph, name) for name in node.input if name)


def is_float_tensor(graph: Graph, name: str, depth: int = 0) -> bool:
    """Does the tensor depend on the values, not just on the shapes, of a graph input? Looks back 16 nodes at most."""
    maker = graph.producer.get(name)
    if maker is None:
        return name in graph.inputs
    if maker.op_type in ("Shape", "Size"):
        return False
    return depth >= 16 or any(is_float_tensor(graph, n, depth + 1) for n in maker.input if n)
