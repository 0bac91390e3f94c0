"""exporters/fold/constants.py: numbers that a graph computes from constants, and BatchNormalization in pieces.

The oracle of the arithmetic is onnx's reference evaluator, run on the constant part alone.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exporters.fold import constants
from exporters.fold.constants import number
from exporters.fold.scope import Scope
from exporters.graph import op_counts
from exporters.passes import fold_batchnorm
from fold_graphs import SQUARE, build, check_fold, execute, rng, snr_db, statistics
from runtimes.base import Array

EXPRESSIONS = {
    "arithmetic": "a = Add(v, e) b = Sqrt(a) c = Reciprocal(b) d = Mul(c, s) y = Neg(d)",
    "quotient": "a = Add(v, e) b = Sqrt(a) y = Div(s, b)",
    "difference": "a = Mul(m, s) y = Sub(h, a)",
    "power -1/2": "a = Add(v, e) y = Pow(a, minus_half)",
    "power 2": "y = Pow(m, two)",
    "unsqueeze": "a = Add(v, e) y = Unsqueeze(a, axes)",
    "squeeze": "a = Unsqueeze(v, axes) y = Squeeze(a, axes)",
    "reshape": "a = Neg(v) y = Reshape(a, shape)",
    "reshape that keeps a size": "a = Neg(v) y = Reshape(a, keeps)",
    "transpose": "a = Unsqueeze(v, axes) y = Transpose(a)",
    "broadcast": "a = Unsqueeze(v, axes) y = Mul(a, s)",
    "cast": "a = Mul(v, s) b = Cast <to: int = 10> (a) y = Cast <to: int = 1> (b)",
}
EXPRESSIONS |= {
    "expand": "a = Neg(e) y = Expand(a, sizes)",
    "expand to the shape of a constant": "n = Shape(v) y = Expand(e, n)",
    "expand to a part of a shape": "n = Shape <start: int = 1, end: int = 3> (w) y = Expand(e, n)",
    "cast like": "a = Mul(v, s) y = CastLike(a, x)",
    "cast like half": "h16 = Cast <to: int = 10> (x) a = CastLike(v, h16) y = Cast <to: int = 1> (a)",
}
VALUES = {"e": np.float32(1e-3), "minus_half": np.float32(-0.5), "two": np.float32(2), "axes": np.array([1, 2]),
          "shape": np.array([2, -1]), "keeps": np.array([0, 1, 1]),
          "sizes": np.array([2, 1]), "w": np.zeros((5, 3, 2, 2), np.float32)}  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_expressions_equal_the_reference(text: str) -> None:
    model = build(f"g (float[1] x) => (float[a] y) {{ {text} }}", **VALUES, **statistics(4))
    (truth,) = ReferenceEvaluator(model).run(None, {"x": np.zeros(1, np.float32)})
    found = number(Scope(model, model.graph), "y")
    assert found is not None
    assert found.near.value.shape == truth.shape
    np.testing.assert_allclose(found.near.value, truth, rtol=2e-3 if "to: int = 10" in text else 1e-6)
    assert (found.near.error <= 1e-14 * np.abs(found.near.value)).all() or "cast" in text.lower()


NO_NUMBER = {
    "an input": "y = Neg(x)",
    "a whole number": "y = Neg(k)",
    "not finite": "a = Sub(v, v) y = Reciprocal(a)",
    "not finite in float32": "a = Mul(big, big) b = Sqrt(a) y = Neg(b)",
    "zero in float32": "a = Mul(small, small) y = Sqrt(a)",
    "another power": "y = Pow(v, third)",
    "several powers": "y = Pow(v, powers)",
    "a power of more dimensions": "y = Pow(v, deep)",
    "an operator that is not arithmetic": "y = Exp(v)",
    "an operator of somebody else": "y = com.example.Neg(v)",
    "sizes that do not meet": "y = Add(v, three)",
    "too large": "a = Unsqueeze(long, one) y = Mul(a, long)",
    "expanded too large": "y = Expand(e, huge)",
    "sizes that are not constant": "n = Shape(x) y = Expand(e, n)",
    "cast like a whole number": "a = Cast <to: int = 7> (x) b = CastLike(v, a) y = CastLike(b, x)",
    "a cast to whole numbers": "a = Cast <to: int = 7> (v) y = Cast <to: int = 1> (a)",
}


@pytest.mark.parametrize("text", NO_NUMBER.values(), ids=NO_NUMBER)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_no_number(text: str) -> None:
    more = {"k": np.array(3), "big": np.float32(1e30), "small": np.float32(1e-30), "third": np.float32(1 / 3),
            "three": np.ones(3, np.float32), "long": np.ones(2000, np.float32), "one": np.array([1]),
            "powers": np.float32([2, -0.5, 2, 2]), "deep": np.float32([[2]]),
            "e": np.float32(1), "huge": np.array([1 << 30])}  # fmt: skip
    head = '<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>\n'
    model = build(head + f"g (float[4] x) => (float[a] y) {{ {text} }}", **more, **statistics(4))
    assert number(Scope(model, model.graph), "y") is None


def test_a_thousand_doublings_cost_nothing() -> None:
    """Each value is read twice by the next one: followed without memory that is 2^1000 visits."""
    model = build("g (float[4] x) => (float[4] y) { y = Mul(x, v) }", **statistics(4))
    nodes = [helper.make_node("Add", [f"n{i}", f"n{i}"], [f"n{i + 1}"]) for i in range(1000)]
    nodes[0].input[:] = ["v", "v"]
    model.graph.node.extend(nodes)
    assert number(Scope(model, model.graph), "n1000") is None
    assert number(Scope(model, model.graph), "n20") is not None
    assert constants.DEPTH < 1000


# --------------------------------------------------------------------------------------- parameters in every clothing
def test_half_precision_weights_behind_a_cast() -> None:
    text = """g (float[N,4,6,6] x) => (float[N,4,6,6] y) { w = Cast <to: int = 1> (w16) v = Cast <to: int = 1> (v16)
        c = Conv(x, w) y = BatchNormalization(c, s, h, m, v) }"""
    stats = statistics(4)
    model = build(text, w16=SQUARE.astype(np.float16), **stats, v16=stats.pop("v").astype(np.float16))
    result = check_fold(drop(model, "v"), folded=1)
    assert op_counts(result.model) == {"Conv": 1}
    assert {t.data_type for t in result.model.graph.initializer} == {onnx.TensorProto.FLOAT}


UNOPTIMIZED = """g (float[N,4,6,6] x) => (float[N,4,6,6] y) {
    n = Shape <start: int = 0, end: int = 1> (w) n1 = Expand(n, one) z = CastLike(zero, x) b = Expand(z, n1)
    c = Conv(x, w, b) y = BatchNormalization(c, s, h, m, v) }"""


def test_the_bias_that_pytorch_writes_when_it_may_not_optimize() -> None:
    zero, one = np.float32(0), np.array([1])
    result = check_fold(build(UNOPTIMIZED, w=SQUARE, zero=zero, one=one, **statistics(4)), folded=1)
    assert op_counts(result.model) == {"Conv": 1}
    assert not {"zero", "one"} & {t.name for t in result.model.graph.initializer}, "nobody reads them any more"


def test_a_type_that_cannot_be_told_is_no_constant() -> None:
    body = "q = com.example.Thing(x) z = CastLike(zero, q) b = Expand(z, one) c = Conv(x, w, b)"
    head = '<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>\n'
    text = f"{head}g (float[N,4,6,6] x) => (float[N,4,6,6] y) {{ {body} y = BatchNormalization(c, s, h, m, v) }}"
    result = fold_batchnorm.run(build(text, w=SQUARE, zero=np.float32(0), one=np.array([4]), **statistics(4)))
    assert not result.modified
    assert "the bias of c is not constant" in result.kept[0].reason


def test_an_expand_without_bounds_is_not_carried_out() -> None:
    model = build("g (float[4] x) => (float[a] y) { y = Expand(e, huge) }", e=np.float32(1), huge=np.array([1 << 40]))
    assert constants.weight(Scope(model, model.graph), "y") is None


def drop(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    kept = [t for t in model.graph.initializer if t.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def test_statistics_in_another_type_than_the_activations() -> None:
    """BatchNormalization-15 lets scale and shift, and mean and variance, have their own types."""
    stats = statistics(4, "float64") | {k: v.astype(np.float32) for k, v in statistics(4).items() if k in "sh"}
    text = "g (float16[N,4,6,6] x) => (float16[N,4,6,6] y) { c = Conv(x, w) y = BatchNormalization(c, s, h, m, v) }"
    model = build(text, w=SQUARE.astype(np.float16), **stats)
    result = fold_batchnorm.run(model)
    assert len(result.changes) == 1
    assert {t.data_type for t in result.model.graph.initializer} == {onnx.TensorProto.FLOAT16}
    x = rng(5).normal(size=(2, 4, 6, 6)).astype(np.float16)
    truth = formula(x, SQUARE.astype(np.float16), {k: v.astype(np.float64) for k, v in stats.items()})
    (found,) = ReferenceEvaluator(result.model).run(None, {"x": x})
    assert snr_db(truth, found) >= 55, "11 bits are 66 dB, and each of five roundings takes a little"


def formula(x: Array, weight: Array, stats: dict[str, Array]) -> Array:
    """Conv 1x1, then BatchNormalization, in float64."""
    y = np.einsum("nihw,oi->nohw", x.astype(np.float64), weight[:, :, 0, 0].astype(np.float64))
    s, h, m, v = (stats[k].reshape(-1, 1, 1) for k in "shmv")
    return np.asarray(s * (y - m) / np.sqrt(v + np.float64(np.float32(1e-5))) + h)


def test_bfloat16() -> None:
    """No oracle here computes with bfloat16: its parameters, read as float64, must be the folded ones but for 2^-8."""
    bfloat16 = np.dtype(helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16))
    stats = {k: v.astype(bfloat16) for k, v in statistics(4).items()}
    text = "g (bfloat16[N,4,6,6] x) => (bfloat16[N,4,6,6] y) { c = Conv(x, w) y = BatchNormalization(c, s, h, m, v) }"
    result = fold_batchnorm.run(build(text, w=SQUARE.astype(bfloat16), **stats))
    (change,) = result.changes
    assert 2.0**-8 <= change.bound <= 1.01 * 2.0**-8
    found = {t.name: numpy_helper.to_array(t) for t in result.model.graph.initializer}
    s, h, m, v = (stats[k].astype(np.float64) for k in "shmv")
    gain = s / np.sqrt(v + np.float64(np.float32(1e-5)))
    assert found["w"].dtype == bfloat16
    np.testing.assert_allclose(
        found["w"].astype(np.float64),
        gain[:, None, None, None] * SQUARE.astype(bfloat16).astype(np.float64),
        rtol=2**-8,
    )
    bias = next(value for name, value in found.items() if name != "w").astype(np.float64)
    np.testing.assert_allclose(bias, h - gain * m, rtol=2**-8)


# -------------------------------------------------------------------------------------- BatchNormalization in pieces
SPELLINGS = {
    "divided by a root": "a = Add(v, e) r = Sqrt(a) d = Sub(c, m) q = Div(d, r) p = Mul(q, s) y = Add(p, h)",
    "times a reciprocal": """a = Add(v, e) r = Sqrt(a) i = Reciprocal(r)
                             d = Sub(c, m) q = Mul(i, d) p = Mul(s, q) y = Add(h, p)""",
    "times a power": "a = Add(v, e) r = Pow(a, minus_half) d = Sub(c, m) q = Mul(d, r) p = Mul(q, s) y = Add(p, h)",
    "factor first": "a = Add(v, e) r = Sqrt(a) g = Div(s, r) k = Mul(m, g) t = Sub(h, k) p = Mul(c, g) y = Add(p, t)",
}  # fmt: skip


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("flat", [False, True])
def test_batchnorm_in_pieces_equals_pytorch(text: str, flat: bool) -> None:
    """Parameters as (C, 1, 1), or as (C) that an Unsqueeze makes so."""
    stats = {k: v if flat else v.reshape(-1, 1, 1) for k, v in statistics(4).items()}
    wide = "".join(f"{k} = Unsqueeze({k}0, axes) " for k in "shmv") if flat else ""
    values = {f"{k}0" if flat else k: v for k, v in stats.items()} | {"axes": np.array([1, 2])}
    more = {"e": np.float32(1e-3), "minus_half": np.float32(-0.5), "w": SQUARE}
    model = build(f"g (float[N,4,6,6] x) => (float[N,4,6,6] y) {{ {wide} c = Conv(x, w) {text} }}", **values, **more)
    result = check_fold(model, folded=2 if "factor" in text or "g = Div" in text else 4)
    assert op_counts(result.model) == {"Conv": 1}
    assert not {"s", "s0", "v", "v0"} & {t.name for t in result.model.graph.initializer}, "nobody reads them any more"
    x = torch.from_numpy(rng(5).normal(size=(2, 4, 6, 6)).astype(np.float32)).double()
    s, h, m, v = (torch.from_numpy(stats[k].reshape(-1)).double() for k in "shmv")
    y = torch.nn.functional.conv2d(x, torch.from_numpy(SQUARE).double())
    truth = torch.nn.functional.batch_norm(y, m, v, s, h, eps=float(np.float32(1e-3)))
    assert snr_db(truth.numpy(), execute(result.model)[0]) >= 100
