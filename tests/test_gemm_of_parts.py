"""A product and its bias as one Gemm: the same function in onnx.reference, refused wherever it would be another."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.float_passes import run_pass
from exporters.graph import op_counts
from exporters.passes import gemm_of_parts
from exporters.quantization.quantize import QuantRecipe, quantize_model
from pass_examples import HEAD, build, draw
from pass_examples.gemm_of_parts import EXAMPLES
from rewrite_tools import against_reference, check, ints, reference
from runtimes.census import census, kernels_dict
from runtimes.session import open_session

K, N = 6, 4
M = -1
"""Stands for as many as the product has rows."""
SHAPES = [(), (1,), (N,), (1, 1), (1, N), (M, N), (M, 1), (1, 1, N), (1, M, 1), (1, 1, 1)]


def model_of(
    reads: str = f"M,{K}", bias: tuple[int, ...] = (N,), tail: str = "y = Add (m, b)", outputs: int = N, opset: int = 18
) -> onnx.ModelProto:
    made = ",".join("PQRS"[: max(reads.count(",") + 1, len(bias))])
    more = f", float[{made}] z" if "z =" in tail else ""
    text = f" g (float[{reads}] x) => (float[{made}] y{more}) {{ m = MatMul (x, w) {tail} }}"
    return build(text, {"w": draw(K, outputs), "b": draw(*bias)}, HEAD.replace("18", str(opset)))


@given(
    rank=st.integers(1, 4),
    rows=st.sampled_from([3, N]),
    bias=st.sampled_from(SHAPES),
    front=st.booleans(),
    outputs=st.sampled_from([1, N]),
    opset=st.sampled_from([7, 9, 13, 21]),
)
@settings(max_examples=80, deadline=None)
def test_it_acts_exactly_where_the_result_is_the_same(
    rank: int, rows: int, bias: tuple[int, ...], front: bool, outputs: int, opset: int
) -> None:
    """Rank 2, and no bias that widens the product or differs from row to row; against onnx.reference.

    With as many rows as outputs, a column of biases has as many numbers as a row of them.
    """
    shape = (3, 2, rows, K)[-rank:]
    bias = tuple(rows if size == M else size for size in bias)
    model = model_of(ints(*shape)[1:-1], bias, "y = Add (b, m)" if front else "y = Add (m, b)", outputs, opset)
    result = gemm_of_parts.run(model)
    acts = rank == 2 and len(bias) <= 2 and (bias[-1:] == (outputs,) or set(bias) <= {1}) and bias[:-1] in ((), (1,))
    check(result, model, acts=acts)
    if acts:
        against_reference(model, result.model, shape)
        (node,) = result.model.graph.node
        assert (node.op_type, node.name) == ("Gemm", "net.m")
        values = {tensor.name: list(tensor.dims) for tensor in result.model.graph.initializer}
        assert [values[name] for name in node.input[1:]] == [[K, outputs], [outputs]]
        assert result.changes[0].bound == pytest.approx(K * 2.0**-23)
    else:
        assert len(result.kept) == 1


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (model_of(f"M,3,{K}"), "a Gemm takes matrices, its input is of rank 3, its weight of rank 2"),
        (model_of(f"{K}"), "its input is of rank 1"),
        (model_of(f"{N},{K}", bias=(N, 1)), "what is added has the shape (4, 1), not one number for each of 4 outputs"),
        (model_of(bias=(3, N)), "what is added has the shape (3, 4), not one number for each of 4 outputs"),
        (model_of(tail="y = Add (m, b) z = Relu (m)"), "is read 2 times"),
    ],
)
def test_what_stays_says_why(model: onnx.ModelProto, reason: str) -> None:
    result = gemm_of_parts.run(model)
    check(result, model, acts=False)
    assert reason in result.kept[0].reason


def test_an_input_of_unknown_rank_stays() -> None:
    text = f""" g (float[M,{K}] x, int64[L] s) => (float[P,Q] y) {{ f = Reshape (x, s) m = MatMul (f, w)
        y = Add (m, b) }}"""
    model = build(text, {"w": draw(K, N), "b": draw(N)})
    assert gemm_of_parts.run(model).kept[0].reason.startswith("a Gemm takes matrices, its input is of unknown rank")


@pytest.mark.parametrize(
    "text",
    [
        f"(float[M,{K}] x, float[{N}] b) => (float[P,Q] y) {{ m = MatMul (x, w) y = Add (m, b) }}",
        f"(float[M,{K}] x, float[{K},{N}] w) => (float[P,Q] y) {{ m = MatMul (x, w) y = Add (m, b) }}",
        f"(float[M,{K}] x) => (float[P,Q] y) {{ m = MatMul (x, w) y = Add (m, m) }}",
        f"(float[M,{K}] x) => (float[P,Q] y) {{ m = MatMul (x, w) y = Sub (m, b) }}",
        f"(float[{K},M] x) => (float[P,Q] y) {{ m = MatMul (v, x) y = Add (m, b) }}",
    ],
    ids=["a fed bias", "fed weights", "twice itself", "a Sub", "weights on the left"],
)
def test_other_products_are_left_alone(text: str) -> None:
    values = {"w": draw(K, N), "b": draw(N), "v": draw(N, K)}
    model = build(
        f" g {text}", {name: value for name, value in values.items() if f" {name})" in text or f"{name}," in text}
    )
    result = gemm_of_parts.run(model)
    check(result, model, acts=False)
    assert not result.kept


def test_integers_and_doubles_stay() -> None:
    for kind, dtype in (("double", np.float64), ("int64", np.int64)):
        text = f" g ({kind}[M,{K}] x) => ({kind}[P,Q] y) {{ m = MatMul (x, w) y = Add (m, b) }}"
        model = build(text, {"w": draw(K, N).astype(dtype), "b": draw(N).astype(dtype)})
        check(gemm_of_parts.run(model), model, acts=False)


def test_a_tensor_that_others_read_keeps_its_shape() -> None:
    """The row of biases is read by a second layer that cannot become a Gemm."""
    text = f""" g (float[M,{K}] x) => (float[P,Q] y, float[P,Q] z) {{ m = MatMul (x, w) y = Add (m, b)
        s = Relu (m2) m2 = MatMul (x, w) z = Add (s, b) }}"""
    text = text.replace("s = Relu (m2) m2 = MatMul (x, w)", "m2 = MatMul (x, w) s = Relu (m2)")
    model = build(text, {"w": draw(K, N), "b": draw(1, N)})
    result = gemm_of_parts.run(model)
    check(result, model, acts=True)
    assert op_counts(result.model) == {"Gemm": 1, "MatMul": 1, "Relu": 1, "Add": 1}


def test_in_float_it_is_what_onnx_runtime_makes_of_it() -> None:
    """Optimized, both files give the same bits."""
    for model in EXAMPLES.values():
        size = [3, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])]
        feeds = {"x": draw(*size)}
        sides = [open_session(m, threads=1)(feeds)["y"] for m in (model, gemm_of_parts.run(model).model)]
        np.testing.assert_array_equal(*sides)
        np.testing.assert_allclose(sides[0], reference(model, feeds)["y"], atol=1e-5)


def test_it_is_part_of_simplifying_and_every_layer_is_one_integer_kernel() -> None:
    text = """ g (float[N,12] x) => (float[N,5] y) { m = MatMul (x, w) a = Add (m, b) r = Relu (a)
        n = MatMul (r, v) y = Add (n, c) }"""
    model = build(text, {"w": draw(12, 16), "b": draw(1, 16), "v": draw(16, 5), "c": draw(5)})
    feeds = [{"x": draw(1, 12, seed=i)} for i in range(8)]
    plain = quantize_model(model, feeds, QuantRecipe())
    made = quantize_model(run_pass("simplify", model)[0], feeds, QuantRecipe())
    assert (made.int8_nodes, made.float_nodes) == (2, ())
    ran = [kernels_dict(census(m.model, feeds[0])) for m in (plain, made)]
    assert (ran[0].get("QGemm", 0), ran[1]["QGemm"]) == (0, 2), ran
    assert "Gemm" not in ran[1]
