"""Small graphs as text, with seeded weights, for the tests of placement, pairs, choice and packing."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

HEAD = '<ir_version: 10, opset_import: ["": 20]> '


def parse(text: str, **constants: tuple[int, ...]) -> onnx.ModelProto:
    """`text` with seeded float32 initializers of the given shapes; node names are their output names."""
    model = onnx.parser.parse_model(HEAD + text)
    rng = np.random.default_rng(0)
    for name, shape in constants.items():
        value = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.checker.check_model(model, full_check=True)
    return model


CONV_RELU_CONV = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
    a = Conv <pads: ints = [1,1,1,1]> (x, w1, b1)
    r = Relu(a)
    y = Conv <pads: ints = [1,1,1,1]> (r, w2)
}"""
WEIGHTS = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3)}
