"""Small ONNX graphs for the tests of the command line, as text; weights are seeded normal numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

CONV_NET = """
<ir_version: 9, opset_import: ["" : 20]>
conv_net (float[N, 3, {size}, {size}] x) => (float[N, 10] y) {{
    c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    n = BatchNormalization (c, scale, shift, mean, var)
    r = Relu (n)
    g = GlobalAveragePool (r)
    f = Flatten (g)
    y = Gemm <transB = 1> (f, v, d)
}}
"""


def model(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """The graph `text` with `weights` as initializers, checked in full."""
    made = onnx.parser.parse_model(text)
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    for node in made.graph.node:
        node.name = node.name or f"{node.op_type}_{node.output[0]}"
    onnx.checker.check_model(made, full_check=True)
    return made


def conv_net(channels: int = 8, size: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Conv, BatchNorm, ReLU, pool, fully connected: x (N, 3, size, size) -> y (N, 10)."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    return model(
        CONV_NET.format(size=size),
        w=normal(channels, 3, 3, 3), b=normal(channels), scale=normal(channels), shift=normal(channels),
        mean=normal(channels), var=np.abs(normal(channels)) + 0.5, v=normal(10, channels), d=normal(10),
    )  # fmt: skip


def save(made: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(made.SerializeToString())
    return path
