"""Channels between convolutions in fours: chains, partial shortcuts (ReXNet's), branches, refusals."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import pad_channels
from pass_examples import build, draw
from rewrite_tools import against_reference, check

PAD = "pads: ints = [1,1,1,1]"


def shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    tensors = {t.name: list(t.dims) for t in model.graph.initializer}
    return {n.output[0].removesuffix(".padded"): tensors[n.input[1]] for n in model.graph.node if n.op_type == "Conv"}


def used(text: str, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of `values` that `text` names."""
    return {name: value for name, value in values.items() if name in re.findall(r"\w+", text)}


@given(
    channels=st.integers(1, 20), act=st.sampled_from(["Relu", "HardSwish", "Sigmoid"]), kernel=st.sampled_from([1, 3])
)
@settings(max_examples=30, deadline=None)
def test_any_two_convolutions_are_the_same_function(channels: int, act: str, kernel: int) -> None:
    pads = [kernel // 2] * 4
    text = f""" g (float[N,4,5,6] x) => (float[N,4,5,6] y) {{
        a = Conv (x, w1, b1) b = {act} (a) y = Conv <pads: ints = {pads}> (b, w2, b2) }}"""
    weights = {"w1": draw(channels, 4, 1, 1), "b1": draw(channels), "b2": draw(4)}
    model = build(text, {**weights, "w2": draw(4, channels, kernel, kernel)})
    result = pad_channels.run(model)
    check(result, model, acts=channels % 4 != 0)
    size = -(-channels // 4) * 4
    assert shapes(result.model) == {"a": [size, 4, 1, 1], "y": [4, size, kernel, kernel]}


def rex(shortcut: str) -> onnx.ModelProto:
    """A block whose first channels get a shortcut, the others none: y[:, :6] += x."""
    text = f""" g (float[N,3,5,5] x) => (float[N,8,5,5] y) {{
        a = Conv (x, w1, b1) e = Conv (a, w2) d = Conv <group = 10, {PAD}> (e, w3) p = Conv (d, w4)
        {shortcut} s = Add (first, a) j = Concat <axis = 1> (s, rest)
        y = Conv (j, w5) }}"""
    weights = {"w1": draw(6, 3, 1, 1), "b1": draw(6), "w2": draw(10, 6, 1, 1), "w3": draw(10, 1, 3, 3)}
    weights |= {"w4": draw(11, 10, 1, 1), "w5": draw(8, 11, 1, 1), "sizes": np.asarray([6, 5])}
    ends = {"zero": 0, "six": 6, "far": 2**63 - 1, "one": 1, "minus": -5}
    weights |= {name: np.asarray([value]) for name, value in ends.items()}
    weights |= {"two": np.asarray([0, 1]), "from0": np.asarray([0, 0]), "from6": np.asarray([0, 6])}
    weights |= {"to6": np.asarray([2**63 - 1, 6]), "to": np.asarray([2**63 - 1] * 2), "ones": np.asarray([1, 1])}
    return build(text, used(text, weights))


@pytest.mark.parametrize(
    "shortcut",
    [
        "first = Slice (p, zero, six, one) rest = Slice (p, six, far, one)",
        "first = Slice (p, zero, minus, one) rest = Slice (p, minus, far, one, one)",
        "first = Slice (p, from0, to6, two, ones) rest = Slice (p, from6, to, two, ones)",
        "first, rest = Split <axis = 1> (p, sizes)",
    ],
)
def test_a_shortcut_to_some_of_the_channels(shortcut: str) -> None:
    model = rex(shortcut)
    result = pad_channels.run(model)
    check(result, model, acts=True)
    assert not result.kept
    found = shapes(result.model)
    assert (found["a"], found["p"], found["y"]) == ([8, 3, 1, 1], [16, 12, 1, 1], [8, 16, 1, 1])
    assert (found["e"], found["d"]) == ([12, 8, 1, 1], [12, 1, 3, 3])
    against_reference(model, result.model, (2, 3, 5, 5))


def test_a_tensor_that_has_grown_with_another_is_done() -> None:
    text = """ g (float[N,3,5,5] x) => (float[N,4,5,5] y) {
        a = Conv (x, w1) b = Conv (x, w2) s = Add (a, b) y = Conv (s, w3) }"""
    model = build(text, {"w1": draw(6, 3, 1, 1), "w2": draw(6, 3, 1, 1), "w3": draw(4, 6, 1, 1)})
    result = pad_channels.run(model)
    check(result, model, acts=True)
    assert [change.what for change in result.changes] == ["6 channels are 8"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = Conv (x, w1) y = Relu (a)", "input or output of the model"),
        ("a = Conv (x, w1) s = Softmax <axis = 1> (a) y = Conv (s, w2)", "net.s, a Softmax"),
        ("a = Conv (x, w1) s = Slice (a, zero, two, three) y = Conv (s, w2)", "net.s, a Slice"),
        ("a = Conv (x, w1) s = Slice (a, zero, six, one, two) y = Conv (s, w3)", "net.s, a Slice"),
    ],
)
def test_what_is_refused_says_why(body: str, reason: str) -> None:
    weights = {"w1": draw(6, 3, 1, 1), "w2": draw(4, 6, 1, 1), "w3": draw(4, 3, 1, 1)}
    numbers = {"zero": 0, "one": 1, "two": 2, "three": 3, "six": 6}
    values = {**weights, **{name: np.asarray([value]) for name, value in numbers.items()}}
    model = build(f" g (float[N,3,5,5] x) => (float[N,O,P,Q] y) {{ {body} }}", used(body, values))
    result = pad_channels.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_one_position_is_no_image() -> None:
    text = """ g (float[N,3,5,5] x) => (float[N,4,1,1] y) {
        g = GlobalAveragePool (x) a = Conv (g, w1) y = Conv (a, w2) }"""
    model = build(text, {"w1": draw(6, 3, 1, 1), "w2": draw(4, 6, 1, 1)})
    assert pad_channels.run(model).model == model


@pytest.mark.parametrize("pieces", [("a", "a"), ("a", "b", "a")])
def test_a_tensor_that_is_joined_twice(pieces: tuple[str, ...]) -> None:
    text = f""" g (float[N,3,5,6] x) => (float[N,4,5,6] y) {{
        a = Conv (x, w1) b = Conv (x, w2) j = Concat <axis = 1> ({", ".join(pieces)}) y = Conv (j, w3) }}"""
    weights = {"w1": draw(18, 3, 1, 1), "w2": draw(6, 3, 1, 1)}
    model = build(text, {**weights, "w3": draw(4, 36 if len(pieces) == 2 else 42, 1, 1)})
    result = pad_channels.run(model)
    check(result, model, acts=True)
    assert shapes(result.model)["y"][1] == sum({"a": 20, "b": 8}[piece] for piece in pieces)
