"""The operator that a model's answer comes out of, past what only moves or copies numbers.

    ... Gemm -> Sigmoid -> Reshape -> output      ->      Sigmoid: each number is a probability of its own

Test: tests/test_ending.py.
"""

from __future__ import annotations

import onnx

MOVES = frozenset(
    {
        "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast", "QuantizeLinear",
        "DequantizeLinear", "Slice", "Gather", "Expand", "Resize", "Dropout",
    }
)  # fmt: skip
SAME = {"QLinearSigmoid": "Sigmoid", "HardSigmoid": "Sigmoid"}
SIGMOID = "Sigmoid"


def ending_of(model: onnx.ModelProto) -> str:
    """The type of the operator that makes the first output of `model`; empty where none does."""
    makers = {name: node for node in model.graph.node for name in node.output}
    name = model.graph.output[0].name if model.graph.output else ""
    while name in makers:
        node = makers[name]
        if node.op_type not in MOVES:
            return str(SAME.get(node.op_type, node.op_type))
        name = node.input[0] if node.input else ""
    return ""
