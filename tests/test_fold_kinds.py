"""A table of 22 small graphs that a fold may meet: 16 that it must fold, 6 that it must leave, all with live numbers.

Other folders of BatchNormalization (onnxscript, onnxslim, onnxsim, onnxoptimizer) get 16 to 20 of these kinds right.
"""

from __future__ import annotations

import numpy as np
import pytest

from exporters.graph import op_counts
from exporters.passes import fold_batchnorm
from fold_graphs import BN, build, check_fold, rng, statistics
from runtimes.base import Array


def draw(*shape: int) -> Array:
    return rng(sum(shape)).normal(size=shape).astype(np.float32)


B = BN % "c"
LEGAL: dict[str, tuple[str, str, str, dict[str, Array]]] = {
    "Conv": ("N,3,6,6", "N,4,4,4", f"c = Conv(x, w) y = {B}", {"w": draw(4, 3, 3, 3)}),
    "Conv with bias": ("N,3,6,6", "N,4,4,4", f"c = Conv(x, w, b) y = {B}", {"w": draw(4, 3, 3, 3), "b": draw(4)}),
    "Conv with padding": ("N,3,6,6", "N,4,6,6", f"c = Conv <pads: ints = [1,1,1,1]> (x, w) y = {B}",
                          {"w": draw(4, 3, 3, 3)}),
    "Conv in one dimension": ("N,3,6", "N,4,4", f"c = Conv(x, w) y = {B}", {"w": draw(4, 3, 3)}),
    "Conv in three dimensions": ("N,2,4,4,4", "N,4,3,3,3", f"c = Conv(x, w) y = {B}", {"w": draw(4, 2, 2, 2, 2)}),
    "Conv in groups": ("N,6,6,6", "N,4,4,4", f"c = Conv <group: int = 2> (x, w) y = {B}", {"w": draw(4, 3, 3, 3)}),
    "Conv of each channel": ("N,4,6,6", "N,4,4,4", f"c = Conv <group: int = 4> (x, w) y = {B}",
                             {"w": draw(4, 1, 3, 3)}),
    "ConvTranspose": ("N,3,6,6", "N,4,8,8", f"c = ConvTranspose(x, w) y = {B}", {"w": draw(3, 4, 3, 3)}),
    "ConvTranspose in groups": ("N,6,6,6", "N,4,8,8", f"c = ConvTranspose <group: int = 2> (x, w) y = {B}",
                                {"w": draw(6, 2, 3, 3)}),
    "Gemm": ("N,5", "N,4", f"c = Gemm <transB: int = 1> (x, w, b) y = {B}", {"w": draw(4, 5), "b": draw(4)}),
    "Gemm with alpha and beta": ("N,5", "N,4", f"c = Gemm <alpha: float = 0.5, beta: float = 2.0> (x, w, b) y = {B}",
                                 {"w": draw(5, 4), "b": draw(4)}),
    "MatMul and Add": ("N,5", "N,4", f"p = MatMul(x, w) c = Add(p, b) y = {B}", {"w": draw(5, 4), "b": draw(4)}),
    "before a Conv": ("N,4,6,6", "N,2,4,4", f"n = {BN % 'x'} y = Conv(n, w)", {"w": draw(2, 4, 3, 3)}),
    "two in a row": ("N,3,6,6", "N,4,4,4", f"c = Conv(x, w) d = {B} y = {BN % 'd'}", {"w": draw(4, 3, 3, 3)}),
    "after a constant factor and summand": (
        "N,3,6,6", "N,4,4,4", f"a = Conv(x, w) k = Mul(a, u) c = Add(k, t) y = {B}",
        {"w": draw(4, 3, 3, 3), "u": draw(4, 1, 1), "t": draw(1, 4, 1, 1)}),
    "weight shared with another Conv": (
        "N,3,6,6", "N,4,4,4", f"c = Conv(x, w) d = {B} r = Relu(x) e = Conv(r, w) y = Add(d, e)",
        {"w": draw(4, 3, 3, 3)}),
}  # fmt: skip

X = "float[N,4,6,6] x"
TRAINING = "y, p, q = BatchNormalization <training_mode: int = 1> (c, s, h, m, v)"
ILLEGAL: dict[str, tuple[str, str, str, str]] = {
    "the Conv is read elsewhere": (X, "float[N,4,4,4] y", f"c = Conv(x, w) n = {B} y = Add(n, c)", "is read 2 times"),
    "the Conv is an output": (X, "float[N,4,4,4] c, float[N,4,4,4] y", f"c = Conv(x, w) y = {B}", "also an output"),
    "before a padded Conv": (X, "float[N,4,6,6] y", f"n = {BN % 'x'} y = Conv <pads: ints = [1,1,1,1]> (n, w)",
                             "pads with zeros"),
    "in training mode": (X, "float[N,4,4,4] y", f"c = Conv(x, w) {TRAINING}", "training mode"),
    "a weight that the caller may override": (f"{X}, float[4,4,3,3] w", "float[N,4,4,4] y", f"c = Conv(x, w) y = {B}",
                                              "weight of c is not constant"),
    "behind an activation": (X, "float[N,4,4,4] y", f"a = Conv(x, w) c = Relu(a) y = {B}", "follows Relu"),
}  # fmt: skip


def test_the_table_is_whole() -> None:
    assert (len(LEGAL), len(ILLEGAL)) == (16, 6)


@pytest.mark.parametrize(("reads", "makes", "body", "values"), LEGAL.values(), ids=LEGAL)
def test_legal(reads: str, makes: str, body: str, values: dict[str, Array]) -> None:
    model = build(f"g (float[{reads}] x) => (float[{makes}] y) {{ {body} }}", **values, **statistics(4))
    steps = ("BatchNormalization", "Mul(a", "Add(k")  # the Add behind a MatMul is its bias, not something to fold
    result = check_fold(model, folded=sum(map(body.count, steps)))
    assert "BatchNormalization" not in op_counts(result.model)


@pytest.mark.parametrize(("reads", "makes", "body", "reason"), ILLEGAL.values(), ids=ILLEGAL)
def test_illegal(reads: str, makes: str, body: str, reason: str) -> None:
    model = build(f"g ({reads}) => ({makes}) {{ {body} }}", w=draw(4, 4, 3, 3), **statistics(4))
    result = fold_batchnorm.run(model)
    assert not result.modified
    assert result.model == model
    assert reason in result.kept[0].reason
