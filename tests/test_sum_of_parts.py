"""exporters/rewrites/sum_of_parts.py: split attention as additions, in float and in int8; what stays says why."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest

from exporters.graph import op_counts
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.rewrites import sum_of_parts
from pass_examples import build, draw
from pass_examples.sum_of_parts import ATTENTION, EXAMPLES, VALUES
from rewrite_tools import against_reference, check
from runtimes.parity import compare
from runtimes.session import open_session

ATTENDED = EXAMPLES["split attention"]


def model_of(body: str, outputs: str = "float[N,C,P,Q] y", **further: object) -> onnx.ModelProto:
    numbers: Mapping[str, object] = {
        "one": [1], "four": [-4], "two": [2], "both": [1, 2], "five": [-1, 3, 2, 4, 5], "more": [-1, 6, 1, 4, 5],
        "swapped": [-1, 3, 5, 4, 2], "alone": [-1, 1, 2, 1, 1], "nought": [0], **further,
    }  # fmt: skip
    values = {name: np.asarray(value) for name, value in numbers.items() if name in body}
    return build(f" g (float[N,6,4,5] x) => ({outputs}) {{ {body} }}", values)


def test_split_attention_is_the_same_function() -> None:
    result = sum_of_parts.run(ATTENDED)
    check(result, ATTENDED, acts=True)
    against_reference(ATTENDED, result.model, (2, 6, 4, 5))
    counts = op_counts(result.model)
    assert "ReduceSum" not in counts
    assert (counts["Add"], counts["Mul"], counts["Split"]) == (4, 3, 3)
    assert [change.node for change in result.changes] == ["net.s", "net.y"]


@pytest.mark.parametrize("axis", ["one", "four"])
def test_images_in_their_order(axis: str) -> None:
    model = model_of(f"p = Reshape (x, five) y = ReduceSum <keepdims = 0> (p, {axis})")
    result = sum_of_parts.run(model)
    check(result, model, acts=True)
    x = draw(2, 6, 4, 5)
    got = open_session(result.model, optimize=False)({"x": x})["y"]
    np.testing.assert_allclose(got, x[:, 0:2] + x[:, 2:4] + x[:, 4:6], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_the_fewest_parts_are_two(count: int) -> None:
    model = model_of(
        "p = Reshape (x, parts) y = ReduceSum <keepdims = 0> (p, one)", parts=[-1, count, 6 // count, 4, 5]
    )
    check(sum_of_parts.run(model), model, acts=True)


IMAGE = "float[N,C,P,Q] y"
SUM = "y = ReduceSum <keepdims = 0>"


@pytest.mark.parametrize(
    ("body", "output", "reason"),
    [
        (f"p = Reshape (x, five) {SUM} (p, two)", IMAGE, "other axes"),
        (f"p = Reshape (x, five) {SUM} (p, both)", "float[N,P,Q] y", "other axes"),
        ("p = Reshape (x, five) y = ReduceSum (p)", "float[N,R,C,P,Q] y", "other axes"),
        ("p = Reshape (x, five) y = ReduceSum (p, one)", "float[N,R,C,P,Q] y", "or keeps them"),
        (f"p = Reshape (x, swapped) {SUM} (p, one)", IMAGE, "no image in parts"),
        (f"p = Reshape (x, five) r = Relu (p) {SUM} (r, one)", IMAGE, "no image in parts"),
        (f"p = Reshape (x, five) m = Mul (p, half) {SUM} (m, one)", IMAGE, "no image in parts"),
        (
            f"p = Reshape (x, five) a = GlobalAveragePool (x) s = Slice (a, nought, two, one) b = Reshape (s, alone)"
            f" m = Mul (p, b) {SUM} (m, one)",
            IMAGE,
            "no image in parts",
        ),
        (f"i = Cast <to = 7> (x) p = Reshape (i, five) {SUM} (p, one)", "int64[N,C,P,Q] y", "not add up float32"),
    ],
)
def test_what_stays_says_why(body: str, output: str, reason: str) -> None:
    model = model_of(body, output, half=np.float32(0.5))
    result = sum_of_parts.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ("p = Reshape (x, more) y = ReduceSum <keepdims = 0> (p, one)", IMAGE),
        ("p = Reshape (x, flat) y = ReduceSum <keepdims = 0> (p, one)", "float[N,P,Q] y"),
        ("y = Relu (x)", IMAGE),
    ],
)
def test_what_is_no_short_sum_is_not_spoken_of(body: str, output: str) -> None:
    assert not sum_of_parts.run(model_of(body, output, flat=[-1, 3, 8, 5])).kept


def test_in_int8_the_sum_is_one_of_integers() -> None:
    images = [{"x": draw(1, 6, 4, 5, seed=i)} for i in range(8)]
    text = ATTENTION.replace("float[N,2,4,5] y", "float[N,3,4,5] z").replace("y = ReduceSum", "o = ReduceSum")
    model = build(text.replace("}", " z = Conv (o, wz) }"), {**VALUES, "wz": draw(3, 2, 1, 1)})
    plain, summed = (quantize_model(m, images, QuantRecipe()) for m in (model, sum_of_parts.run(model).model))
    assert not any("ReduceSum" in reason for _, reason in summed.float_nodes)
    assert any("ReduceSum" in reason for _, reason in plain.float_nodes)
    float_run = open_session(model)
    near = [compare(float_run, open_session(each.model), images).snr_db for each in (plain, summed)]
    assert near[1] > near[0] - 6 > 10
