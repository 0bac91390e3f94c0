"""Which operators compute the same on tensors whose axes have moved, and what of them has to change.

    through     Relu, Clip, Add, Concat, Pad, Slice ...     what it reads and what it makes move together
    ends        ReduceMean without sizes of 1, Squeeze ...  what it reads may move, what it makes stays
    begins      Unsqueeze, Reshape                          what it makes may move, what it reads stays

An operator that is not here stays as it is, and what lies between it and moved tensors is moved there and back. Softmax
is left out: ONNX Runtime's kernel transposes where the axis is not the last. Source: ONNX operator specification.
Test: tests/test_move_transposes.py, tests/test_move_squeezes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from exporters.graph import Graph, attributes, is_standard, opset
from exporters.noops import parameter
from exporters.relayout.move import Move
from exporters.shape_inference import Shape
from runtimes.base import Array

OLDEST_OPSET = 8
"""From which on all operators broadcast without being told."""


@dataclass(frozen=True)
class View:
    """A graph, the shapes of its tensors as far as they are known, and the move that is asked about."""

    graph: Graph
    shapes: Mapping[str, Shape]
    move: Move

    def rank(self, name: str) -> int | None:
        shape = self.shapes.get(name)
        return None if shape is None else len(shape)

    def moves(self, name: str) -> bool:
        """Whether tensor `name` is one that could move: of the old rank, and not constant."""
        return self.rank(name) == len(self.move.place) and self.graph.constant(name) is None


@dataclass(frozen=True)
class Step:
    """Which inputs of a node move, and whether its outputs do; `edit` makes the node, whose tensors moved, fit."""

    reads: tuple[int, ...]
    makes: bool = True
    edit: Callable[[onnx.NodeProto], None] = lambda node: None


Rule = Callable[[View, onnx.NodeProto], Step | None]


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)
    node.attribute.append(helper.make_attribute(name, value))


def set_parameter(view: View, node: onnx.NodeProto, name: str, index: int, value: Array) -> None:
    """Input `index` where there is one, attribute `name` where not; whoever else reads the old input keeps it."""
    if len(node.input) > index and node.input[index]:
        node.input[index] = view.graph.add_constant(value, f"{node.input[index]}.moved")
    else:
        set_attribute(node, name, [int(number) for number in value])


def unary(view: View, node: onnx.NodeProto) -> Step | None:
    return Step((0,)) if len(node.output) == 1 and view.moves(node.input[0]) else None


def broadcast(view: View, node: onnx.NodeProto) -> Step | None:
    """Tensors of one rank, numbers, and constants, which move with them."""
    constants: dict[int, Array] = {}
    reads: list[int] = []
    rank = len(view.move.place)
    for i, name in enumerate(node.input):
        value = view.graph.constant(name) if name else None
        if value is not None and value.ndim <= rank:
            constants[i] = value
        elif name and view.moves(name):
            reads.append(i)
        elif not name or view.rank(name) != 0:
            return None

    def edit(made: onnx.NodeProto) -> None:
        for i, value in constants.items():
            if value.size != 1:
                moved = view.move.array(value)
                moved = moved.reshape(moved.shape[next(a for a, size in enumerate(moved.shape) if size != 1) :])
                made.input[i] = view.graph.add_constant(moved, f"{made.input[i]}.moved")

    return Step(tuple(reads), edit=edit) if reads else None


def concat(view: View, node: onnx.NodeProto) -> Step | None:
    constants = {i: view.graph.constant(name) for i, name in enumerate(node.input)}
    reads = tuple(i for i, value in constants.items() if value is None)
    if not reads or not all(view.moves(node.input[i]) for i in reads):
        return None

    def edit(made: onnx.NodeProto) -> None:
        set_attribute(made, "axis", view.move.axis(attributes(made)["axis"]))
        for i, value in constants.items():
            if value is not None:
                made.input[i] = view.graph.add_constant(view.move.array(value), f"{made.input[i]}.moved")

    return Step(reads, edit=edit)


def split(view: View, node: onnx.NodeProto) -> Step | None:
    def edit(made: onnx.NodeProto) -> None:
        set_attribute(made, "axis", view.move.axis(attributes(made).get("axis", 0)))

    return Step((0,), edit=edit) if view.moves(node.input[0]) else None


def pad(view: View, node: onnx.NodeProto) -> Step | None:
    """A number in front of each axis, then one behind each; from operator set 18 on perhaps for some axes only."""
    pads = parameter(view.graph, node, "pads", 1)
    partly = len(node.input) > 3 and bool(node.input[3])
    axes = view.graph.constant(node.input[3]) if partly else None
    if pads is None or not view.moves(node.input[0]) or (partly and axes is None):
        return None
    front, behind = np.split(pads, 2)

    def edit(made: onnx.NodeProto) -> None:
        if axes is not None:
            made.input[3] = view.graph.add_constant(_moved_axes(view, axes), f"{made.input[3]}.moved")
            return
        both = view.move.spread(front, 0) + view.move.spread(behind, 0)
        set_parameter(view, made, "pads", 1, np.array(both, np.int64))

    return Step((0,), edit=edit)


def cut_out(view: View, node: onnx.NodeProto) -> Step | None:
    """A Slice, whose axes may be left out."""
    starts = parameter(view.graph, node, "starts", 1)  # whose type is that of the axes
    axes = parameter(view.graph, node, "axes", 3)
    computed = axes is None and len(node.input) > 3 and node.input[3]
    if starts is None or computed or not view.moves(node.input[0]):
        return None
    given = np.arange(len(starts)) if axes is None else axes

    def edit(made: onnx.NodeProto) -> None:
        moved = _moved_axes(view, given)
        if opset(view.graph.model) < 10:
            set_attribute(made, "axes", [int(axis) for axis in moved])
            return
        made.input.extend([""] * (4 - len(made.input)))
        made.input[3] = view.graph.add_constant(moved.astype(starts.dtype), f"{made.output[0]}.axes")

    return Step((0,), edit=edit)


def _moved_axes(view: View, axes: Array) -> Array:
    return np.array([view.move.axis(int(axis)) for axis in axes.ravel()], np.int64)


def reduction(view: View, node: onnx.NodeProto) -> Step | None:
    """Over some axes; where it drops them, those that are left have to keep their order."""
    axes, a = parameter(view.graph, node, "axes", 1), attributes(node)
    if axes is None or not axes.size or not view.moves(node.input[0]):
        return None  # without axes it is over all of them, or none
    rank = len(view.move.place)
    dropped = sorted(int(axis) % rank for axis in axes.ravel())
    keep = bool(a.get("keepdims", 1))
    if not keep and not view.move.in_order([axis for axis in range(rank) if axis not in dropped]):
        return None

    def edit(made: onnx.NodeProto) -> None:
        moved = [view.move.place[axis] for axis in dropped] + ([] if keep else view.move.added)
        set_parameter(view, made, "axes", 1, np.array(sorted(moved), np.int64))

    return Step((0,), keep, edit)


def quantizer(view: View, node: onnx.NodeProto) -> Step | None:
    """With one scale for all, or one for each place of an axis."""
    scale = view.graph.constant(node.input[1])
    if scale is None or scale.ndim > 1 or not view.moves(node.input[0]):
        return None

    def edit(made: onnx.NodeProto) -> None:
        if scale.size != 1:
            set_attribute(made, "axis", view.move.axis(attributes(made).get("axis", 1)))

    return Step((0,), edit=edit)


UNARY = (
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
)  # fmt: skip
BROADCAST = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod",
    "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip
REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
THROUGH: dict[str, Rule] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BROADCAST, broadcast),
    **dict.fromkeys(REDUCTIONS, reduction),
    "Concat": concat,
    "DequantizeLinear": quantizer,
    "Pad": pad,
    "QuantizeLinear": quantizer,
    "Slice": cut_out,
    "Split": split,
}


def is_known(node: onnx.NodeProto, rules: Mapping[str, Rule]) -> bool:
    return node.op_type in rules and is_standard(node, node.op_type)
