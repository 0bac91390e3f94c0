"""Float graphs for the tests of the accuracy passes, and works on them."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.quantization.quantize import QuantRecipe, prepare
from exporters.quantization.work import Work, start
from graphs import parse
from runtimes.base import Tensors

CHAIN = """g (float[N,3,12,12] x) => (float[N,5] y) {
    a = Conv <pads: ints = [1,1,1,1]> (x, w1, b1)
    ar = Relu(a)
    p = MaxPool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (ar)
    b = Conv <pads: ints = [1,1,1,1], group = 8> (p, w2, b2)
    br = LeakyRelu <alpha = 0.1> (b)
    c = Conv <group = 2> (br, w3)
    cr = Relu(c)
    q = GlobalAveragePool(cr)
    f = Flatten(q)
    y = Gemm <transB = 1> (f, w4, b4)
}"""
CHAIN_WEIGHTS = {
    "w1": (8, 3, 3, 3),
    "b1": (8,),
    "w2": (8, 1, 3, 3),
    "b2": (8,),
    "w3": (6, 4, 3, 3),
    "w4": (5, 6),
    "b4": (5,),
}


def chain() -> onnx.ModelProto:
    """Conv, ReLU, pool, depthwise conv, LeakyReLU, grouped conv, ReLU, pool, fully connected."""
    return parse(CHAIN, **CHAIN_WEIGHTS)


def images(count: int, shape: tuple[int, ...] = (1, 3, 12, 12), seed: int = 0) -> list[Tensors]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(shape, np.float32)} for _ in range(count)]


def work_on(model: onnx.ModelProto, feeds: list[Tensors], recipe: QuantRecipe | None = None) -> Work:
    return start(prepare(model), recipe or QuantRecipe(), feeds, threads=1)
