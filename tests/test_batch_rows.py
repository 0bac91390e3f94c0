"""A batch as rows of one image, around 1x1 convolutions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import batch_rows
from rewrite_tools import check, conv_model


@given(
    outputs=st.integers(1, 6),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    batch=st.sampled_from(["N", 2, 5]),
    act=st.sampled_from(["", "Relu (c)"]),
)
@settings(max_examples=40, deadline=None)
def test_any_batch_and_size(outputs: int, size: tuple[int, int], batch: int | str, act: str) -> None:
    model = conv_model((3, *size), (outputs, 3, 1, 1), batch=batch, act=act)
    check(batch_rows.run(model), model, acts=1 < size[0] * size[1] <= 64)


@pytest.mark.parametrize(("image", "batch"), [((3, 4, 4), 1), ((3, "H", 4), "N")])
def test_what_is_refused_says_why(image: tuple[int, int, int], batch: int | str) -> None:
    model = conv_model(image, (4, 3, 1, 1), batch=batch)
    result = batch_rows.run(model)
    assert result.model == model
    assert "batch" in result.kept[0].reason


@pytest.mark.parametrize("settings", [{"strides": (2, 2)}, {"pads": (1, 1, 1, 1)}, {"group": 3}])
def test_only_convolutions_that_look_at_one_pixel(settings: dict[str, object]) -> None:
    model = conv_model((3, 4, 4), (3, 1 if "group" in settings else 3, 1, 1), **settings)
    assert batch_rows.run(model).model == model
