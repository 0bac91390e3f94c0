"""exporters/passes/clip_of_bounds.py against ONNX Runtime's own Max and Min; to the last bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgecnn.float_passes import simplified
from exporters.base import PassResult
from exporters.graph import op_counts
from exporters.passes import clip_of_bounds
from exporters.torch_export import export_module
from pass_examples import build
from runtimes.session import open_session


def run(model: onnx.ModelProto) -> PassResult:
    """The pass on `model`; held to equal outputs on numbers around and at the ends, infinity among them."""
    result = clip_of_bounds.run(model)
    onnx.checker.check_model(result.model, full_check=True)
    x = np.array([[-np.inf, -2, -1, -0.5, 0], [0.25, 0.5, 1, 2, np.inf]], np.float32)
    left, right = (open_session(m, optimize=False)({"x": x}) for m in (model, result.model))
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name])
    return result


def net(body: str, outs: str = "float[N,5] y", **values: float) -> onnx.ModelProto:
    return build(
        f"g (float[N,5] x) => ({outs}) {{ {body} }}", {k: np.asarray(v, np.float32) for k, v in values.items()}
    )


DONE = {
    "both ends": (net("m = Max (x, a) y = Min (m, b)", a=-1, b=0.5), {"Clip": 1}),
    "numbers first": (net("m = Max (a, x) y = Min (b, m)", a=-1, b=0.5), {"Clip": 1}),
    "relu6": (net("m = Relu (x) y = Min (m, b)", b=0.5), {"Clip": 1}),
    "max 0": (net("y = Max (x, a)", a=0), {"Relu": 1}),
    "lower end": (net("y = Max (x, a)", a=0.25), {"Clip": 1}),
    "upper end": (net("y = Min (x, b)", b=0.25), {"Clip": 1}),
    "one number as a list": (net("y = Min (x, b)", b=[0.25]), {"Clip": 1}),
    "the lower end is read elsewhere too": (
        net("m = Max (x, a) y = Min (m, b) z = Neg (m)", "float[N,5] y, float[N,5] z", a=-1, b=0.5),
        {"Clip": 2, "Neg": 1},
    ),
    "ends that cross": (net("m = Max (x, a) y = Min (m, b)", a=1, b=-0.5), {"Clip": 2}),
    "the upper end first": (net("m = Min (x, b) y = Max (m, a)", a=-1, b=0.5), {"Clip": 2}),
}


@pytest.mark.parametrize(("model", "left"), DONE.values(), ids=DONE)
def test_bounds_are_a_clip(model: onnx.ModelProto, left: dict[str, int]) -> None:
    result = run(model)
    assert op_counts(result.model) == left
    assert not clip_of_bounds.run(result.model).modified


LEFT = {
    "two tensors": net("n = Neg (x) y = Max (x, n)"),
    "a number for each": net("y = Max (x, a)", a=[1, 2, 3, 4, 5]),
    "a number that adds an axis": net("y = Max (x, a)", "float[1,N,5] y", a=[[[0.5]]]),
    "three": net("n = Neg (x) y = Max (x, a, n)", a=0.5),
    "whole numbers": build(
        "g (float[N,5] x) => (float[N,5] y) { i = Not (b) c = Cast <to: int = 7> (i) m = Max (c, k) "
        "d = Cast <to: int = 1> (m) y = Add (x, d) }",
        {"b": np.True_, "k": np.int64(1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", LEFT.values(), ids=LEFT)
def test_left_alone(model: onnx.ModelProto) -> None:
    result = run(model)
    assert not result.modified
    assert result.model == model


def test_what_pytorch_writes_for_clamp() -> None:
    class Clamps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).clamp(0, 6)

    assert op_counts(simplified(export_module(Clamps().eval(), (3, 5, 5))).model) == {"Conv": 1, "Clip": 1}
