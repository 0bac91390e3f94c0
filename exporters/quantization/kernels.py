"""Which operators have an integer kernel in ONNX Runtime's CPU provider, and under which conditions on the node.

    compute     Conv, Gemm, MatMul with constant weights        a grid of their own behind them, perhaps a ReLU inside
    followers   Add, Mul, Concat, pools, Sigmoid ...            integer when what they read is
    carriers    MaxPool, Reshape, Resize to the nearest ...     move integers, or cut them off (Relu, Clip): same grid
    maxima      Max(x, s x) with s <= 1, a leaky ReLU           the larger of two integers of one grid

Source: ONNX Runtime, `docs/OperatorKernels.md` and its QDQ selectors. Test: tests/test_placement.py.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from exporters.frozen import REMEDY
from exporters.graph import Graph, attributes, is_standard
from exporters.shape_inference import tensor_types
from runtimes.base import Array

COMPUTE = ("Conv", "Gemm", "MatMul")
LAYERS = (*COMPUTE, "ConvTranspose")
HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
FLOAT_OUTPUT = ("Gemm", "MatMul")
FOLLOWERS = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid")
CARRIERS = (
    "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Resize",
    "DepthToSpace", "SpaceToDepth", "Pad",
)  # fmt: skip
CUTTERS = ("Relu", "Clip")
HARD = ("HardSwish", "HardSigmoid")
NO_KERNEL = {
    "ConvTranspose": "ConvTranspose has no int8 kernel in ONNX Runtime's CPU provider",
    "MaxUnpool": "MaxUnpool has no int8 kernel in ONNX Runtime",
    "BatchNormalization": "a BatchNormalization that could not be folded has no int8 kernel",
    **{op: f"edgecnn makes no int8 {op}" for op in ("LSTM", "GRU", "RNN")},
}
DILATED = "an AveragePool with dilations has no int8 kernel in ONNX Runtime"
SHAPE_OPS = frozenset(["Shape", "Constant", "Identity", "Cast", "ConstantOfShape", "Range", "Size"])


def layers_in_half(model: onnx.ModelProto) -> tuple[int, int]:
    """(layers of `model` that compute in float16 or bfloat16, all layers)."""
    names = [node.input[1] for node in model.graph.node if any(is_standard(node, op) for op in LAYERS)]
    types = tensor_types(model) if names else {}
    half = [name for name in names if name in types and types[name].elem_type in HALF]
    return len(half), len(names)


def why_not_compute(graph: Graph, node: onnx.NodeProto) -> str | None:
    """Reason why a Conv, Gemm or MatMul cannot be an integer kernel, or None when it can."""
    weight = graph.constant(node.input[1])
    if weight is None:
        return f"the weights of this {node.op_type} are {_not_constant(graph, node.input[1])}"
    if weight.dtype != np.float32:
        return f"the weights are {weight.dtype}, not float32"
    if graph.constant(node.input[0]) is not None:
        return "its input is constant"
    if never_on_a_grid(graph, node.input[0]):
        return f"it reads what stays float: {DILATED}"
    if node.op_type == "MatMul":
        return None if weight.ndim == 2 else f"its weight has rank {weight.ndim}, not 2"
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(0, np.float32)
    if bias is None:
        return f"its bias is {_not_constant(graph, node.input[2])}"
    if node.op_type == "Gemm":
        return _why_not_gemm(node, weight, bias)
    return None


def channel_axis(node: onnx.NodeProto) -> int:
    """Axis of a weight's output channels: Conv (O, I/g, k...) 0; Gemm (O, I) with transB 0, else 1; MatMul (I, O) 1."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and attributes(node).get("transB", 0) else 1


def _not_constant(graph: Graph, name: str) -> str:
    default = name in graph.inputs and name in graph.initializers
    return f"an input that a caller may override; {REMEDY}" if default else "not constant"


def _why_not_gemm(node: onnx.NodeProto, weight: Array, bias: Array) -> str | None:
    a = attributes(node)
    if a.get("transA", 0) or a.get("alpha", 1.0) != 1.0 or (bias.size and a.get("beta", 1.0) != 1.0):
        return "an integer Gemm takes alpha = beta = 1 and no transposed input"
    channels = weight.shape[0 if a.get("transB", 0) else 1]
    return None if bias.size in (0, channels) else f"its bias has {bias.size} values for {channels} outputs"


def activated_output(graph: Graph, node: onnx.NodeProto) -> str:
    """Output of `node`, or of the ReLU or Clip that is its only reader and that a grid from zero can stand for."""
    after = graph.only_consumer(node.output[0])
    if after is None or node.op_type in CARRIERS + CUTTERS + HARD:
        return str(node.output[0])
    ends = cut(graph, after)
    return str(after.output[0]) if ends is not None and ends[0] <= 0.0 <= ends[1] else str(node.output[0])


def cut(graph: Graph, node: onnx.NodeProto) -> tuple[float, float] | None:
    """The (lowest, highest) value that a ReLU or Clip lets through; None for other nodes and for ends not constant."""
    if is_standard(node, "Relu"):
        return 0.0, float("inf")
    if not is_standard(node, "Clip"):
        return None
    a = attributes(node)
    ends = [float(a.get("min", -np.inf)), float(a.get("max", np.inf))]
    for i, name in enumerate(node.input[1:3]):
        if name:
            value = graph.constant(name)
            if value is None or value.size != 1:
                return None
            ends[i] = float(value.reshape(()))
    return (ends[0], ends[1]) if ends[0] <= ends[1] else None


def larger_of(graph: Graph, node: onnx.NodeProto) -> tuple[str, str] | None:
    """(x, s x) where `node` is the Max of these two, s constant and at most 1, and alone reads s x; else None.

    It is never less than x: integers of both on one grid that reaches as far as it does are enough.
    """
    if not is_standard(node, "Max") or len(node.input) != 2:
        return None
    for x, product in (tuple(node.input), tuple(node.input)[::-1]):
        maker = graph.producer.get(product)
        if maker is not None and is_standard(maker, "Mul") and graph.only_consumer(product) is node:
            factors = [graph.constant(name) for name in maker.input if name != x]
            if len(factors) == 1 and factors[0] is not None and (factors[0] <= 1).all():
                return x, product
    return None


def moving_inputs(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """Inputs of a follower or carrier that hold activations: the first of a carrier, all of an Add, Mul or Concat."""
    larger = larger_of(graph, node)
    if larger is not None:
        return list(larger)
    names = list(node.input[:1]) if node.op_type not in ("Add", "Mul", "Concat") else list(node.input)
    return names if any(graph.constant(name) is None for name in names) else []


def carried_outputs(node: onnx.NodeProto) -> list[str]:
    """Outputs of a carrier that hold its input's values: all of a Split, not the indices of a MaxPool."""
    return [name for name in (node.output if node.op_type == "Split" else node.output[:1]) if name]


def why_not_carried(graph: Graph, node: onnx.NodeProto) -> str:
    """Why values of `node` may leave the range of its input, or be on no grid; empty for any other node."""
    if node.op_type == "AveragePool" and set(attributes(node).get("dilations", ())) - {1}:
        return DILATED
    mode = attributes(node).get("mode", b"nearest") if node.op_type == "Resize" else b"nearest"
    if mode == b"cubic":
        return "cubic interpolation leaves the range of its input, and has no int8 kernel"
    if mode != b"nearest":
        return "between pixels the int8 kernel cuts off where it should round, and is slower than the float one"
    if node.op_type == "Pad" and attributes(node).get("mode", b"constant") == b"constant":
        value = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        if "pads" in attributes(node) or value is None or value.any():  # opset 10 and older have attributes
            return "it pads with something else than a constant zero"
    return ""


def never_on_a_grid(graph: Graph, name: str) -> bool:
    """Whether tensor `name` is what a pool with dilations makes, cut off or not: between grids it would be fused."""
    maker = graph.producer.get(name)
    if maker is not None and is_standard(maker, "AveragePool"):
        return bool(why_not_carried(graph, maker))
    return maker is not None and maker.op_type in CUTTERS and never_on_a_grid(graph, maker.input[0])


def is_plain_hard(node: onnx.NodeProto) -> bool:
    """HardSwish, or the HardSigmoid of its kind: clip(x + 3, 0, 6) / 6."""
    a = attributes(node)
    sixth = abs(a.get("alpha", 0.2) - 1 / 6) < 1e-4 and abs(a.get("beta", 0.5) - 0.5) < 1e-6
    return is_standard(node, "HardSwish") or (is_standard(node, "HardSigmoid") and sixth)


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
