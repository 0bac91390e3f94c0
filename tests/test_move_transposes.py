"""Transposes that move: against onnx.reference and unoptimized ONNX Runtime, by rule and on random chains."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.float_passes import simplified
from exporters.graph import op_counts
from exporters.passes import move_transposes
from pass_examples import HEAD, build, draw
from pass_examples.move_transposes import CHANNELS, EXAMPLES, FIRST, LAST, between
from rewrite_tools import check, reference
from runtimes.session import open_session, random_feeds

LEFT_OVER = {"an output in the middle": 1, "at the input": 1, "at the output": 1, "a pool and a reshape": 1}
"""Transposes that stay, by example; none of the others."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_left(name: str) -> None:
    """Oracle of the numbers: onnx.reference."""
    result = move_transposes.run(EXAMPLES[name])
    assert op_counts(result.model).get("Transpose", 0) == LEFT_OVER.get(name, 0)
    feeds = random_feeds(open_session(EXAMPLES[name]).inputs, batch=2, seed=2)
    want, got = reference(EXAMPLES[name], feeds), open_session(result.model, optimize=False)(feeds)
    for tensor, value in want.items():
        np.testing.assert_allclose(got[tensor], value, rtol=0, atol=2e-5 * np.abs(value).max())


def test_every_new_transpose_has_a_name_of_its_own() -> None:
    """The difference of two pictures, channels last: both get one, in front of one node."""
    model = build(
        f""" g (float[N,8,8,3] before, float[N,8,8,3] now) => (float[N,4,8,8] y) {{ d = Sub (before, now) a = Abs (d)
            f = {FIRST} (d) g = {FIRST} (a) u = Conv (f, w) v = Conv (g, w) y = Add (u, v) }}""",
        {"w": draw(4, 3, 1, 1)},
    )
    result = move_transposes.run(model)
    names = [node.name for node in result.model.graph.node]
    assert op_counts(result.model)["Transpose"] == 2
    assert len(set(names)) == len(names)
    feeds = random_feeds(open_session(model).inputs, batch=2, seed=2)
    np.testing.assert_allclose(
        open_session(result.model)(feeds)["y"], reference(model, feeds)["y"], rtol=0, atol=1e-5
    )  # sums of 3 products


UNKNOWN = {
    "an operator along the last axis": between("r = Softmax (a) z = Relu (r)"),
    "a product of matrices": between("z = MatMul (a, k)", k=draw(4, 4)),
    "pads that are computed": between(
        "s = Shape (a) k = Sub (s, s) p = Concat <axis = 0> (k, k) z = Pad (a, p)"
    ),
    "a number for each that was computed": between("k = Exp (s) z = Mul (a, k)", s=CHANNELS),
    "more axes than the tensor has": build(
        f""" g (float[N,3,6,7] x) => (float[2,N,6,7,3] y) {{ e = Relu (x) a = {LAST} (e) y = Mul (a, s) }}""",
        {"s": draw(2, 1, 1, 1, 1)},
    ),
    "axes whose order would change": build(
        f""" g (float[N,3,6,7] x) => (float[N,6,3] y) {{
            e = Relu (x) a = {LAST} (e) y = ReduceSum <keepdims = 0> (a, k) }}""",
        {"k": [2]},
    ),
    "an operator set that does not broadcast": build(
        f""" g (float[2,3,6,7] x) => (float[2,3,6,7] y) {{ a = {LAST} (x) r = Add <broadcast = 1> (a, s) f = {FIRST} (r)
            y = Relu (f) }}""",
        {"s": draw(3)}, HEAD.replace("18", "6"),
    ),
    "two pictures of other layouts": build(
        f" g (float[N,3,6,6] x) => (float[N,6,6,3] y) {{ e = Relu (x) a = {LAST} (e) b = Softmax (a) y = Add (a, b) }}",
    ),
    "a sum with itself, transposed": build(
        """ g (float[4,4] x) => (float[4,4] y) { r = Exp (x) a = Transpose (r) s = Add (a, r) t = Transpose (s)
            y = Exp (t) }"""
    ),
    "the same cost, without a convolution": build(
        f" g (float[N,3,6,7] x) => (float[N,6,7,3] y) {{ e = Relu (x) a = {LAST} (e) y = Neg (a) }}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", UNKNOWN.values(), ids=UNKNOWN)
def test_left_alone(model: onnx.ModelProto) -> None:
    result = move_transposes.run(model)
    assert not result.modified, result.changes
    assert result.model == model


def test_transposes_never_become_more_or_larger() -> None:
    """Two convolutions read a sum that three others, channels last, read as well: to move it would take more."""
    text = f""" g (float[N,3,6,7] x) => (float[N,6,7,3] p, float[N,6,7,3] q, float[N,3,6,7] y) {{
        e = Relu (x) a = {LAST} (e) r = Add (a, s) t = Neg (r) p = Softmax (r) q = Softmax (t) y = {FIRST} (r) }}"""
    assert not move_transposes.run(build(text, {"s": draw(3)})).modified


def test_an_input_with_a_default_is_no_constant() -> None:
    """From IR version 4 on a caller may give other slopes: of the same rank they are transposed, else they stay."""
    text = " g (float[N,3,6,7] x, float[3] s = {1, 2, 3}) => (float[N,3,6,7] y)"
    model = build(f"{text} {{ a = {LAST} (x) r = Mul (a, s) f = {FIRST} (r) y = Relu (f) }}")
    assert not move_transposes.run(model).modified


def test_keras_blocks_lose_their_transposes() -> None:
    """A squeeze-and-excite block as tf2onnx writes it: one Transpose is left, at the input, and no norm."""
    text = f""" g (float[N,9,9,3] x) => (float[N,5] y) {{
        i = {FIRST} (x) c = Conv (i, w) a = {LAST} (c) m = Mul (a, s) n = Add (m, t)
        q = Add (n, three) h = Clip (q, zero, six) l = Mul (h, sixth) r = Mul (n, l)
        p = ReduceMean (r, axes) f = {FIRST} (p) d = Conv (f, v) e = {LAST} (d) g = Sigmoid (e)
        k = Mul (r, g) o = {FIRST} (k) u = Conv (o, v) z = {LAST} (u) j = ReduceMean <keepdims = 0> (z, axes)
        y = MatMul (j, wy) }}"""
    numbers = {"three": 3, "zero": 0, "six": 6, "sixth": 1 / 6}
    weights = {"w": draw(4, 3, 3, 3), "v": draw(4, 4, 1, 1), "wy": draw(4, 5), "s": CHANNELS, "t": draw(4, seed=1)}
    model = build(text, {**weights, "axes": [1, 2], **{k: np.float32(v) for k, v in numbers.items()}})
    done = simplified(model)
    counts = op_counts(done.model)
    assert counts["Transpose"] == counts["HardSwish"] == 1
    check(done, model, acts=True)


def test_open_sizes_stay_open() -> None:
    text = f""" g (float[N,H,W,3] x) => (float[N,H,W,4] y) {{ i = {FIRST} (x) c = Conv (i, w) a = {LAST} (c)
        r = Add (a, s) f = {FIRST} (r) d = Conv (f, v) y = {LAST} (d) }}"""
    model = build(text, {"w": draw(4, 3, 1, 1), "v": draw(4, 4, 1, 1), "s": CHANNELS})
    result = move_transposes.run(model)
    assert op_counts(result.model)["Transpose"] == 2
    for size in ((1, 5, 7, 3), (3, 2, 2, 3)):
        feeds = {"x": draw(*size)}
        want, got = (open_session(m, optimize=False)(feeds)["y"] for m in (model, result.model))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


STEPS = {
    "relu": "{o} = Relu ({i})",
    "channels": "{o} = Mul ({i}, k{last})",
    "all": "{o} = Add ({i}, full{perm})",
    "row": "{o} = Sub (row{last}, {i})",
    "with the first": "{o} = Add ({i}, {first})",
    "mean": "m{o} = ReduceMean ({i}, axis) {o} = Add (m{o}, {i})",
    "pad and cut": "p{o} = Pad ({i}, pads) {o} = Slice (p{o}, one, four, axis)",
    "join and cut": "j{o} = Concat <axis = 1> ({i}, {i}) {o}, z{o} = Split <axis = 1, num_outputs = 2> (j{o})",
    "turn": "{o} = Transpose <perm = {perms}> ({i})",
    "read twice": "n{o} = Neg ({i}) {o} = Max ({i}, n{o})",
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.permutations([0, 1, 2, 3])), min_size=3, max_size=12),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_random_chains_are_the_same_function(steps: list[tuple[str, list[int]]], seen: bool) -> None:
    """Cubes, whose sizes say nothing about where an axis went; Transposes do not become more. Oracle: unoptimized."""
    body, name = ["v0 = Relu (x)"], "v0"
    for place, (kind, perm) in enumerate(steps):
        made = f"v{place + 1}"
        fill = {"i": name, "o": made, "first": "v0", "last": perm[0] % 2, "perm": perm[0] % 2, "perms": perm}
        body.append(STEPS[kind].format(**fill))
        name = made
    outs = f"float[A,B,C,D] y{', float[A,B,C,D] v2' if seen else ''}"
    values = {
        "k0": draw(4), "k1": draw(4, 1), "row0": draw(4, 1, 1), "row1": draw(1, 4), "full0": draw(4, 4, 4, 4),
        "full1": draw(4, 4, 4, seed=1), "axis": [2], "pads": [0, 0, 1, 0, 0, 0, 2, 0], "one": [1], "four": [5],
    }  # fmt: skip
    model = build(f" g (float[4,4,4,4] x) => ({outs}) {{ {' '.join(body)} y = Exp ({name}) }}", values)
    result = move_transposes.run(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert op_counts(result.model).get("Transpose", 0) <= op_counts(model).get("Transpose", 0)
    assert not move_transposes.run(result.model).modified
    feeds = {"x": draw(4, 4, 4, 4) / 8}
    want, got = (open_session(m, optimize=False)(feeds) for m in (model, result.model))
    for tensor, value in want.items():
        np.testing.assert_allclose(got[tensor], value, rtol=1e-5, atol=1e-5)
