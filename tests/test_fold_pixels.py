"""Pixels as channels of narrow 1x1 convolutions: any size, odd ones refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import Graph
from exporters.rewrites import fold_pixels
from exporters.rewrites.fold_pixels import block_diagonal, fold_of
from graphs import parse
from rewrite_tools import against_reference, check, conv_model


@given(
    inputs=st.integers(1, 6),
    outputs=st.integers(1, 40),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    bias=st.booleans(),
    act=st.sampled_from(["", "Relu (c)", "Sigmoid (c)"]),
)
@settings(max_examples=60, deadline=None)
def test_any_size(inputs: int, outputs: int, size: tuple[int, int], bias: bool, act: str) -> None:
    model = conv_model((inputs, *size), (outputs, inputs, 1, 1), bias=bias, act=act)
    few = outputs < 16 or (outputs < 32 and outputs % 4 != 0)
    check(fold_pixels.run(model), model, acts=few and size[0] * size[1] % 2 == 0)


@pytest.mark.parametrize(
    ("outputs", "pixels", "fold"),
    [(2, 64, 8), (8, 64, 2), (4, 64, 4), (21, 64, 4), (2, 6, 2), (3, 7, 1), (1, 8, 8)],
)
def test_the_smallest_fold_that_serves(outputs: int, pixels: int, fold: int) -> None:
    assert fold_of(outputs, pixels) == fold


def test_the_head_of_a_segmenter() -> None:
    model = conv_model((5, 8, 8), (2, 5, 1, 1))
    result = fold_pixels.run(model)
    check(result, model, acts=True)
    against_reference(model, result.model, (3, 5, 8, 8))
    conv = next(n for n in result.model.graph.node if n.op_type == "Conv")
    weight = next(t for t in result.model.graph.initializer if t.name == conv.input[1])
    assert list(weight.dims) == [16, 40, 1, 1]


@pytest.mark.parametrize("settings", [{"strides": (2, 2)}, {"pads": (1, 1, 1, 1)}, {"group": 2}])
def test_only_plain_1x1_convolutions(settings: dict[str, object]) -> None:
    model = conv_model((4, 8, 8), (2, 4 // int(str(settings.get("group", 1))), 1, 1), **settings)
    assert fold_pixels.run(model).model == model


def test_odd_and_open_sizes_are_refused() -> None:
    for image in ((4, 3, 3), (4, "H", 8)):
        result = fold_pixels.run(conv_model(image, (2, 4, 1, 1)))  # type: ignore[arg-type]
        assert not result.changes
        assert "pixels" in result.kept[0].reason


def test_weights_by_hand() -> None:
    weight = np.float32([[1, 2]]).reshape(1, 2, 1, 1)
    np.testing.assert_array_equal(block_diagonal(weight, 2)[:, :, 0, 0], [[1, 2, 0, 0], [0, 0, 1, 2]])


def test_the_graph_is_indexed_as_often_for_many_convolutions_as_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    real = Graph.reindex

    def counting(graph: Graph) -> None:
        counts[-1] += 1
        real(graph)

    monkeypatch.setattr(Graph, "reindex", counting)
    for length in (1, 6):
        names = ["x", *(f"x{i}" for i in range(length))]
        lines = "\n".join(f"{made} = Conv ({read}, w)" for read, made in pairwise(names))
        model = parse(f"net (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] {names[-1]}) {{ {lines} }}", w=(2, 2, 1, 1))
        counts.append(0)
        result = fold_pixels.run(model)
        assert len(result.changes) == length
        against_reference(model, result.model, (2, 2, 4, 4))
    assert counts[0] == counts[1]
