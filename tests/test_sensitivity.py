"""Sensitive layers are found by measuring them, and the fewest go back to float."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.quantization.quantize import QuantRecipe
from exporters.quantization.sensitivity import fewest, rank
from exporters.quantization.work import Work, start
from runtimes.session import open_session
from small_nets import model

NET = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N,8,8,8] x) => (float[N,4] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    r = Relu (a)
    b = Conv (r, w2)
    c = Conv (b, w3)
    p = GlobalAveragePool (c)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, v)
}
"""


def net() -> onnx.ModelProto:
    """In front of the second convolution one channel is 4,096 times as large as the others, behind it none is."""
    draw = np.random.default_rng(0).normal
    w1, w2 = draw(size=(8, 8, 3, 3)), draw(size=(8, 8, 1, 1))
    w1[0] *= 4096
    w2[:, 0] /= 4096
    values = {"w1": w1, "w2": w2, "w3": draw(size=(8, 8, 1, 1)), "v": draw(size=(4, 8))}
    return model(NET, **{k: v.astype(np.float32) for k, v in values.items()})


@pytest.fixture(scope="module")
def images() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(1, 8, 8, 8)).astype(np.float32)} for _ in range(6)]


@pytest.fixture(scope="module")
def work(images: list[dict[str, np.ndarray]]) -> Work:
    return start(net(), QuantRecipe(), images)


def test_the_layers_at_a_ruined_grid_are_the_most_sensitive(work: Work, images: list[dict[str, np.ndarray]]) -> None:
    found = rank(work, open_session(work.model), images[:3], lambda: 1.0).layers
    assert sorted(s.node for s in found) == ["Conv_a", "Conv_b", "Conv_c", "Gemm_y"]
    assert {found[0].node, found[1].node} == {"Conv_a", "Conv_b"}, "one writes the ruined grid, one reads it"
    assert found[1].snr_db is not None
    assert found[2].snr_db is not None
    assert found[1].snr_db < found[2].snr_db - 10
    assert [s.snr_db for s in found] == sorted(s.snr_db for s in found)


def test_layers_without_a_name_go_back_to_float_too(images: list[dict[str, np.ndarray]]) -> None:
    nameless = net()
    for node in nameless.graph.node:
        node.name = ""
    ranked, work = rank(start(nameless, QuantRecipe(), images), open_session(nameless), images[:3], lambda: 1.0)
    assert {ranked[0].node, ranked[1].node} == {"a", "b"}
    assert [s.node for s in ranked if s.snr_db is None] == []
    assert {"a", "b"} <= set(dict(work.floated(["a", "b"]).quantized().float_nodes))


def test_layers_without_time_come_last(work: Work, images: list[dict[str, np.ndarray]]) -> None:
    left = iter([1.0, 1.0, 0.0, 0.0])
    found = rank(work, open_session(work.model), images[:1], lambda: next(left)).layers
    assert [s.snr_db is None for s in found] == [False, False, True, True]
    assert [s.node for s in found[2:]] == ["Conv_c", "Gemm_y"]


@given(st.integers(1, 60), st.integers(0, 70))
def test_the_fewest_is_found_in_few_questions(count: int, needed: int) -> None:
    asked: list[int] = []

    def holds(k: int) -> bool:
        asked.append(k)
        return k >= needed

    found = fewest(count, holds)
    assert found == (None if needed > count else max(needed, 1))
    assert len(asked) <= count.bit_length() + 2
    assert len(set(asked)) == len(asked)
