"""Squeezes that move: against onnx.reference and unoptimized ONNX Runtime, by rule and on random chains."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import op_counts
from exporters.passes import fold_batchnorm, move_squeezes
from pass_examples import HEAD, build, draw
from pass_examples.move_squeezes import EXAMPLES, SHIFT, row
from rewrite_tools import check, reference
from runtimes.session import open_session, random_feeds

LEFT_OVER = {"joined, and an output in the middle": 1, "at the end": 1}
"""Squeezes and Unsqueezes that stay, by example; none of the others."""


def crossings(model: onnx.ModelProto) -> int:
    counts = op_counts(model)
    return counts.get("Squeeze", 0) + counts.get("Unsqueeze", 0)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_left(name: str) -> None:
    """Oracle of the numbers: onnx.reference."""
    result = move_squeezes.run(EXAMPLES[name])
    assert crossings(result.model) == LEFT_OVER.get(name, 0)
    feeds = random_feeds(open_session(EXAMPLES[name]).inputs, batch=2, seed=2)
    want, got = reference(EXAMPLES[name], feeds), open_session(result.model, optimize=False)(feeds)
    for tensor, value in want.items():
        np.testing.assert_allclose(got[tensor], value, rtol=0, atol=2e-5 * np.abs(value).max())


LEFT = {
    "a product of matrices": row("z = MatMul (a, k)", k=draw(9, 9)),
    "an axis in front of the channels, pooled": build(
        """ g (float[N,1,4,9] x) => (float[N,4,5] y) { e = Relu (x) a = Squeeze (e, k)
            p = MaxPool <kernel_shape = [2], strides = [2], pads = [0, 1]> (a) y = Softmax (p) }""",
        {"k": [1]},
    ),
    "another axis comes back": build(
        """ g (float[N,3,1,9] x) => (float[N,3,9,1] y) { e = Relu (x) a = Squeeze (e, k) r = Neg (a)
            y = Unsqueeze (r, l) }""",
        {"k": [2], "l": [3]},
    ),
    "axes that are left out": build(
        " g (float[2,3,1,9] x) => (float[2,3,1,9] y) { a = Squeeze (x) r = Neg (a) y = Unsqueeze (r, k) }", {"k": [2]}
    ),
    "an operator set that does not broadcast": build(
        """ g (float[2,3,1,9] x) => (float[2,3,1,9] y) { a = Squeeze <axes = [2]> (x) r = Add <broadcast = 1> (a, s)
            y = Unsqueeze <axes = [2]> (r) }""",
        {"s": draw(9)}, HEAD.replace("18", "6"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", LEFT.values(), ids=LEFT)
def test_left_alone(model: onnx.ModelProto) -> None:
    result = move_squeezes.run(model)
    assert not result.modified, result.changes
    assert result.model == model


def test_the_norm_behind_a_convolution_of_signals_is_folded() -> None:
    """What it is for: the BatchNormalization of Keras' Conv1D, and the same as one node."""
    for name in ("batchnorm and activation", "a norm as one node"):
        model = EXAMPLES[name]
        assert fold_batchnorm.run(model).changes == ()
        moved = move_squeezes.run(model).model
        folded = fold_batchnorm.run(moved)
        check(folded, model, acts=True)
        assert not {"Mul", "Add", "BatchNormalization"} & set(op_counts(folded.model))


def test_open_lengths_stay_open() -> None:
    """Batch and length are both open: merge_reshapes could not say what comes out."""
    text = """ g (float[N,3,1,L] x) => (float[N,5,1,L] y) { c = Conv (x, w) a = Squeeze (c, k) m = Mul (a, s)
        f = Unsqueeze (m, k) y = Conv (f, v) }"""
    model = build(text, {"w": draw(4, 3, 1, 1), "v": draw(5, 4, 1, 1), "s": SHIFT, "k": [2]})
    result = move_squeezes.run(model)
    assert crossings(result.model) == 0
    for size in ((1, 3, 1, 5), (2, 3, 1, 8)):
        feeds = {"x": draw(*size)}
        want, got = (open_session(m, optimize=False)(feeds)["y"] for m in (model, result.model))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


STEPS = {
    "relu": "{o} = Relu ({i})",
    "channels": "{o} = Mul ({i}, k)",
    "with the first": "{o} = Add ({i}, v0)",
    "mean": "m{o} = ReduceMean ({i}, axis) {o} = Add (m{o}, {i})",
    "pad and cut": "p{o} = Pad ({i}, pads) {o} = Slice (p{o}, one, four, axis)",
    "join and cut": "j{o} = Concat <axis = -1> ({i}, {i}) {o}, z{o} = Split <axis = 2, num_outputs = 2> (j{o})",
    "pool": "{o} = MaxPool <kernel_shape = [3], pads = [1, 1]> ({i})",
    "there and back": "u{o} = Unsqueeze ({i}, where) e{o} = Relu (u{o}) {o} = Squeeze (e{o}, where)",
}


@given(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=10),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_random_chains_are_the_same_function(steps: list[str], before: int, after: int, seen: bool) -> None:
    """Whatever axis goes and comes; Squeezes do not become more. Oracle: unoptimized ONNX Runtime."""
    body, name = ["v0 = Squeeze (x, a)"], "v0"
    for place, kind in enumerate(steps):
        made = f"v{place + 1}"
        body.append(STEPS[kind].format(i=name, o=made))
        name = made
    values = {
        "k": draw(4, 1), "axis": [2], "pads": [0, 0, 1, 0, 0, 2], "one": [1], "four": [5], "a": [before],
        "b": [after], "where": [after],
    }  # fmt: skip
    sizes = [4, 4, 4]
    sizes.insert(before, 1)
    outs = f"float[A,B,C,D] y{', float[A,B,C] v1' if seen else ''}"
    body += [f"u = Unsqueeze ({name}, b)", "y = Exp (u)"]
    model = build(f" g (float[{','.join(map(str, sizes))}] x) => ({outs}) {{ {' '.join(body)} }}", values)
    result = move_squeezes.run(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert crossings(result.model) <= crossings(model)
    assert not move_squeezes.run(result.model).modified
    feeds = {"x": draw(*sizes) / 8}
    want, got = (open_session(m, optimize=False)(feeds) for m in (model, result.model))
    for tensor, value in want.items():
        np.testing.assert_allclose(got[tensor], value, rtol=1e-5, atol=1e-5)
