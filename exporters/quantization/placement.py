"""Which nodes of a float graph become integer kernels, and which tensors need an 8-bit grid for it.

    Conv -> Relu -> MaxPool -> Conv         compute, its activation, carrier, compute: three grids, no float between

1. *Compute* nodes with constant weights (Conv, Gemm, MatMul) are int8.
2. A ReLU or Clip that alone reads an int8 node belongs to it: the grid's lower end does its work.
3. *Followers* (Add, Mul, Concat, pools, Sigmoid ...) are int8 when all that they read has a grid, or when some of it
   has and their output needs one anyway; they never start an island of their own.
4. *Carriers* (MaxPool, Reshape, nearest Resize, a Concat of copies ...) only move values: their output shares their
   input's grid, and they move the integers themselves. So does a ReLU or Clip that belongs to nobody: it cuts them off,
   unless what it leaves is not on that grid, or would be far too coarse on it (`grids`, from the ranges).
   Of max(x, s x), s <= 1, all three have the grid of x, which reaches as far as the maximum does.
5. A Gemm or MatMul that nothing int8 reads keeps a float output: its integer kernel gives one for free, and logits keep
   their precision.
6. Of a detector, followers and carriers behind the last compute node stay float (`tail`).

All other nodes stay float, each with its reason (`why_float`). Two forms are there by name: `hardswish` makes HardSwish
and HardSigmoid int8 (see `grids`), `one_scale` gives all that a Concat joins one grid, so that it copies.
Source: ONNX Runtime documentation, "Quantize ONNX models", QDQ format. Test: tests/test_placement.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from exporters.graph import Graph, label
from exporters.layerwise.patterns import Excluding
from exporters.quantization.kernels import (
    CARRIERS,
    COMPUTE,
    CUTTERS,
    FLOAT_OUTPUT,
    FOLLOWERS,
    HARD,
    SHAPE_OPS,
    activated_output,
    carried_outputs,
    cut,
    is_float_node,
    is_float_tensor,
    is_plain_hard,
    larger_of,
    moving_inputs,
    never_on_a_grid,
    why_not_carried,
    why_not_compute,
)
from exporters.quantization.tail import REASON, tail_of
from exporters.quantization.why_float import FORM, WhyFloat
from runtimes import plugins
from runtimes.base import BadInput

FORMS = (FORM, "one_scale")
"""Int8 forms of operators that are not the plain ones; each is chosen by name."""


@dataclass(frozen=True)
class Plan:
    """Which nodes (by first output's name) are int8, which tensors get a grid, and why the rest stays float.

    `grids` maps a tensor to the tensor whose range it uses (itself, or the source of a chain of carriers). `joined`:
    sets of those that a Concat brings together. `hard_inputs`: tensors that a HardSwish or HardSigmoid reads; `gates`:
    HardSigmoid's output -> its input, whose integers it reads on another grid. `maxima`: what max(x, s x) makes -> the
    tensor whose grid must reach as far. `cuts`: what a ReLU or Clip makes that belongs to nobody -> (the tensor that it
    reads, lowest, highest value that it lets through), from the front to the back; `behind`: tensor -> the last such
    cut between it and the tensor whose range it uses.
    """

    int8: frozenset[str]
    grids: Mapping[str, str]
    made_by_int8: frozenset[str]
    float_nodes: tuple[tuple[str, str], ...]
    joined: tuple[frozenset[str], ...] = ()
    hard_inputs: frozenset[str] = frozenset()
    gates: Mapping[str, str] = field(default_factory=dict)
    maxima: Mapping[str, str] = field(default_factory=dict)
    cuts: Mapping[str, tuple[str, float, float]] = field(default_factory=dict)
    behind: Mapping[str, str] = field(default_factory=dict)

    @property
    def observed(self) -> list[str]:
        """Tensors to calibrate, each once."""
        return sorted({*self.grids.values(), *self.maxima} - set(self.gates))


def plan(model: onnx.ModelProto, exclude: Sequence[str] = (), forms: Sequence[str] = (), reasons: bool = True) -> Plan:
    """Decide which nodes of `model` become int8; `exclude` are shell patterns over node labels and module paths.

    `forms` are names of `FORMS`; raises `BadInput` for another. Without `reasons` it is not found out why the others
    stay float: for those who plan once for each layer.
    """
    for form in forms:
        if form not in FORMS:
            raise BadInput(plugins.unknown(form, FORMS, "int8 form"))
    graph = Graph(model, copied=False)
    state = _State(graph, Excluding(exclude), frozenset(forms))
    for node in graph.proto.node:
        if node.op_type in COMPUTE:
            state.try_compute(node)
    while sum(state.try_follow(node) for node in graph.proto.node):  # every node is asked in every sweep
        pass
    for node in graph.proto.node if reasons else ():
        state.explain(node)
    made = {state.outlet(graph.producer[name]) for name in state.int8}
    made |= {o for name in state.int8 for o in graph.producer[name].output}
    roots = {name: state.root_of(name) for name in state.root}
    return Plan(
        frozenset(state.int8),
        roots,
        frozenset(made & set(roots)),
        tuple(state.float_nodes),
        state.joined() if "one_scale" in forms else (),
        frozenset(state.hard_inputs),
        state.gates,
        {name: roots[name] for name in sorted(state.maxima)},
        state.cut_off(),
        {name: last for name in state.root if (last := state.last_cut(name))},
    )


def meeting(groups: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """`groups`, in sorted order, with those that have a member in common made one.

    >>> [sorted(group) for group in meeting([frozenset("cd"), frozenset("ab"), frozenset("de")])]
    [['a', 'b'], ['c', 'd', 'e']]
    """
    found: list[frozenset[str]] = []
    for group in groups:
        meet = [other for other in found if other & group]
        found = [other for other in found if not other & group] + [group.union(*meet)]
    return tuple(sorted(found, key=sorted))


@dataclass
class _State:
    graph: Graph
    excluded: Excluding
    forms: frozenset[str] = frozenset()
    int8: set[str] = field(default_factory=set)
    root: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    float_nodes: list[tuple[str, str]] = field(default_factory=list)
    hard_inputs: set[str] = field(default_factory=set)
    gates: dict[str, str] = field(default_factory=dict)
    maxima: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.refused |= dict.fromkeys(tail_of(self.graph, COMPUTE), REASON)

    def root_of(self, name: str) -> str:
        while self.root[name] != name:
            name = self.root[name]
        return name

    def place_of(self, name: str) -> str:
        """The last cut or, without one, the root in front of tensor `name`: what surely has the same grid."""
        return self.last_cut(name) or self.root_of(name)

    def cut_off(self) -> dict[str, tuple[str, float, float]]:
        """`Plan.cuts`."""
        nodes = [node for node in self.graph.proto.node if node.op_type in CUTTERS and node.output[0] in self.int8]
        ends = [(node, cut(self.graph, node)) for node in nodes]
        return {str(node.output[0]): (str(node.input[0]), *found) for node, found in ends if found is not None}

    def last_cut(self, name: str) -> str:
        while name not in self.int8 or self.graph.producer[name].op_type not in CUTTERS:
            if self.root[name] == name:
                return ""
            name = self.root[name]
        return name

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
        if not self.ready(node):
            return False
        pattern = self.excluded(node)
        if pattern is not None:
            return self.refuse(node, f"excluded by {pattern}")
        self.int8.add(node.output[0])
        moved = moving_inputs(self.graph, node)
        for name in moved:
            if self.graph.constant(name) is None:
                self.give_grid(name)
        if self.carries(node):
            self.root.update(dict.fromkeys(carried_outputs(node), moved[0]))  # also when a reader gave it one before
        else:
            self.give_grid(self.outlet(node))
        if node.op_type == "Max":
            self.root[moved[1]] = moved[0]
            self.maxima.add(node.output[0])
        if node.op_type in HARD:
            self.hard_inputs.add(node.input[0])
        if node.op_type == "HardSigmoid":
            self.gates[node.output[0]] = node.input[0]
        return True

    def ready(self, node: onnx.NodeProto) -> bool:
        """Whether the operator has an integer form here and what it reads has grids."""
        if node.op_type in CUTTERS + HARD:
            source = node.input[0]
            if source not in self.root or self.maker(source) not in self.int8:
                return False
            return self.cuts(node) if node.op_type in CUTTERS else self.hard(node)
        larger = larger_of(self.graph, node)
        if larger is not None:
            return larger[0] in self.root and larger[1] in self.int8
        if node.op_type not in FOLLOWERS + CARRIERS or why_not_carried(self.graph, node):
            return False
        moved = moving_inputs(self.graph, node)
        barred = any(never_on_a_grid(self.graph, name) for name in moved)
        return bool(moved) and not barred and self.worthwhile(node, moved)

    def carries(self, node: onnx.NodeProto) -> bool:
        """Whether the output has the grid of what the node reads; a Concat does when all that it joins has one.

        A cut counts as another grid, which it may be.
        """
        roots = {self.place_of(name) if name in self.root else "" for name in node.input}
        copies = node.op_type == "Concat" and len(roots) == 1 and "" not in roots
        return node.op_type in CARRIERS + CUTTERS or copies or larger_of(self.graph, node) is not None

    def cuts(self, node: onnx.NodeProto) -> bool:
        """A ReLU or Clip with constant ends that does not belong to the node in front of it."""
        before = self.graph.producer[node.input[0]]
        return cut(self.graph, node) is not None and self.outlet(before) != node.output[0]

    def hard(self, node: onnx.NodeProto) -> bool:
        """A HardSwish or HardSigmoid that alone reads what an int8 node makes: the grid there is made for it."""
        source = node.input[0]
        alone = self.graph.only_consumer(source) is node and self.root[source] == source and source not in self.gates
        return FORM in self.forms and alone and is_plain_hard(node)

    def joined(self) -> tuple[frozenset[str], ...]:
        """Roots and cuts whose grids int8 Concats bring together."""
        concats = [n for n in self.graph.proto.node if n.op_type == "Concat" and n.output[0] in self.int8]
        gridded = [[name for name in (*node.input, node.output[0]) if name in self.root] for node in concats]
        return meeting(frozenset(map(self.place_of, names)) for names in gridded)

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
        return str(node.output[0]) if self.carries(node) else activated_output(self.graph, node)

    def explain(self, node: onnx.NodeProto) -> None:
        """Record why a node stays float, unless it is int8, belongs to an int8 node or only handles shapes."""
        if node.output[0] in self.int8 or node.op_type in SHAPE_OPS or self.maker(node.output[0]) in self.int8:
            return
        if not is_float_node(self.graph, node):
            return
        why = WhyFloat(self.graph, self.int8, self.root, self.maker, self.forms)
        self.float_nodes.append((label(node), self.refused.get(node.output[0]) or why(node)))
