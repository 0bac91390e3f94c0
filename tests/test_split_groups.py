"""Wide groups as convolutions of their own: every shape, what is left alone; oracles: ONNX Runtime, the reference."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import op_counts
from exporters.rewrites import ORDER, split_groups
from pass_examples import build, draw
from rewrite_tools import against_reference, check, conv_model


@given(
    groups=st.integers(1, 9),
    inputs=st.sampled_from([1, 2, 4, 8]),
    outputs=st.sampled_from([8, 16, 18, 20]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    act=st.sampled_from(["", "Relu (c)", "Sigmoid (c)"]),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_grouped_convolution(
    groups: int,
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    pads: tuple[int, int, int, int],
    act: str,
    bias: bool,
) -> None:
    model = conv_model(
        (groups * inputs, 7, 6), (groups * outputs, inputs, *kernel), act=act, bias=bias, group=groups,
        strides=(stride, stride), dilations=(dilation, dilation), pads=pads,
    )  # fmt: skip
    fits = 1 < groups <= 8 and inputs % 4 == 0 and outputs >= 16 and outputs % 4 == 0
    check(split_groups.run(model), model, acts=fits)


def test_the_activation_goes_into_the_parts_and_every_node_has_a_name_of_its_own() -> None:
    model = conv_model((12, "H", 8), (48, 4, 3, 3), act="Relu (c)", group=3)  # type: ignore[arg-type]
    model.graph.node[0].name, model.graph.node[1].name = "layer/Conv", "layer/Relu"
    result = split_groups.run(model)
    assert [change.what for change in result.changes] == ["3 groups are 3 convolutions"]
    assert op_counts(result.model) == {"Split": 1, "Conv": 3, "Relu": 3, "Concat": 1}
    names = [node.name for node in result.model.graph.node]
    assert len(set(names)) == len(names)
    assert {"layer/Conv", "layer/Conv/1", "layer/Conv/2", "layer/Relu", "layer/Relu/2"} <= set(names)
    against_reference(model, result.model, (2, 12, 5, 8))


def test_an_activation_that_others_read_around_stays() -> None:
    text = "g (float[N,8,6,6] x) => (float[N,32,4,4] y) { c = Conv <group = 2> (x, w) s = Sigmoid (c) y = Mul (c, s) }"
    model = build(text, {"w": draw(32, 4, 3, 3)})
    result = split_groups.run(model)
    assert op_counts(result.model) == {"Split": 1, "Conv": 2, "Concat": 1, "Sigmoid": 1, "Mul": 1}
    check(result, model, acts=True)


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        (conv_model((8, 6, 6), (8, 1, 3, 3), group=8), []),  # depthwise
        (conv_model((8, 6, 6), (32, 8, 3, 3)), []),  # one group
        (conv_model((36, 6, 6), (144, 4, 3, 3), group=9), ["it has 9 groups, more than 8"]),
        (conv_model((8, 6, 6), (24, 4, 3, 3), group=2), ["its groups have 4 inputs and 12 outputs"]),
        (conv_model((4, 6, 6), (32, 2, 3, 3), group=2), ["its groups have 2 inputs and 16 outputs"]),
        (conv_model((8, 6, 6), (36, 4, 3, 3), group=2), ["its groups have 4 inputs and 18 outputs"]),
    ],
)
def test_left_alone(model: onnx.ModelProto, reasons: list[str]) -> None:
    result = split_groups.run(model)
    assert not result.modified
    assert [kept.reason for kept in result.kept] == reasons


def test_narrow_groups_are_made_wide_first() -> None:
    assert ORDER.index("widen_groups") < ORDER.index("split_groups")
