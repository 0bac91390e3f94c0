"""`ceil_mode` goes where it rounds nothing, and only there; what waited for that acts."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.float_passes import run_pass
from exporters.graph import attributes
from exporters.passes import whole_windows
from exporters.rewrites import depthwise_average, relu_before_pool
from pass_examples import build, draw
from rewrite_tools import attributes_of, check
from runtimes.session import open_session


def model_of(shape: str = "N,2,7,9", op: str = "AveragePool", **pool: object) -> onnx.ModelProto:
    return build(f" g (float[{shape}] x) => (float[N,C,P,Q] y) {{ y = {op} {attributes_of(ceil_mode=1, **pool)} (x) }}")


@given(
    op=st.sampled_from(["AveragePool", "MaxPool"]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
)
@settings(max_examples=80, deadline=None)
def test_it_goes_exactly_where_the_last_window_ends_at_the_edge(
    op: str,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, ...],
) -> None:
    pads = tuple(min(pad, kernel[i % 2] - 1) for i, pad in enumerate(pads))
    further = {"dilations": dilations} if op == "MaxPool" else {}
    model = model_of(op=op, kernel_shape=kernel, strides=strides, pads=pads, **further)
    without = onnx.ModelProto()
    without.CopyFrom(model)
    next(a for a in without.graph.node[0].attribute if a.name == "ceil_mode").i = 0
    feeds = {"x": draw(1, 2, 7, 9)}
    sizes = [open_session(each, optimize=False)(feeds)["y"].shape for each in (model, without)]
    reach = [d * (k - 1) + 1 for d, k in zip(dilations if op == "MaxPool" else (1, 1), kernel, strict=True)]
    ends = [(n - 1) * s + r for n, s, r in zip(sizes[1][2:], strides, reach, strict=True)]
    whole = ends == [7 + pads[0] + pads[2], 9 + pads[1] + pads[3]]
    result = whole_windows.run(model)
    check(result, model, acts=whole)
    assert not whole or sizes[0] == sizes[1]
    assert ("ceil_mode" in attributes(result.model.graph.node[0])) != whole


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (model_of("N,2,8,9", kernel_shape=(3, 3), strides=(2, 2)), "cut off by 1"),
        (model_of("N,2,H,9", kernel_shape=(3, 3), strides=(2, 2)), "not fixed"),
        (model_of(kernel_shape=(3, 3), strides=(2, 2), auto_pad='"SAME_UPPER"'), "automatic"),
    ],
)
def test_what_stays_says_why(model: onnx.ModelProto, reason: str) -> None:
    result = whole_windows.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_what_waited_for_it_acts() -> None:
    pool = attributes_of(ceil_mode=1, kernel_shape=(3, 3), strides=(2, 2))
    text = f""" g (float[N,3,9,9] x) => (float[N,4,2,2] y) {{
        c = Conv (x, w) m = MaxPool {pool} (c) r = Relu (m)
        a = AveragePool {attributes_of(ceil_mode=1, kernel_shape=(2, 2), strides=(2, 2))} (r) y = Relu (a) }}"""
    model = build(text, {"w": draw(4, 3, 1, 1)})
    passes = (relu_before_pool.run, depthwise_average.run)
    assert not any(run(model).modified for run in passes)
    simple, _ = run_pass("simplify", model)
    assert all(run(simple).modified for run in passes)
