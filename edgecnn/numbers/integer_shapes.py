"""ONNX Runtime's own integer operators as the standard's, so that onnx can infer the shapes behind them.

    com.microsoft QGemm(A, a_scale, a_zero, B, ...)  ->  Gemm(A, B)          the shape of the result is the same

onnx knows no operator of that domain: after the first one no shape was known, and nothing behind it was counted. Only
for shapes: what such a graph would compute is nothing. Source: ContribOperators.md of ONNX Runtime.
Test: tests/test_inspect.py.
"""

from __future__ import annotations

import onnx

DOMAIN = "com.microsoft"
STANDARD = {
    "QGemm": ("Gemm", (0, 3)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearWhere": ("Where", (0, 1, 4)),
    "QLinearSigmoid": ("Identity", (0,)),
    "QLinearLeakyRelu": ("Identity", (0,)),
    "QLinearSoftmax": ("Identity", (0,)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearConcat": ("Concat", ()),
}
"""Operator -> (its counterpart, which of its inputs that one reads). Of a Concat, every third from the third on."""


def with_standard_operators(model: onnx.ModelProto) -> None:
    """Every node of `model` that `STANDARD` lists becomes its counterpart (edited in place); channels last has none."""
    for node in model.graph.node:
        if node.domain == DOMAIN and node.op_type in STANDARD and not _channels_last(node):
            _replace(node)


def _replace(node: onnx.NodeProto) -> None:
    name, places = STANDARD[node.op_type]
    inputs = list(node.input[2::3]) if name == "Concat" else [node.input[i] for i in places if i < len(node.input)]
    node.op_type, node.domain, node.input[:] = name, "", inputs


def _channels_last(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "channels_last" and attribute.i for attribute in node.attribute)
