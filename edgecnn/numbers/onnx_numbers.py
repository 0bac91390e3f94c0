"""What an ONNX graph costs, from its shapes alone: parameters, multiply-adds, activation memory. No torch.

    convolution       output elements x (input channels / groups) x kernel elements
    deformable        the same; what is sampled between pixels counts nothing
    transposed        input elements x (output channels / groups) x kernel elements
    Gemm, MatMul      output elements x length of the summed axis
    GRU, LSTM, RNN    steps x elements of the matrices of all directions
    Einsum            all its indices multiplied, pair by pair from the left; where nothing is summed it only scales

One fused multiply-add is one MAC; biases, norms, activations, pooling and additions count nothing, as in
edgecnn/numbers/count.py. An open batch counts as 1 unless a shape is given; with any other size open, what hangs on
it is unknown, as are products in bodies (If, Loop, Scan).
Activation memory is the largest sum of tensors alive at once when the nodes run in the order of the
file; quantize and dequantize operators are taken as fused into their neighbours, as ONNX Runtime does. Oracle in
tests/test_inspect.py: PyTorch's own counts, and shapes by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper

from edgecnn.numbers.einsum import einsum_macs
from edgecnn.numbers.inspection import Layer, Sizes
from edgecnn.numbers.onnx_shapes import shapes_of
from exporters.graph import WEIGHT_INPUT, Graph, attributes, nodes_within, own_module

RECURRENT = ("GRU", "LSTM", "RNN", "DynamicQuantizeLSTM")
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
NOT_LAYERS = ("Constant", "Identity", *QUANTIZERS)
NOT_PARAMS = {
    ("BatchNormalization", 3), ("BatchNormalization", 4),  # running statistics
    ("Resize", 1), ("Resize", 2), ("Upsample", 1), ("Clip", 1), ("Clip", 2), ("Pad", 2),
}  # fmt: skip
MULTIPLY = (
    *WEIGHT_INPUT,
    *RECURRENT,
    "DeformConv",
    "Einsum",
    "Gemm",
    "MatMul",
    "MatMulInteger",
    "QGemm",
    "QLinearMatMul",
)
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
INTEGERS_READ = {"QGemm": (0, 3, 6), "ConvInteger": (0, 1), "MatMulInteger": (0, 1)}
"""Inputs of an operator on integers that are no scales and zero points; of the QLinear ones 0, 3, and the bias 8."""
INTEGERS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4, TensorProto.INT32)


def node_macs(op: str, inputs: Sequence[Sizes | None], output: Sizes | None, equation: str = "") -> int | None:
    """Multiply-adds of one node from the shapes of its inputs and its first output; None when one is unknown.

    `equation` is that of an Einsum.
    """
    if op in WEIGHT_INPUT or op == "DeformConv":
        # (O, I/groups, k...), transposed (I, O/groups, k...): the same formula
        weight = inputs[WEIGHT_INPUT.get(op, 1)]
        positions = inputs[0] if op == "ConvTranspose" else output
        return None if weight is None or positions is None else math.prod(positions) * math.prod(weight[1:])
    if op in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        return None if inputs[0] is None or output is None else math.prod(output) * inputs[0][-1]
    if op in ("Gemm", "QGemm"):
        given, weight = inputs[0], inputs[1 if op == "Gemm" else 3]
        if given is None or weight is None or output is None:
            return None
        return math.isqrt(math.prod(given) * math.prod(weight) * math.prod(output))  # MK KN MN, transposed or not
    if op in RECURRENT:
        steps, *matrices = inputs[:3]  # (T, N, I) or (N, T, I); a matrix for each direction
        if steps is None or None in matrices:
            return None
        return math.prod(steps[:2]) * sum(math.prod(matrix) for matrix in matrices if matrix is not None)
    return einsum_macs(equation, inputs) if op == "Einsum" else 0


def macs_of(node: onnx.NodeProto, inputs: Sequence[Sizes | None], output: Sizes | None) -> int | None:
    """Multiply-adds of `node`, as `node_macs`."""
    if any(inner.op_type in MULTIPLY for inner in _inner(node)):
        return None  # how often a body runs, and on what sizes, is not known here
    equation = attributes(node)["equation"].decode() if node.op_type == "Einsum" else ""
    return node_macs(node.op_type, inputs, output, equation)


class Numbers:
    """The counts of one model. `given`: input name -> sizes."""

    def __init__(self, model: onnx.ModelProto, given: Mapping[str, Sizes]) -> None:
        self.model = onnx.inliner.inline_local_functions(model) if model.functions else model
        self.graph = Graph(self.model)
        self.shapes = shapes_of(self.model, given)

    def params(self) -> int:
        """Elements of all weights, each tensor once."""
        names = {name for node in self.graph.proto.node for name in self._weights(node)}
        return sum(self._elements(name) for name in names) + sum(map(_own, self.graph.proto.node))

    def layers(self) -> tuple[Layer, ...]:
        return tuple(self._layer(node) for node in self.graph.proto.node if node.op_type not in NOT_LAYERS)

    def activation_bytes(self) -> int | None:
        """Largest sum of tensors alive at once; None when a shape is unknown."""
        nodes = list(self.graph.proto.node)
        position = self._positions(nodes)
        last = {name: len(nodes) for name in self.graph.outputs}
        for node in reversed(nodes):  # a dequantized tensor lives in its integer form until its reader is done
            until = last.get(node.output[0], 0) if node.op_type == "DequantizeLinear" else position[node.output[0]]
            for name in node.input:
                last[name] = max(last.get(name, 0), until)
        born = dict.fromkeys(self.graph.inputs - self.graph.initializers.keys(), 0)
        born |= {name: position[node.output[0]] for node in nodes for name in node.output if self._stored(node, name)}
        return _peak({name: (start, last.get(name, start), self._bytes(name)) for name, start in born.items()})

    # ------------------------------------------------------------------------------------------------------- pieces
    def _layer(self, node: onnx.NodeProto) -> Layer:
        output = self.sizes(node.output[0])
        macs = macs_of(node, [self.sizes(name) for name in node.input], output)
        params = sum(self._elements(name) for name in self._weights(node)) + _own(node)
        return Layer(node.name, node.op_type, own_module(node), output, params, macs)

    def _weights(self, node: onnx.NodeProto) -> set[str]:
        """Constants that `node` reads as parameters, looking through DequantizeLinear."""
        if node.op_type in NOT_LAYERS:
            return set()
        found = set()
        for i, name in enumerate(node.input):
            maker = self.graph.producer.get(name)
            through = maker is not None and maker.op_type == "DequantizeLinear"
            name = maker.input[0] if maker is not None and through else name
            kinds = (*FLOATS, *INTEGERS) if through or _read(node) else FLOATS
            if (node.op_type, i) not in NOT_PARAMS and self._constant(name) and self.shapes[name][1] in kinds:
                found.add(name)
        found = {name for name in found if self.shapes[name][0] and not self._is_scale(node, name)}
        return found | {name for inner in _inner(node) for name in inner.input if self._outer_weight(inner, name)}

    def _outer_weight(self, inner: onnx.NodeProto, name: str) -> bool:
        """Whether a node in a body reads tensor `name` of the graph around it as a weight."""
        places = [i for i, given in enumerate(inner.input) if given == name and (inner.op_type, i) not in NOT_PARAMS]
        known = places and self._constant(name) and inner.op_type not in NOT_LAYERS
        return bool(known and self.shapes[name][0] and self.shapes[name][1] in FLOATS)

    def _is_scale(self, node: onnx.NodeProto, name: str) -> bool:
        """Scales and zero points of operators on integers."""
        read = _read(node)
        return bool(read) and list(node.input).index(name) not in read

    def _constant(self, name: str) -> bool:
        maker = self.graph.producer.get(name)
        return name in self.shapes and (
            name in self.graph.initializers or (maker is not None and maker.op_type == "Constant")
        )

    def _positions(self, nodes: Sequence[onnx.NodeProto]) -> dict[str, int]:
        """Tensor -> when it is made; a node that only feeds a QuantizeLinear is done when that one is."""
        position = {name: i for i, node in enumerate(nodes, 1) for name in node.output}
        for node in reversed(nodes):
            reader = self.graph.only_consumer(node.output[0])
            if reader is not None and reader.op_type == "QuantizeLinear":
                position |= dict.fromkeys(node.output, position[reader.output[0]])
        return position

    def _stored(self, node: onnx.NodeProto, name: str) -> bool:
        reader = self.graph.only_consumer(name)
        fused = node.op_type == "DequantizeLinear" or (reader is not None and reader.op_type == "QuantizeLinear")
        return bool(name) and node.op_type != "Constant" and (not fused or name in self.graph.outputs)

    def sizes(self, name: str) -> Sizes | None:
        """The shape of tensor `name`; None where it is open."""
        return self.shapes[name][0] if name in self.shapes else None

    def _elements(self, name: str) -> int:
        return math.prod(self.shapes[name][0])

    def _bytes(self, name: str) -> int | None:
        if name not in self.shapes:
            return None
        sizes, kind = self.shapes[name]
        return math.prod(sizes) * np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize if kind else None


def _inner(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """All nodes in the bodies of an If, Loop or Scan."""
    return [inner for inner in nodes_within([node]) if inner is not node]


def _own(node: onnx.NodeProto) -> int:
    """Elements of the weights that the bodies of `node` hold themselves."""
    bodies = [body for inner in nodes_within([node]) for a in inner.attribute for body in (a.g, *a.graphs)]
    tensors = [tensor for body in bodies for tensor in body.initializer]
    for inner in _inner(node):
        tensors += [a.t for a in inner.attribute if inner.op_type == "Constant" and a.name == "value"]
    return sum(math.prod(t.dims) for t in tensors if t.dims and t.data_type in FLOATS)


def _read(node: onnx.NodeProto) -> tuple[int, ...]:
    """The inputs with the numbers that an operator on integers computes with; none of another operator."""
    return INTEGERS_READ.get(node.op_type, (0, 3, 8) if node.op_type.startswith("Q") else ())


def _peak(tensors: Mapping[str, tuple[int, int, int | None]]) -> int | None:
    """Largest sum of bytes alive at one time; `tensors`: name -> (born, last use, bytes), both ends included."""
    change: dict[int, int] = {}
    for born, last, count in tensors.values():
        if count is None:
            return None
        change[born] = change.get(born, 0) + count
        change[last + 1] = change.get(last + 1, 0) - count
    alive = most = 0
    for when in sorted(change):
        alive += change[when]
        most = max(most, alive)
    return most
