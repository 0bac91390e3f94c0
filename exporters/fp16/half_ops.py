"""Which operators compute in float16 as they should, and why the others do not.

A step of float16 is 1/1024 of a value: half a pixel at coordinate 1,000. Its largest value is 65,504.
Source: ONNX Runtime, `docs/OperatorKernels.md`, CUDA provider. Test: tests/test_half.py.
"""

from __future__ import annotations

COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
CAPABLE = frozenset([
    *COMPUTE, "BatchNormalization", "InstanceNormalization", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Clip",
    "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sum", "Sqrt",
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "Concat", "Reshape",
    "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Pad", "Resize", "DepthToSpace",
    "SpaceToDepth", "Expand", "Tile", "Identity", "Where", "Dropout",
])  # fmt: skip
"""What has a float16 kernel in ONNX Runtime's CUDA provider and computes in it what it should."""
REASONS = {
    "Softmax": "probabilities sum to 1 in float32 only",
    "LogSoftmax": "logarithms of small probabilities need float32",
    "NonMaxSuppression": "boxes are compared in float32: a step of float16 is half a pixel at 1,000",
    "RoiAlign": "coordinates need float32: a step of float16 is half a pixel at 1,000",
    "LRN": "sums of squares leave the range of float16",
    "Exp": "exponentials leave the range of float16",
    "Pow": "powers leave the range of float16",
}
TAIL = "boxes and scores are decoded in float32: a step of float16 is half a pixel at 1,000"
ALONE = "no neighbour in float16: two casts cost more than they save"
UNTYPED = "the type of a tensor next to it is not known"
ALL_INPUTS = ("BatchNormalization",)
"""The CUDA kernel wants all of these of one type, though the standard lets them differ."""
SILENT = frozenset(["Cast", "Constant", "Shape", "Size"])
