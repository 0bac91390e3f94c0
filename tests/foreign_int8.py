"""Networks that ONNX Runtime's own quantizer made int8, for tests of what is said about other tools' files."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from runtimes.base import Tensors
from small_nets import model

ENDS = "{y}_low = Constant <value = float {{0}}> () {y}_high = Constant <value = float {{6}}> () "
ACTIVATIONS = {"relu": "{y} = Relu ({x})", "relu6": ENDS + "{y} = Clip ({x}, {y}_low, {y}_high)", "none": ""}
NET = """
<ir_version: 9, opset_import: ["" : 20]>
small (float[N, 3, 12, 12] x) => (float[N, 10] y) {{
    c1 = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    {first}
    p1 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> ({end1})
    c2 = Conv <pads = [1, 1, 1, 1]> (p1, w2, b2)
    {second}
    p2 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> ({end2})
    f = Flatten (p2)
    y = Gemm <transB = 1> (f, v, d)
}}
"""


def float_net(activation: str) -> onnx.ModelProto:
    """Conv, activation, pool, twice, then fully connected; half of what the activations read is negative."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(6 / np.prod(shape[1:])))

    lines = [ACTIVATIONS[activation].format(x=f"c{i}", y=f"a{i}") for i in (1, 2)]
    ends = ["c1", "c2"] if activation == "none" else ["a1", "a2"]
    return model(
        NET.format(first=lines[0], second=lines[1], end1=ends[0], end2=ends[1]),
        w1=normal(16, 3, 3, 3), b1=np.zeros(16, np.float32), w2=normal(16, 16, 3, 3), b2=np.zeros(16, np.float32),
        v=normal(10, 144), d=np.zeros(10, np.float32),
    )  # fmt: skip


def images(count: int = 4, seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(count)]


class Reader(CalibrationDataReader):
    def __init__(self, feeds: Sequence[Tensors]) -> None:
        self.feeds: Iterator[Tensors] = iter(feeds)

    def get_next(self) -> Tensors | None:
        return next(self.feeds, None)


def quantized(net: onnx.ModelProto, form: str, *, reduce_range: bool = True, **options: Any) -> onnx.ModelProto:
    """`net` as ONNX Runtime's quantizer writes it in `form` (QDQ or QOperator): U8S8 per channel."""
    logging.disable(logging.WARNING)  # it tells to preprocess first, which these networks do not need
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            onnx.save(net, source)
            settings = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
            quantize_static(
                source, target, Reader(images(16)), quant_format=QuantFormat[form], reduce_range=reduce_range,
                **(settings | options),
            )  # fmt: skip
            return onnx.load(target)
    finally:
        logging.disable(logging.NOTSET)
