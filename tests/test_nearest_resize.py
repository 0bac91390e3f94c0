"""Nearest upsampling as copies is bit-exact; every combination that reads other pixels is refused."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import nearest_resize
from pass_examples import build, draw
from rewrite_tools import reference
from runtimes.session import open_session

PLACES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def resize(
    image: tuple[int, ...], scales: tuple[float, float], place: str = "asymmetric", rounding: str = "floor"
) -> onnx.ModelProto:
    sizes = ",".join(map(str, image))
    text = f""" g (float[N,{sizes}] x) => (float[N,C,H,W] y) {{
        y = Resize <mode = "nearest", coordinate_transformation_mode = "{place}", nearest_mode = "{rounding}"> (x, , s)
    }}"""
    return build(text, {"s": np.float32([1, 1, *scales])})


def equal(before: onnx.ModelProto, after: onnx.ModelProto, image: tuple[int, ...]) -> None:
    onnx.checker.check_model(after, full_check=True)
    for batch in (1, 3):
        feeds = {"x": draw(batch, *image)}
        want = [open_session(m, optimize=False, threads=1)(feeds)["y"] for m in (before, after)]
        np.testing.assert_array_equal(*want)


@given(
    factors=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    image=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
)
@settings(max_examples=40, deadline=None)
def test_whole_factors_are_copies(factors: tuple[int, int], image: tuple[int, int, int]) -> None:
    model = resize(image, factors)
    result = nearest_resize.run(model)
    assert bool(result.changes) == (max(factors) > 1)
    equal(model, result.model, image)
    np.testing.assert_array_equal(
        reference(model, {"x": draw(2, *image)})["y"], open_session(result.model)({"x": draw(2, *image)})["y"]
    )


@pytest.mark.parametrize(("place", "rounding", "factor"), [*itertools.product(PLACES, ROUNDINGS, (2, 3))])
def test_every_way_to_round_is_equal_or_refused(place: str, rounding: str, factor: int) -> None:
    """And what torch writes is not refused."""
    image = (2, 3, 5)
    model = resize(image, (factor, factor), place, rounding)
    result = nearest_resize.run(model)
    equal(model, result.model, image)
    if (place, rounding) in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
        assert result.changes
    if place == "align_corners":
        assert not result.changes


@pytest.mark.parametrize(
    ("image", "scales", "reason"),
    [((2, 4, 4), (1.5, 2), "whole factors"), ((2, 4, 4), (0.5, 0.5), "whole factors"), ((2, "H", 4), (2, 2), "fixed")],
)
def test_what_is_refused_says_why(image: tuple[int, ...], scales: tuple[float, float], reason: str) -> None:
    model = resize(image, scales)
    result = nearest_resize.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_linear_is_refused_and_sizes_serve_as_well_as_scales() -> None:
    text = """ g (float[1,2,3,3] x) => (float[1,2,6,6] y, float[1,2,6,6] z) {
        y = Resize <mode = "linear"> (x, , s)
        z = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , , t)
    }"""
    model = build(text, {"s": np.float32([1, 1, 2, 2]), "t": [1, 2, 6, 6]})
    result = nearest_resize.run(model)
    assert [(k.node, k.reason) for k in result.kept] == [("net.y", "its mode is linear, not nearest")]
    assert [c.node for c in result.changes] == ["net.z"]
    feeds = {"x": draw(1, 2, 3, 3)}
    want, got = (open_session(m, optimize=False)(feeds)["z"] for m in (model, result.model))
    np.testing.assert_array_equal(want, got)


@pytest.mark.parametrize(("scales", "acts"), [((2.2, 2.2), False), ((2, 2.3), False), ((2, 2), True)])
def test_scales_that_are_not_whole_are_not_the_factor_of_the_sizes(scales: tuple[float, float], acts: bool) -> None:
    """2.2 times 3 pixels are 6 of them, and not those that 2 times 3 are."""
    model = resize((1, 3, 3), scales)
    result = nearest_resize.run(model)
    equal(model, result.model, (1, 3, 3))
    assert bool(result.changes) == acts
    if not acts:
        assert result.kept[0].reason == "its scales are not the whole factors that its sizes are"


@pytest.mark.parametrize("scales", [(2.2, 2), (3, 2)])
def test_scales_of_named_axes(scales: tuple[float, float]) -> None:
    text = """ g (float[N,1,3,3] x) => (float[N,C,H,W] y) {
        y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor",
                    axes: ints = [3, 2]> (x, , s) }"""
    model = build(text, {"s": np.float32(scales)})
    result = nearest_resize.run(model)
    equal(model, result.model, (1, 3, 3))
    assert bool(result.changes) == (scales[0] == 3)


def test_sizes_that_keep_the_aspect_ratio_are_refused() -> None:
    text = """ g (float[1,1,3,3] x) => (float[1,1,H,W] y) {
        y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor",
                    axes: ints = [2, 3], keep_aspect_ratio_policy = "not_larger"> (x, , , t) }"""
    model = build(text, {"t": [6, 9]})
    assert nearest_resize.run(model).model == model
