"""Faults as people make them, planted at a seeded random depth of a graph; each tells which node it is in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporters.graph import copy_model

Node = onnx.NodeProto
Fault = Callable[[onnx.ModelProto, Node], None]


def plant(model: onnx.ModelProto, rng: np.random.Generator, op: str, fits: Callable, fault: Fault) -> tuple:
    """(a copy of `model` with `fault` in one of its `op` nodes that `fits`, that node)."""
    faulty = copy_model(model)
    nodes = [node for node in faulty.graph.node if node.op_type == op and fits(faulty, node)]
    node = nodes[int(rng.integers(len(nodes)))]
    fault(faulty, node)
    return faulty, node


# ------------------------------------------------------------------------------------------------------------- tools
def weight(model: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def give(model: onnx.ModelProto, node: Node, index: int, value: np.ndarray) -> None:
    """Input `index` of `node` becomes an initializer of its own."""
    name = f"{node.name}:planted{index}"
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    node.input.extend([""] * (index + 1 - len(node.input)))
    node.input[index] = name


def put(node: Node, **values: object) -> None:
    kept = [a for a in node.attribute if a.name not in values]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in values.items())])


def ints(node: Node, name: str, default: tuple) -> tuple:
    return next((tuple(a.ints) for a in node.attribute if a.name == name), default)


def change(index: int, edit: Callable[[np.ndarray], np.ndarray]) -> Fault:
    return lambda model, node: give(model, node, index, edit(weight(model, node.input[index])))


def set_to(**values: object) -> Fault:
    return lambda model, node: put(node, **values)


# -------------------------------------------------------------------------------------------------- which nodes it fits
def anywhere(model: onnx.ModelProto, node: Node) -> bool:
    return True


def has_weight(model: onnx.ModelProto, node: Node, index: int = 1) -> bool:
    return len(node.input) > index and any(t.name == node.input[index] for t in model.graph.initializer)


def square(model: onnx.ModelProto, node: Node) -> bool:
    shape = weight(model, node.input[1]).shape
    return shape[0] == shape[1] > 1


def kernel3(model: onnx.ModelProto, node: Node) -> bool:
    return weight(model, node.input[1]).shape[2:] == (3, 3) and ints(node, "pads", ()) == (1, 1, 1, 1)


def strided(model: onnx.ModelProto, node: Node) -> bool:
    return ints(node, "strides", (1, 1)) == (2, 2)


def depthwise(model: onnx.ModelProto, node: Node) -> bool:
    return kernel3(model, node) and weight(model, node.input[1]).shape[1] == 1 and not strided(model, node)


def activation(model: onnx.ModelProto, node: Node) -> bool:
    """A DequantizeLinear of an activation: a uint8 zero point."""
    return not has_weight(model, node, 0) and weight(model, node.input[2]).dtype == np.uint8


def square_weight(model: onnx.ModelProto, node: Node) -> bool:
    """A DequantizeLinear of a weight whose first two sizes are equal, so that either axis is legal."""
    if not has_weight(model, node, 0):
        return False
    value = weight(model, node.input[0])
    return value.dtype == np.int8 and value.ndim == 4 and value.shape[0] == value.shape[1]


# ------------------------------------------------------------------------------------------------------------- faults
def drop_bias(model: onnx.ModelProto, node: Node) -> None:
    del node.input[2]


def swap_inputs(model: onnx.ModelProto, node: Node) -> None:
    node.input[:] = list(node.input)[::-1]


def average(model: onnx.ModelProto, node: Node) -> None:
    node.op_type = "AveragePool"


def transposed_after_the_fact(model: onnx.ModelProto, node: Node) -> None:
    """(O, I) written as (I, O) without moving a number."""
    value = weight(model, node.input[1])
    give(model, node, 1, value.reshape(value.shape[::-1]).T)


def lose_axes(model: onnx.ModelProto, node: Node) -> None:
    """Opset 17 -> 18 moved the axes of ReduceMean to an input; a converter that drops them reduces over everything."""
    del node.input[1:]


def dilated(model: onnx.ModelProto, node: Node) -> None:
    put(node, dilations=[2, 2], pads=[2, 2, 2, 2])
