"""Graphs for the tests of the fold: text to a model, seeded statistics, ONNX Runtime as it is, and one check for all.

Limits. A float32 network of these sizes carries 110 to 135 dB of its own rounding noise; a wrong fold (a sign, an
epsilon, a transposed group) leaves less than 60 dB. 100 dB is between the two, with room on both sides.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, parser

from exporters.base import PassResult
from exporters.passes import fold_batchnorm
from runtimes.base import Array

SNR_LIMIT_DB = 100.0


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


CONV = rng(9).normal(size=(4, 3, 3, 3)).astype(np.float32)
SQUARE = rng(8).normal(size=(4, 4, 1, 1)).astype(np.float32)
BN = "BatchNormalization(%s, s, h, m, v)"
PLAIN = "g (float[N,4,6,6] x) => (float[N,4,6,6] y) { c = Conv(x, w) y = BatchNormalization(c, s, h, m, v) }"


def build(text: str, **values: Array) -> onnx.ModelProto:
    """A model from onnx.parser's text, `values` as its initializers."""
    if not text.lstrip().startswith("<"):
        text = '<ir_version: 8, opset_import: ["" : 17]>\n' + text
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in values.items())
    return model


def statistics(channels: int, dtype: str = "float32", seed: int = 1) -> dict[str, Array]:
    r = rng(seed)
    draws = {"s": r.uniform(0.2, 2, channels), "h": r.normal(size=channels), "m": r.normal(size=channels)}
    signs = {"s": np.where(np.arange(channels) % 3 == 1, -1, 1) * draws["s"]}
    return {k: v.astype(dtype) for k, v in {**draws, **signs, "v": r.uniform(0.1, 3, channels)}.items()}


def execute(model: onnx.ModelProto, seed: int = 5, **feeds: Array) -> list[Array]:
    """Outputs at ORT_DISABLE_ALL, where ONNX Runtime folds nothing itself; symbolic sizes are 2."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # overridable weights are meant
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for value in session.get_inputs():
        shape = [d if isinstance(d, int) else 2 for d in value.shape]
        dtype = {"tensor(double)": "float64", "tensor(float16)": "float16"}.get(value.type, "float32")
        feeds.setdefault(value.name, rng(seed).normal(size=shape).astype(dtype))
    return list(session.run(None, feeds))


def snr_db(reference: Array, candidate: Array) -> float:
    noise = np.square(reference.astype(np.float64) - candidate).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise))


def check_fold(model: onnx.ModelProto, folded: int, kept: int = 0, limit_db: float = SNR_LIMIT_DB) -> PassResult:
    """Run the pass; the numbers must be `folded` and `kept`, the argument untouched, every output equal."""
    before = model.SerializeToString(deterministic=True)
    onnx.checker.check_model(model, full_check=True)
    result = fold_batchnorm.run(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert model.SerializeToString(deterministic=True) == before
    assert (len(result.changes), len(result.kept)) == (folded, kept), result.kept
    assert result.modified == bool(folded)
    assert [o.name for o in result.model.graph.output] == [o.name for o in model.graph.output]
    for a, b in zip(execute(model), execute(result.model), strict=True):
        assert snr_db(a, b) >= limit_db
    assert not fold_batchnorm.run(result.model).modified
    return result
