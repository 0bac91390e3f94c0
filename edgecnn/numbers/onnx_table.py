"""The nodes of an ONNX graph as lines of the layer table, without torch. Test: tests/test_layer_table.py."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx

from edgecnn.numbers.layer_table import Part, Sizes, local_part, recurrent_part
from edgecnn.numbers.onnx_numbers import RECURRENT, Numbers, macs_of
from exporters.graph import WEIGHT_INPUT, attributes, own_module
from runtimes.imaging.preprocess import layout_of

FC_WEIGHT = {"Gemm": 1, "MatMul": 1, "MatMulInteger": 1, "QGemm": 3, "QLinearMatMul": 3}
POOLS = {"MaxPool": "pool", "AveragePool": "avgpool"}
GLOBAL = ("GlobalAveragePool", "QLinearGlobalAveragePool", "ReduceMean")
STILL = ("DequantizeLinear", "Transpose", "Identity", "Cast", "Reshape")
"""What may stand between a weight and the layer that reads it."""


def channels_first(image: Sizes | None, last: bool | None = None) -> Sizes | None:
    """Sizes (N, C, ...) of what the model takes, where its channels are `last`, or are by their sizes (None).

    >>> channels_first((1, 96, 112, 3)), channels_first((1, 3, 96, 112)), channels_first((1, 400, 2), True)
    ((1, 3, 96, 112), (1, 3, 96, 112), (1, 2, 400))
    """
    if image is None or not (layout_of(image[1:]) == "NHWC" if last is None else last):
        return image
    batch, *space, channels = image
    return (batch, channels, *space)


def parts(numbers: Numbers) -> Iterator[Part]:
    """What multiplies, and pooling, in the order of the file."""
    for node in numbers.graph.proto.node:
        part = part_of(numbers, node)
        if part is not None:
            yield part


def part_of(numbers: Numbers, node: onnx.NodeProto) -> Part | None:
    """The line of the table for `node`; None for what has none there."""
    path = own_module(node) or node.name
    sizes = [numbers.sizes(name) for name in node.input]
    output = numbers.sizes(node.output[0]) if node.output else None
    macs = macs_of(node, sizes, output)
    if node.op_type in WEIGHT_INPUT:
        return _convolution(node, path, sizes[WEIGHT_INPUT[node.op_type]], output, macs)
    if node.op_type in RECURRENT:
        return _recurrent(node, path, sizes, macs)
    if node.op_type in FC_WEIGHT or node.op_type == "Einsum":
        return _product(numbers, node, path, sizes, output, macs)
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


def _product(
    numbers: Numbers, node: onnx.NodeProto, path: str, sizes: list[Sizes | None], output: Sizes | None, macs: int | None
) -> Part | None:
    """A product with a matrix of weights on either side, or one for every position; else one of two activations."""
    right = FC_WEIGHT.get(node.op_type, 1)
    places = [i for i in (right, 0) if i < len(node.input) and _fixed(numbers, node.input[i])]
    weight = sizes[places[0]] if places else None
    if len(places) == 2 or (places and weight is None):
        return None
    if weight is None or len(weight) < 2 or node.op_type == "Einsum":
        said = None if weight is None else ("x".join(map(str, weight)), math.prod(weight))
        return Part("matmul", path, output=output, macs=macs, weights=said) if macs != 0 else None
    rows = [n for n in weight[:-2] if n > 1]
    inputs, outputs = weight[-2:]
    if places[0] != right or attributes(node).get("transB", 0):
        inputs, outputs = outputs, inputs
    if not rows:
        return Part("fc", path, (), inputs, outputs, 1, output, macs)
    if output is not None and len(output) == 3 and places[0] == right:  # (P, N, O)
        output = (output[1], output[2], output[0])
    return local_part(path, math.prod(rows), (), inputs, outputs, output, macs)


def _recurrent(node: onnx.NodeProto, path: str, sizes: list[Sizes | None], macs: int | None) -> Part | None:
    """X (T, N, I), or (N, T, I); W (D, gates H, I), R (D, gates H, H); of DynamicQuantizeLSTM turned round."""
    steps, weight, again = sizes[:3]
    if weight is None or again is None:
        return None
    turned = node.op_type == "DynamicQuantizeLSTM"
    rows, inputs = weight[:0:-1] if turned else weight[1:]
    directions, state = weight[0], again[1] if turned else again[2]
    output = None
    if steps is not None:
        count, batch = (steps[1], steps[0]) if attributes(node).get("layout", 0) else steps[:2]
        output = (batch, directions * state, count)
    kind = "lstm" if turned else node.op_type.lower()
    return recurrent_part(kind, path, directions, rows, inputs, state, output, macs)


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
