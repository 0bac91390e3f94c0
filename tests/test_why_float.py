"""The reason for each float node is true: of what it reads, of the int8 form that it has, of what it lacks."""

from __future__ import annotations

import pytest

from exporters.quantization.placement import plan
from exporters.quantization.why_float import LEFT_OUT, NOTHING
from graphs import parse

CONV = "a = Conv (x, w)"
SIXTH = "<alpha = 0.16666667, beta = 0.5>"
WEIGHTS = {"w": (4, 4, 1, 1), "v": (8, 8), "k": (8,)}


def reasons(body: str, forms: tuple[str, ...] = ("hardswish",)) -> dict[str, str]:
    """Of the graph x (N, 4, 8, 8) -> `body` -> y."""
    text = f"g (float[N,4,8,8] x, float low) => (float[N,4,8,8] y) {{ {body} }}"
    given = {name: shape for name, shape in WEIGHTS.items() if f"{name})" in body or f", {name}," in body}
    return dict(plan(parse(text, **given), forms=forms).float_nodes)


@pytest.mark.parametrize(
    ("body", "node", "why"),
    [
        ("e = Exp (x) y = Relu (e)", "y", NOTHING),
        ("e = Exp (x) y = Add (e, e)", "y", NOTHING),
        ("a = MatMul (x, v) y = Add (a, k)", "y", "the int8 MatMul in front of it gives floats"),
        ("a = MatMul (x, v) r = Relu (a) y = Sigmoid (r)", "y", "the int8 MatMul in front of it gives floats"),
        ("a = MatMul (x, v) y = HardSwish (a)", "y", "the int8 MatMul in front of it gives floats"),
        (f"{CONV} e = Exp (a) y = Mul (a, e)", "y", "not all that it reads is int8"),
        (f"{CONV} y = Clip (a, low)", "y", "its ends are not constant"),
        ("y = Clip (x, low)", "y", NOTHING),
        (f"{CONV} y = Exp (a)", "y", "Exp has no int8 kernel"),
        (f"{CONV} h = HardSwish (a) y = Exp (h)", "y", "Exp has no int8 kernel"),
    ],
)
def test_what_a_follower_lacks(body: str, node: str, why: str) -> None:
    assert reasons(body)[node] == why


@pytest.mark.parametrize("op", ["HardSwish", f"HardSigmoid {SIXTH}"])
def test_an_int8_form_is_never_said_to_be_missing(op: str) -> None:
    assert reasons(f"{CONV} y = {op} (a)") == {}
    assert reasons(f"{CONV} y = {op} (a)", forms=()) == {"y": LEFT_OUT}
    assert reasons(f"e = Exp (x) y = {op} (e)")["y"] == NOTHING
    twice = reasons(f"{CONV} h = {op} (a) y = Add (a, h)")
    assert twice["h"] == "its int8 form needs a grid of its own, and what it reads is read 2 times"
    moved = reasons(f"{CONV} m = MaxPool <kernel_shape = [1, 1]> (a) y = {op} (m)")
    assert moved["y"] == "its int8 form needs a grid of its own, and what it reads shares its grid with another tensor"


def test_another_slope_has_no_form() -> None:
    assert "this HardSigmoid has another slope" in reasons(f"{CONV} y = HardSigmoid <alpha = 0.2> (a)")["y"]
