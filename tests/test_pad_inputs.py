"""Input channels padded to four: every size and kernel, open sizes too."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import pad_inputs
from pass_examples import build, draw
from rewrite_tools import against_reference, check, conv_model


@given(
    channels=st.integers(1, 9),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_first_convolution(
    channels: int, kernel: tuple[int, int], stride: int, pads: tuple[int, int, int, int], bias: bool
) -> None:
    weight = (2, channels, *kernel)
    model = conv_model((channels, 7, 6), weight, bias=bias, strides=(stride, stride), pads=pads)
    check(pad_inputs.run(model), model, acts=channels % 4 != 0)


def test_open_sizes_are_fine() -> None:
    model = conv_model((3, "H", 8), (4, 3, 3, 3))  # type: ignore[arg-type]
    result = pad_inputs.run(model)
    assert result.changes
    against_reference(model, result.model, (2, 3, 9, 8))


def test_only_convolutions_that_read_an_input_of_the_model() -> None:
    text = "g (float[N,3,8,8] x) => (float[N,2,8,8] y) { r = Relu (x) y = Conv (r, w) }"
    result = pad_inputs.run(build(text, {"w": draw(2, 3, 1, 1)}))
    assert not result.changes
    assert not result.kept


def test_groups_are_refused() -> None:
    result = pad_inputs.run(conv_model((3, 8, 8), (3, 1, 3, 3), group=3))
    assert not result.changes
    assert result.kept[0].reason == "it has 3 groups"
