"""Sizes that do not depend on the batch, read off small graphs."""

from __future__ import annotations

import numpy as np

from exporters.sizes import fixed_sizes
from pass_examples import build, draw


def test_the_batch_is_open_and_the_rest_is_known() -> None:
    text = """ g (float[N,3,8,8] x) => (float[N,M] y) {
        c = Conv <strides: ints = [2,2]> (x, w)
        y = Reshape (c, s)
    }"""
    found = fixed_sizes(build(text, {"w": draw(4, 3, 3, 3), "s": [0, -1]}))
    assert found["x"] == (None, 3, 8, 8)
    assert found["c"] == (None, 4, 3, 3)
    assert found["y"] == (None, 36)
    assert found["w"] == (4, 3, 3, 3)


def test_a_size_that_holds_the_batch_is_open() -> None:
    text = "g (float[N,3,8,8] x) => (float[A,B,C,D] y) { y = Reshape (x, s) }"
    assert fixed_sizes(build(text, {"s": [1, -1, 8, 8]}))["y"] == (1, None, 8, 8)


def test_a_fixed_batch_is_fixed_and_open_images_stay_open() -> None:
    found = fixed_sizes(build("g (float[2,3,H,8] x) => (float[2,3,H,8] y) { y = Relu (x) }"))
    assert found["y"] == (2, 3, None, 8)


def test_sizes_computed_in_the_graph_are_followed() -> None:
    text = """ g (float[N,3,8,8] x) => (float[N,M] y) {
        shape = Shape (x)
        n = Gather <axis = 0> (shape, zero)
        t = Concat <axis = 0> (n, rest)
        y = Reshape (x, t)
    }"""
    assert fixed_sizes(build(text, {"zero": [0], "rest": [-1]}))["y"] == (None, 192)


def test_recorded_shapes_are_not_believed() -> None:
    model = build("g (float[N,3,8,8] x) => (float[N,3,8,8] y) { r = Relu (x) y = Neg (r) }")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 6
    assert fixed_sizes(model)["y"] == (None, 3, 6, 8)


def test_the_model_is_not_edited_and_large_weights_are_not_copied() -> None:
    model = build("g (float[N,64] x) => (float[N,64] y) { y = MatMul (x, w) }", {"w": np.ones((64, 64), np.float32)})
    before = model.SerializeToString()
    assert fixed_sizes(model)["y"] == (None, 64)
    assert model.SerializeToString() == before
