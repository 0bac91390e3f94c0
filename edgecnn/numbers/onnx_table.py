"""The nodes of an ONNX graph as lines of the layer table, without torch. Test: tests/test_layer_table.py."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgecnn.numbers.layer_table import Part, Sizes
from edgecnn.numbers.onnx_numbers import Numbers, node_macs
from exporters.graph import WEIGHT_INPUT, attributes, own_module
from runtimes.imaging.preprocess import layout_of

FC_WEIGHT = {"Gemm": 1, "MatMul": 1, "MatMulInteger": 1, "QGemm": 3, "QLinearMatMul": 3}
POOLS = {"MaxPool": "pool", "AveragePool": "avgpool"}
GLOBAL = ("GlobalAveragePool", "QLinearGlobalAveragePool", "ReduceMean")
STILL = ("DequantizeLinear", "Transpose", "Identity", "Cast", "Reshape")
"""What may stand between a weight and the layer that reads it."""


def channels_first(image: Sizes | None) -> Sizes | None:
    """Sizes (N, C, H, W) of what the model takes, where these are pictures with channels last.

    >>> channels_first((1, 96, 112, 3)), channels_first((1, 3, 96, 112))
    ((1, 3, 96, 112), (1, 3, 96, 112))
    """
    if image is None or layout_of(image[1:]) != "NHWC":
        return image
    batch, *space, channels = image
    return (batch, channels, *space)


def parts(numbers: Numbers) -> Iterator[Part]:
    """Layers with weights, and pooling, in the order of the file."""
    for node in numbers.graph.proto.node:
        part = part_of(numbers, node)
        if part is not None:
            yield part


def part_of(numbers: Numbers, node: onnx.NodeProto) -> Part | None:
    """The line of the table for `node`; None for what has none there."""
    path = own_module(node) or node.name
    sizes = [numbers.sizes(name) for name in node.input]
    output = numbers.sizes(node.output[0]) if node.output else None
    macs = node_macs(node.op_type, sizes, output)
    if node.op_type in WEIGHT_INPUT:
        return _convolution(node, path, sizes[WEIGHT_INPUT[node.op_type]], output, macs)
    if node.op_type in FC_WEIGHT and _fixed(numbers, node.input[FC_WEIGHT[node.op_type]]):
        return _fully_connected(node, path, sizes[FC_WEIGHT[node.op_type]], output, macs)
    if node.op_type in POOLS:
        window = tuple(attributes(node)["kernel_shape"])
        kind = POOLS[node.op_type]
        return None if set(window) == {1} and sizes[0] == output else Part(kind, path, window, output=output)
    if node.op_type in GLOBAL and _over_space(numbers, node, sizes[0]) and sizes[0] != output:
        pooled = None if output is None or sizes[0] is None else (*output[:2], *(1 for _ in sizes[0][2:]))
        return Part("globalpool", path, output=pooled)
    return None


def _convolution(
    node: onnx.NodeProto, path: str, weight: Sizes | None, output: Sizes | None, macs: int | None
) -> Part | None:
    """W (O, I/groups, k...) of a convolution, (I, O/groups, k...) of a transposed one."""
    if weight is None:
        return None
    groups = int(attributes(node).get("group", 1))
    if node.op_type == "ConvTranspose":
        return Part("upconv", path, weight[2:], weight[0], weight[1] * groups, groups, output, macs)
    return Part("conv", path, weight[2:], weight[1] * groups, weight[0], groups, output, macs)


def _fully_connected(
    node: onnx.NodeProto, path: str, weight: Sizes | None, output: Sizes | None, macs: int | None
) -> Part | None:
    if weight is None or len(weight) != 2:
        return None
    inputs, outputs = reversed(weight) if attributes(node).get("transB", 0) else weight
    return Part("fc", path, (), inputs, outputs, 1, output, macs)


def _fixed(numbers: Numbers, name: str) -> bool:
    """Whether tensor `name` is a weight: a constant, or one that was only turned or dequantized."""
    maker = numbers.graph.producer.get(name)
    if maker is None:
        return name in numbers.graph.initializers
    return maker.op_type == "Constant" or (maker.op_type in STILL and _fixed(numbers, maker.input[0]))


def _over_space(numbers: Numbers, node: onnx.NodeProto, given: Sizes | None) -> bool:
    """Whether a ReduceMean takes the mean over exactly the axes behind batch and channels."""
    if node.op_type != "ReduceMean":
        return True
    axes = attributes(node).get("axes")
    if axes is None and len(node.input) > 1:
        constant = numbers.graph.constant(node.input[1])
        axes = None if constant is None else constant.tolist()
    return given is not None and axes is not None and {a % len(given) for a in axes} == set(range(2, len(given)))
