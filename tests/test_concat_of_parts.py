"""Parts of one tensor put back together are that tensor."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.rewrites import concat_of_parts
from pass_examples import build, draw
from rewrite_tools import check, same

BOUNDS = {
    "zero": [0],
    "two": [2],
    "four": [4],
    "six": [6],
    "end": [np.iinfo(np.int64).max],
    "one": [1],
    "minus": [-4],
    "three": [3],
}
A = "a = Slice (x, zero, two, one)"
B = "b = Slice (x, two, end, one)"


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (f"{A} {B} n = Neg (b) c = Concat <axis = 1> (a, b, n)", 2),
        (f"{A} {B} n = Neg (b) c = Concat <axis = 1> (n, a, b)", 2),
        (f"{A} {B} c = Concat <axis = 1> (a, b)", 0),
        (f"{A} {B} c = Concat <axis = 1> (a, b, a, b)", 2),
        (f"{A} b = Slice (x, minus, end, one) c = Concat <axis = -3> (a, b)", 0),
        ("a, b = Split <axis = 1> (x, sizes) n = Neg (a) c = Concat <axis = 1> (a, b, n)", 2),
        ("a, b = Split <axis = -3> (x, sizes) c = Concat <axis = 1> (x, a, b)", 2),
    ],
)
def test_parts_in_order_are_the_whole(body: str, parts: int) -> None:
    text = f" g (float[N,6,4,4] x) => (float[N,C,4,4] y) {{ {body} y = Relu (c) }}"
    model = build(text, {**BOUNDS, "sizes": [2, 4]})
    result = concat_of_parts.run(model)
    if "(a, b, a, b)" in body:  # one run that is not the whole, once
        check(result, model, acts=False)
        return
    check(result, model, acts=True)
    assert same(model, result.model).max_abs == 0
    concats = [n for n in result.model.graph.node if n.op_type == "Concat"]
    assert [len(n.input) for n in concats] == ([parts] if parts else [])


@pytest.mark.parametrize(
    "body",
    [
        f"{A} {B} c = Concat <axis = 1> (b, a)",
        f"{A} {B} c = Concat <axis = 2> (a, a)",
        f"{A} b = Slice (x, three, end, one) c = Concat <axis = 1> (a, b)",
        f"{A} b = Slice (x, one, six, one) c = Concat <axis = 1> (a, b)",
        f"{A} b = Slice (x, two, four, one) c = Concat <axis = 1> (a, b)",
        f"a = Slice (x, zero, two, one, two) {B} c = Concat <axis = 1> (a, b)",
        "a = Slice (x, zero, end, one, two) c = Concat <axis = 1> (a, a)",
        "a, b = Split <axis = 1> (x, sizes) c = Concat <axis = 1> (a, a)",
        f"{A} n = Neg (x) b = Slice (n, two, end, one) c = Concat <axis = 1> (a, b)",
        f"{A} {B} n = Neg (a) c = Concat <axis = 1> (a, n, b)",
    ],
)
def test_anything_else_is_left_alone(body: str) -> None:
    text = f" g (float[N,6,4,4] x) => (float[N,C,H,W] y) {{ {body} y = Relu (c) }}"
    model = build(text, {**BOUNDS, "sizes": [2, 4]})
    result = concat_of_parts.run(model)
    assert not result.changes
    assert result.model == model


def test_an_output_of_the_model_keeps_its_name() -> None:
    text = "g (float[N,6,4,4] x) => (float[N,6,4,4] y) { r = Relu (x) a, b = Split <axis = 1> (r, sizes) y = Concat <axis = 1> (a, b) }"  # noqa: E501
    model = build(text, {"sizes": [2, 4]})
    check(concat_of_parts.run(model), model, acts=True)


def test_slices_along_rows_count_too() -> None:
    text = """ g (float[N,2,6,4] x) => (float[N,2,6,4] y) {
        a = Slice (x, zero, two, axis) b = Slice (x, two, six, axis, one) c = Concat <axis = 2> (a, b) y = Relu (c)
    }"""
    model = build(text, {**BOUNDS, "axis": [2]})
    check(concat_of_parts.run(model), model, acts=True)


def test_weights_are_not_parts() -> None:
    text = "g (float[N,2,4,4] x) => (float[N,4,4,4] y) { c = Concat <axis = 1> (x, x) y = Conv (c, w) }"
    model = build(text, {"w": draw(4, 4, 1, 1)})
    assert concat_of_parts.run(model).model == model


def test_parts_along_another_axis_are_not_the_whole() -> None:
    text = """ g (float[N,4,4,4] x) => (float[N,8,2,4] y) {
        a = Slice (x, zero, two, axis) b = Slice (x, two, four, axis) c = Concat <axis = 1> (a, b) y = Relu (c)
    }"""
    model = build(text, {**BOUNDS, "axis": [2]})
    assert not concat_of_parts.run(model).changes


@pytest.mark.parametrize("more", ["", ", , one"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_slice_that_names_no_axes_is_of_the_first(axis: int, more: str) -> None:
    """Rows of a square put side by side are not the square."""
    text = f""" g (float[6,6] x) => (float[A,B] y) {{
        a = Slice (x, zero, three{more}) b = Slice (x, three, end{more}) c = Concat <axis = {axis}> (a, b) y = Relu (c)
    }}"""
    model = build(text, BOUNDS)
    check(concat_of_parts.run(model), model, acts=axis == 0)
