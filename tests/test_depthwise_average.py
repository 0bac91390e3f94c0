"""exporters/rewrites/depthwise_average.py against ONNX Runtime's pool and onnx.reference, in float and in int8."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.rewrites import depthwise_average
from pass_examples import build, draw
from rewrite_tools import against_reference, attributes_of, check
from runtimes.session import open_session


def model_of(shape: str = "N,8,7,9", **pool: object) -> onnx.ModelProto:
    return build(f" g (float[{shape}] x) => (float[N,C,P,Q] y) {{ y = AveragePool {attributes_of(**pool)} (x) }}")


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pad=st.integers(0, 1),
    counted=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_any_window(kernel: tuple[int, int], strides: tuple[int, int], pad: int, counted: bool) -> None:
    pad = min(pad, *(size - 1 for size in kernel))
    model = model_of(kernel_shape=kernel, strides=strides, pads=(pad,) * 4, count_include_pad=int(counted))
    result = depthwise_average.run(model)
    check(result, model, acts=counted or not pad)
    if result.modified:
        against_reference(model, result.model, (2, 8, 7, 9))


def test_the_node_keeps_its_name() -> None:
    result = depthwise_average.run(model_of(kernel_shape=(2, 3)))
    (node,) = result.model.graph.node
    assert (node.op_type, node.name) == ("Conv", "net.y")
    assert result.changes[0].what == "a depthwise 2x3 convolution"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (model_of(kernel_shape=(2, 2), ceil_mode=1), "ceil_mode"),
        (model_of(kernel_shape=(2, 2), pads=(1, 1, 1, 1)), "not counted"),
        (model_of("N,K,7,9", kernel_shape=(2, 2)), "channels is not known"),
        (
            build(" g (float[N,8,7] x) => (float[N,8,P] y) { y = AveragePool <kernel_shape: ints = [2]> (x) }"),
            "1-D float, not 2-D",
        ),
        (
            build(
                ' g (float[N,8,7,9] x) => (float[N,8,P,Q] y)'
                ' { y = AveragePool <kernel_shape: ints = [2,2], auto_pad: string = "SAME_UPPER"> (x) }'
            ),
            "automatic",
        ),
    ],
)  # fmt: skip
def test_what_stays_says_why(model: onnx.ModelProto, reason: str) -> None:
    result = depthwise_average.run(model)
    check(result, model, acts=False)
    assert reason in result.kept[0].reason


def test_in_int8_it_is_within_a_step_of_the_integer_pool() -> None:
    """The grid of equal weights is exact, so that both graphs round the same mean to the same grid."""
    text = """ g (float[N,16,8,8] x) => (float[N,16,4,4] y) {
        c = Conv (x, w)
        r = Relu (c)
        y = AveragePool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (r)
    }"""
    model = build(text, {"w": draw(16, 16, 1, 1)})
    images = [{"x": draw(1, 16, 8, 8, seed=i)} for i in range(8)]
    pooled, made = (
        quantize_model(each, images, QuantRecipe()).model for each in (model, depthwise_average.run(model).model)
    )
    assert [[n.op_type for n in graph.graph.node].count("Conv") for graph in (pooled, made)] == [1, 2]
    pool, convolution = open_session(pooled), open_session(made)
    answers = [(pool(image)["y"], convolution(image)["y"]) for image in images]
    step = float(np.diff(np.unique([a for a, _ in answers])).min())
    assert max(float(np.abs(a - b).max()) for a, b in answers) < 1.01 * step
