"""exporters/fold/{near,affine_chain,absorb}.py against exact fractions and against numbers worked out by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.fold import absorb as absorb_module
from exporters.fold.absorb import Misfit, absorb, precision
from exporters.fold.affine_chain import IDENTITY, Affine, batchnorm, compose, scaling, shifting
from exporters.fold.near import Near, exact
from fold_graphs import rng
from runtimes.base import Array

ONE = np.ones(1)


def affine(slope: Array | float, shift: Array | float) -> Affine:
    return scaling(exact(np.atleast_1d(slope))).then(shifting(exact(np.atleast_1d(shift))))


# ----------------------------------------------------------------------------------------- numbers with their error
finite = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-6)
expressions = st.recursive(
    finite.map(lambda x: ("number", x)),
    lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner),
    max_leaves=8,
)


def evaluate(tree: tuple) -> tuple[Near, Fraction]:
    """The expression in float64 with its error, and exactly."""
    if tree[0] == "number":
        return exact(np.array([tree[1]])), Fraction(tree[1])
    (x, a), (y, b) = evaluate(tree[1]), evaluate(tree[2])
    if tree[0] == "+":
        return x + y, a + b
    if tree[0] == "-":
        return x - y, a - b
    if tree[0] == "*":
        return x * y, a * b
    return x / y, a / b


@settings(max_examples=300, deadline=None, derandomize=True)
@given(expressions)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_error_bound_of_an_expression_holds_in_exact_arithmetic(tree: tuple) -> None:
    try:
        near, truth = evaluate(tree)
    except ZeroDivisionError:
        return
    value, error = float(near.value[0]), float(near.error[0])
    if not (np.isfinite(value) and np.isfinite(error)):
        return  # nothing was claimed
    assert abs(Fraction(value) - truth) <= Fraction(error)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(1e-300, 1e300))
def test_the_error_bound_of_a_root_holds_in_exact_arithmetic(x: float) -> None:
    """|r - sqrt x| <= e  <=>  (r - e)^2 <= x <= (r + e)^2."""
    near = exact(np.array([x])).sqrt()
    root, error = Fraction(float(near.value[0])), Fraction(float(near.error[0]))
    assert (root - error) ** 2 <= Fraction(x) <= (root + error) ** 2
    assert error <= 2 * root * Fraction(2.0**-53), "and is not idle"


def test_a_root_and_a_quotient_hand_on_what_they_were_given() -> None:
    near = Near(np.array([4.0]), np.array([0.4]))
    assert 0.1 <= near.sqrt().error[0] <= 0.21, "d sqrt(x) = dx / (2 sqrt x) = 0.1, bounded by 0.2"
    assert 0.1 / 4 <= (exact(ONE) / near).error[0] <= 0.03, "d(1/x) = dx / x^2 = 0.025, bounded by 0.0278"
    assert np.isinf((exact(ONE) / Near(ONE, ONE)).error[0]), "the divisor may be zero"


# ------------------------------------------------------------------------------------------------------- affines
def test_batchnorm_by_hand() -> None:
    """Scale 2, shift 7, mean 1, variance 0.75 + epsilon 0.25: y = 2 (x - 1) + 7."""
    found = batchnorm(2 * ONE, 7 * ONE, ONE, 0.75 * ONE, 0.25)
    assert (found.slope.value.tolist(), found.shift.value.tolist(), found.parts.tolist()) == ([2.0], [5.0], [9.0])


def test_a_chain_by_hand() -> None:
    """x -> 3 x + 5 -> 2 (.) + 1 -> -(.): -6 x - 11."""
    found = compose([affine(3, 5), affine(2, 1), scaling(exact(-ONE))])
    assert (found.slope.value.tolist(), found.shift.value.tolist(), found.parts.tolist()) == ([-6.0], [-11.0], [11.0])


def test_what_does_nothing_is_exact() -> None:
    """A scale of one, a shift of zero, a mean of zero and a variance of 1 - epsilon change nothing at all."""
    weight = rng(8).normal(size=(1, 4, 4, 1)).astype(np.float32)
    out = np.empty_like(weight)
    same = batchnorm(np.ones(4), np.zeros(4), np.zeros(4), np.full(4, 0.75), 0.25)
    done = absorb(weight, out, exact(np.zeros(4)), IDENTITY, same)
    np.testing.assert_array_equal(out, weight)
    np.testing.assert_array_equal(done.bias, np.zeros(4))


def test_zero_moves_only_with_a_shift() -> None:
    assert not scaling(exact(3 * ONE)).moves_zero
    assert shifting(exact(ONE)).moves_zero
    assert not affine(3, 0.0).moves_zero or affine(3, 0.0).shift.value[0] == 0


# ------------------------------------------------------------------------------------------------------- absorbing
def test_both_sides_by_hand() -> None:
    """z = 2 (3 (5 x + 7) + 11) + 13 = 30 x + 77."""
    out = np.empty((1, 1, 1, 1), np.float32)
    weight = np.full((1, 1, 1, 1), 3, np.float32)
    done = absorb(weight, out, exact(11 * ONE), affine(5, 7), affine(2, 13))
    assert (out.ravel().tolist(), done.bias.tolist()) == ([30.0], [77.0])
    assert 2**-24 <= done.bound <= 1.001 * 2**-24


def exact_fold(weight: Array, bias: Array, front: tuple[Array, Array], behind: tuple[Array, Array]) -> tuple:
    """W' and b' as fractions for one group, weight (O, I, K): the formulas at the top of absorb.py, spelled out."""
    p, q, a, c = ([Fraction(float(v)) for v in side] for side in (*front, *behind))
    rows = [[[Fraction(float(w)) for w in taps] for taps in row] for row in weight]
    folded = [[[a[o] * w * p[i] for w in taps] for i, taps in enumerate(row)] for o, row in enumerate(rows)]
    pulled = [sum(w * q[i] for i, taps in enumerate(row) for w in taps) for row in rows]
    return folded, [a[o] * (Fraction(float(bias[o])) + pulled[o]) + c[o] for o in range(len(rows))]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_the_bound_holds_in_exact_arithmetic_and_is_not_idle(
    dtype: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fractions are the oracle: |fl(W') - W'|_1 + |fl(b') - b'| <= e for every channel, blocks of any size."""
    monkeypatch.setattr(absorb_module, "BLOCK", block)
    r = rng(3)
    weight = r.normal(size=(2, 3, 2, 5)).astype(dtype)
    bias = r.normal(size=6).astype(dtype).astype(np.float64)
    front, behind = (r.normal(size=(2, 4)), r.normal(size=(2, 6)))
    out = np.empty_like(weight)
    done = absorb(weight, out, exact(bias), affine(*front), affine(*behind))
    rounded = done.bias.astype(dtype)
    scale, worst = 0.0, Fraction(0)
    for g in range(2):
        own = slice(3 * g, 3 * g + 3)
        folded, shifted = exact_fold(weight[g], bias[own], tuple(front[:, 2 * g : 2 * g + 2]), tuple(behind[:, own]))
        for o in range(3):
            moved = abs(Fraction(float(rounded[3 * g + o])) - shifted[o])
            pairs = zip(out[g, o].ravel(), [w for taps in folded[o] for w in taps], strict=True)
            moved += sum(abs(Fraction(float(have)) - want) for have, want in pairs)
            worst = max(worst, moved)
            scale = max(scale, float(sum(abs(w) for taps in folded[o] for w in taps) + abs(shifted[o])))
    assert worst <= Fraction(done.bound) * Fraction(scale) * (1 + Fraction(2.0**-40))
    assert float(worst) >= done.bound * scale / (50 if dtype != "float64" else 500), "a bound too wide says nothing"


def test_a_bias_of_rows_and_columns_keeps_its_shape() -> None:
    weight = np.eye(3, dtype=np.float32)[None, :, :, None]
    bias = np.arange(6.0).reshape(2, 3)
    done = absorb(weight, np.empty_like(weight), exact(bias), IDENTITY, affine([2, 3, 4], [1, 1, 1]))
    np.testing.assert_array_equal(done.bias, bias * [2, 3, 4] + 1)


MISFITS = {
    "overflow": (1e4, 1e2, 0.0, "do not fit into float16"),
    "underflow": (1e-3, 1e-5, 0.0, "too small for float16"),
    "bias overflows": (1.0, 1.0, 1e6, "do not fit into float16"),
}


@pytest.mark.parametrize(("weight", "slope", "shift", "reason"), MISFITS.values(), ids=MISFITS)
def test_what_the_type_cannot_hold_is_refused(weight: float, slope: float, shift: float, reason: str) -> None:
    rows = np.full((1, 2, 3, 1), weight, np.float16)
    with pytest.raises(Misfit, match=reason):
        absorb(rows, np.empty_like(rows), exact(np.zeros(2)), IDENTITY, affine(slope, shift))


def test_a_shift_of_nought_that_is_not_known_exactly_is_refused() -> None:
    """Also where another output has no weights, and nothing to be wrong about."""
    rows = np.array([1.0, 0.0]).reshape(1, 2, 1, 1)
    front = shifting(Near(np.zeros(1), np.full(1, 0.25)))
    with pytest.raises(Misfit, match=r"could be wrong by 0\.25"):
        absorb(rows, np.empty_like(rows), exact(np.zeros(2)), front, IDENTITY)


def test_zeros_fold_in_every_type() -> None:
    rows = np.zeros((1, 2, 3, 1), np.float16)
    done = absorb(rows, np.empty_like(rows), exact(np.zeros(2)), IDENTITY, affine(2.0, 0.0))
    assert done.bound == 0


def test_precision_of_every_type() -> None:
    assert precision(np.dtype(np.float32)) == (2.0**-24, 2.0**-150)
    bfloat16 = onnx_bfloat16()
    assert precision(bfloat16) == (2.0**-8, 2.0**-134)


def onnx_bfloat16() -> np.dtype:
    from onnx import helper

    return np.dtype(helper.tensor_dtype_to_np_dtype(16))
