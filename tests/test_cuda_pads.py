"""Uneven pads made even: the same answers on odd sizes, strides and dilations; what need not change stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cuda_stand_in import require_gpu
from edgecnn.halving import half
from exporters.graph import attributes
from exporters.targets.cuda_pads import even_pads
from graphs import parse
from runtimes.base import Unavailable
from runtimes.session import open_session


def conv(settings: str, kernel: tuple[int, ...] = (4, 3, 3, 3)) -> onnx.ModelProto:
    return parse(f"g (float[N,3,H,W] x) => (float[N,4,P,Q] y) {{ y = Conv <{settings}> (x, w) }}", w=kernel)


@pytest.mark.parametrize("size", [(9, 12), (8, 7)])
@pytest.mark.parametrize(
    ("settings", "kernel", "pads"),
    [
        ("pads = [0, 0, 1, 1], strides = [2, 2]", (4, 4), [1, 1, 1, 1]),
        ("pads = [2, 1, 1, 1]", (4, 3), [2, 1, 2, 1]),
        ("pads = [2, 0, 0, 2], dilations = [2, 1], kernel_shape = [3, 3]", (4, 5), [2, 2, 2, 2]),
    ],
    ids=["TensorFlow", "one side", "dilated"],
)
def test_uneven_pads_become_even_and_answers_stay(
    settings: str, kernel: tuple[int, int], pads: list[int], size: tuple[int, int]
) -> None:
    model = conv(settings)
    before = model.SerializeToString()
    even = even_pads(model)
    assert model.SerializeToString() == before
    (node,) = even.graph.node
    assert (attributes(node)["pads"], tuple(attributes(node)["kernel_shape"])) == (pads, kernel)
    onnx.checker.check_model(even, full_check=True)
    feed = {"x": np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)}
    wanted, found = (open_session(each, threads=1)(feed)["y"] for each in (model, even))
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings", ["pads = [1, 1, 1, 1]", 'auto_pad = "SAME_UPPER"', "pads = [0, 0, 1, 0], dilations = [2, 2]"]
)
def test_others_stay(settings: str) -> None:
    """Even ones, those that ONNX Runtime works out itself, and those that no zero in the kernel can make even."""
    model = conv(settings)
    assert even_pads(model).graph.node == model.graph.node


def test_groups_and_shared_weights_keep_theirs() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,3,P,Q] y, float[N,3,R,S] z) {
        y = Conv <group = 3, pads = [0, 0, 1, 1]> (x, w)
        z = Conv <group = 3> (x, w)
    }"""
    model = parse(text, w=(3, 1, 3, 3))
    even = even_pads(model)
    feed = {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    before, after = (open_session(each, threads=1)(feed) for each in (model, even))
    assert all(np.allclose(after[name], before[name], rtol=1e-5, atol=1e-5) for name in before)


def test_a_float16_file_has_even_pads(tmp_path: Path) -> None:
    """It is for a GPU, wherever it was made."""
    onnx.save(conv("pads = [0, 0, 1, 1], strides = [2, 2]"), tmp_path / "m.onnx")
    half(tmp_path / "m.onnx", tmp_path / "h.onnx", input_shape="3,16,16", allow_slower=True)
    (node,) = (n for n in onnx.load(tmp_path / "h.onnx").graph.node if n.op_type == "Conv")
    assert attributes(node)["pads"] == [1, 1, 1, 1]


@pytest.mark.cuda
@pytest.mark.parametrize("options", ["", ":prefer_nhwc=1,use_tf32=1"])
def test_on_the_gpu_even_pads_run_and_uneven_ones_do_or_say_why(options: str) -> None:
    require_gpu()
    model = conv("pads = [0, 0, 1, 1], strides = [2, 2]", (4, 3, 3, 3))
    feed = {"x": np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)}
    wanted = open_session(model, threads=1)(feed)["y"]
    there = open_session(even_pads(model), f"cuda{options}", threads=1)(feed)["y"]
    assert np.allclose(there, wanted, rtol=1e-2, atol=1e-2)
    try:
        there = open_session(model, f"cuda{options}", threads=1)(feed)["y"]
    except Unavailable as error:
        pytest.xfail(f"cuDNN has no kernel for uneven pads: {error}")
    assert np.allclose(there, wanted, rtol=1e-2, atol=1e-2)
