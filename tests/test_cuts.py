"""Conv -> cut -> Conv in int8: whatever the ends, it answers as the float graph whose tensors are rounded singly."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactly import exactly
from exporters.quantization.quantize import QuantRecipe, quantize_model
from pass_examples import draw
from rounded import rounded
from runtimes.base import Tensors
from runtimes.parity import compare
from runtimes.session import open_session
from small_nets import model

SHARING_DB = 12.0
"""Two bits: what a cut may lose on the grid of what it reads."""
FEEDS = [{"x": draw(1, 4, 6, 6, seed=i)} for i in range(6)]


def net(cut: str, **ends: float) -> onnx.ModelProto:
    """The first convolution makes -1 to 1, about; its output is read by a float node as well."""
    head = "g (float[1,4,6,6] x, float[1] t)" if "t0" in cut else "g (float[1,4,6,6] x)"
    text = f"""<ir_version: 9, opset_import: ["" : 18]> {head} => (float[1,4,6,6] y, float[1,4,6,6] z) {{
        a = Conv (x, w) z = Tanh (a) {cut if "b = " in cut else f"b = {cut}"} y = Conv (b, v)
    }}"""
    weights = {"w": draw(4, 4, 1, 1, seed=8) * np.float32(0.2), "v": draw(4, 4, 1, 1, seed=9)}
    return model(text, **weights, **{name: np.float32(end) for name, end in ends.items()})


def losses(made: onnx.ModelProto, feeds: list[Tensors]) -> tuple[float, float]:
    """(SNR in int8, SNR by rounding alone) of y, in dB."""
    reference = open_session(made, threads=1)
    int8 = exactly(quantize_model(made, feeds, QuantRecipe()).model)
    graphs = (open_session(int8, threads=1), open_session(rounded(made, feeds), threads=1, optimize=False))
    found = [compare(reference, graph, feeds).outputs[0].snr_db for graph in graphs]
    return found[0], found[1]


CUTS = {
    "ReLU": net("Relu (a)"),
    "0 to 6": net("Clip (a, low, high)", low=0, high=6),
    "1 to 6": net("Clip (a, low, high)", low=1, high=6),
    "2 to 6": net("Clip (a, low, high)", low=2, high=6),
    "-1 to 1": net("Clip (a, low, high)", low=-1, high=1),
    "-0.1 to 0.1": net("Clip (a, low, high)", low=-0.1, high=0.1),
    "from 0.5": net("Clip (a, low)", low=0.5),
    "to -0.5": net("Clip (a, , high)", high=-0.5),
    "to -3": net("Clip (a, , high)", high=-3),
    "Max, 0.3": net("Max (a, low)", low=0.3),
    "Min, -3": net("Min (high, a)", high=-3),
}


@pytest.mark.parametrize("name", CUTS)
def test_any_cut_answers_as_a_tensor_with_a_grid_of_its_own(name: str) -> None:
    int8, plain = losses(CUTS[name], FEEDS)
    assert int8 > min(plain, 60) - SHARING_DB


def test_an_end_that_is_an_input() -> None:
    feeds: list[Tensors] = [{**feed, "t": np.full(1, 0.2, np.float32)} for feed in FEEDS]
    int8, plain = losses(net("t0 = Squeeze (t) b = Clip (a, t0)"), feeds)
    assert int8 > plain - SHARING_DB


@given(low=st.floats(-4, 4), width=st.floats(0.05, 8), open_end=st.sampled_from(["", "low", "high"]))
@settings(max_examples=20, deadline=None)
def test_any_ends(low: float, width: float, open_end: str) -> None:
    ends = {name: end for name, end in (("low", low), ("high", low + width)) if name != open_end}
    places = ", ".join(name if name in ends else "" for name in ("low", "high"))
    int8, plain = losses(net(f"Clip (a, {places})", **ends), FEEDS)
    assert int8 > min(plain, 60) - SHARING_DB
