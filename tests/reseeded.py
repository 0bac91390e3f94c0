"""Real weights for the networks of the `onnx` package that come without: a wrong fold of constant weights is no error.

As shipped, every weight of the nine `light_*` files is one constant, so that channels may be swapped or scaled and the
outputs stay. Here each gets seeded numbers of the size that keeps the signal alive (He et al. 2015), every
BatchNormalization statistics of its own, and the Softmax at the end goes: it hides all but the largest logit. The 4096
hidden neurons of AlexNet, VGG-19 and ZFNet are 128: nine tenths of their weights, and of the time that it takes to copy
them, stand between the same few nodes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from exporters.graph import Graph, copy_tensor, free_inputs, is_standard

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
HIDDEN = {4096: 128}
"""Neurons of a hidden fully connected layer, as published and here."""


def reseeded(name: str) -> onnx.ModelProto:
    """The network `light_*` called `name` with seeded live weights, all of them initializers, giving logits."""
    graph = Graph(onnx.load(FOLDER / f"{name}.onnx"))
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    (data,) = [copy_value(value) for value in free_inputs(graph.model)]
    del graph.proto.input[:]  # the others are defaults of weights
    graph.proto.input.append(data)
    graph.model.ir_version = 4
    graph.reindex()
    drawn = {name: _draw(rng, *_role(graph, name), shape) for name, shape in _weights(graph)}
    values = {name: value.astype(np.float32) for name, value in drawn.items() if value is not None}
    old = [copy_tensor(tensor) for tensor in graph.proto.initializer if tensor.name not in values]
    del graph.proto.initializer[:]
    graph.proto.initializer.extend([*old, *(numpy_helper.from_array(value, name) for name, value in values.items())])
    graph.set_nodes([node for node in graph.proto.node if node.output[0] not in values])
    if is_standard(graph.proto.node[-1], "Softmax"):
        graph.proto.output[0].name = graph.proto.node[-1].input[0]
        graph.set_nodes(list(graph.proto.node)[:-1])
    graph.prune()
    return graph.model


def _weights(graph: Graph) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every float tensor that the file makes up: initializers and filled shapes."""
    for name, tensor in graph.initializers.items():
        if tensor.data_type == onnx.TensorProto.FLOAT:
            yield name, _thin(tensor.dims)
    for node in graph.proto.node:
        if is_standard(node, "ConstantOfShape"):
            shape = graph.constant(node.input[0])
            assert shape is not None
            yield node.output[0], _thin(shape)


def _thin(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(HIDDEN.get(int(size), int(size)) for size in shape)


def _role(graph: Graph, name: str) -> tuple[str, int]:
    """(operator, input index) that reads tensor `name` in the end, through what only changes its shape."""
    if not graph.consumers.get(name):
        return "", 0
    reader = graph.consumers[name][0]
    index = list(reader.input).index(name)
    if index == 0 and reader.op_type in ("Unsqueeze", "Reshape", "Identity"):
        return _role(graph, reader.output[0])
    return reader.op_type, index


def _draw(rng: np.random.Generator, op: str, index: int, shape: tuple[int, ...]) -> np.ndarray | None:
    normal = rng.standard_normal(shape, np.float32)
    if op in ("Conv", "Gemm", "MatMul"):
        fan_in = int(np.prod(shape[1:])) or 1
        return normal * np.sqrt(2 / fan_in) if index == 1 else 0.05 * normal
    if op == "BatchNormalization":
        return {1: 1 + 0.1 * normal, 2: 0.1 * normal, 3: 0.1 * normal, 4: np.exp(0.3 * normal)}[index]
    return {"Mul": 1 + 0.1 * normal, "Add": 0.1 * normal, "Sum": 0.1 * normal}.get(op)


def copy_value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    return copy
