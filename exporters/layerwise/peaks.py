"""What this machine can do at best, measured: multiply-adds in float and in int8, and bytes copied, per second.

    fp32      the faster of  MatMul (512,1024)(1024,1024)                Conv 3x3, 128 -> 128 at 28x28
    int8      the faster of  MatMulInteger u8 x s8, the same sizes       QLinearConv u8 x s8, the same, channels last
    memory    copy of an array that no cache holds, on all threads       bytes read + bytes written
    cache     copy of 128 kB, one thread times the number of threads

The kernels are ONNX Runtime's own, so that a share of the peak compares a layer with the same library at its best. Each
is the fastest of many runs: what others do on the machine makes a run slower, never faster. The roofs limit a kernel of
intensity i MACs a byte to min(peak, i x bandwidth). Source: Williams, Waterman & Patterson 2009, "Roofline".
Test: tests/test_peaks.py.
"""

from __future__ import annotations

import concurrent.futures
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from runtimes.session import open_session, random_feeds

ROWS, DEPTH, COLUMNS = 512, 1024, 1024
CHANNELS, SIDE, WINDOW = 128, 28, 3
MEMORY_BYTES, CACHE_BYTES = 2**27, 2**17
SECONDS = 0.25
_HEAD = '<ir_version: 9, opset_import: ["": 18, "com.microsoft": 1]> peak '
_FLOAT_CONV = """(float[1,{c},{s},{s}] x) => (float[1,{c},{s},{s}] y) {{
    y = Conv <pads: ints = [1,1,1,1]> (x, w)
}}"""
_FLOAT_MATMUL = "(float[{m},{k}] x) => (float[{m},{n}] y) {{ y = MatMul (x, w) }}"
_INT8_MATMUL = "(uint8[{m},{k}] x) => (int32[{m},{n}] y) {{ y = MatMulInteger (x, w) }}"
_INT8_CONV = """(uint8[1,{s},{s},{c}] x) => (uint8[1,{s},{s},{c}] y)
<float s = {{0.02}}, uint8 z = {{128}}, float ws = {{0.01}}, int8 wz = {{0}}, float ys = {{1.0}}> {{
    y = com.microsoft.QLinearConv <pads: ints = [1,1,1,1], channels_last: int = 1> (x, s, z, w, ws, wz, ys, z)
}}"""


@dataclass(frozen=True)
class Peaks:
    """G = 10**9 a second: multiply-adds (`fp32_gmacs`, `int8_gmacs`), bytes read and written. On `threads` threads."""

    threads: int
    fp32_gmacs: float
    int8_gmacs: float
    memory_gb_s: float
    cache_gb_s: float

    def gmacs(self, integer: bool) -> float:
        """The peak for kernels on bytes, or on floats."""
        return self.int8_gmacs if integer else self.fp32_gmacs

    def best(self, other: Peaks) -> Peaks:
        """The better of two measurements, number by number."""
        numbers = (max(a, b) for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True))
        return Peaks(self.threads, *list(numbers)[1:])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_peaks(threads: int = 1, seconds: float = SECONDS) -> Peaks:
    """Measure this machine, `seconds` for each of six numbers."""
    macs = {"conv": CHANNELS**2 * WINDOW**2 * SIDE**2, "matmul": ROWS * DEPTH * COLUMNS}
    best = {
        name: macs[name.partition(" ")[0]] / _fastest(_call(model, threads), seconds) / 1e9
        for name, model in candidates().items()
    }
    fp32, int8 = (max(rate for name, rate in best.items() if name.endswith(kind)) for kind in ("fp32", "int8"))
    memory = 2 * MEMORY_BYTES / _fastest(_copy(MEMORY_BYTES, threads), seconds) / 1e9
    cache = 2 * CACHE_BYTES / _fastest(_copy(CACHE_BYTES, 1), seconds) / 1e9
    return Peaks(threads, fp32, int8, memory, max(memory, cache * threads))


def candidates() -> dict[str, onnx.ModelProto]:
    """The four graphs that are timed, with seeded weights: kernel and numbers -> model."""
    conv, product = (CHANNELS, CHANNELS, WINDOW, WINDOW), (DEPTH, COLUMNS)
    return {
        "matmul fp32": _model(_FLOAT_MATMUL, product, "float32"),
        "conv fp32": _model(_FLOAT_CONV, conv, "float32"),
        "matmul int8": _model(_INT8_MATMUL, product, "int8"),
        "conv int8": _model(_INT8_CONV, conv, "int8"),
    }


def _model(text: str, shape: tuple[int, ...], dtype: str) -> onnx.ModelProto:
    model = parser.parse_model(_HEAD + text.format(m=ROWS, k=DEPTH, n=COLUMNS, c=CHANNELS, s=SIDE))
    weights = np.random.default_rng(0).integers(-63, 64, shape).astype(dtype)
    model.graph.initializer.append(numpy_helper.from_array(weights / 64 if dtype == "float32" else weights, "w"))
    return model


def _call(model: onnx.ModelProto, threads: int) -> Callable[[], object]:
    session = open_session(model, "cpu", threads)
    feeds = random_feeds(session.inputs)
    return lambda: session(feeds)


def _copy(size: int, threads: int) -> Callable[[], object]:
    """Copies `size` bytes, an equal part in each thread; numpy lets go of the interpreter's lock meanwhile."""
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    if threads == 1:
        return lambda: np.copyto(target, source)
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    return lambda: list(pool.map(lambda part: np.copyto(*part), parts))


def _fastest(call: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of at least three calls in about `seconds`."""
    call()
    best, begin = math.inf, time.perf_counter()
    for count in range(1_000_000):
        before = time.perf_counter()
        if count >= 3 and before - begin > seconds:
            break
        call()
        best = min(best, time.perf_counter() - before)
    return best
