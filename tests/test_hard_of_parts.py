"""HardSigmoid and HardSwish of parts: against onnx.reference, within the bound; what only looks like them stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from torch import nn

from edgecnn.float_passes import simplified
from exporters.graph import op_counts
from exporters.passes import hard_of_parts
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.torch_export import export_module
from pass_examples import HEAD, build, draw
from pass_examples.hard_of_parts import CLIP, EXAMPLES, NUMBERS
from rewrite_tools import reference
from runtimes.session import open_session

MADE = {
    "hardswish before operator set 14": {"Conv": 1, "HardSigmoid": 1, "Mul": 1},
    **{name: {"Conv": 1, "HardSigmoid": 1} for name in EXAMPLES if name.startswith("hardsigmoid")},
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_parts_are_one(name: str) -> None:
    result = hard_of_parts.run(EXAMPLES[name])
    assert op_counts(result.model) == MADE.get(name, {"Conv": 1, "HardSwish": 1})
    assert {t.name for t in result.model.graph.initializer} == {"w"}


def test_every_number_is_within_the_bound() -> None:
    """Oracle: onnx.reference; around and far behind both ends."""
    text = f" g (float[N] c) => (float[N] y) {{ {CLIP} y = Mul (h, sixth) }}"
    model = build(text, {**{k: v for k, v in NUMBERS.items() if k in text}, "sixth": np.float32(1 / 6)})
    result = hard_of_parts.run(model)
    x = np.concatenate([np.linspace(-4, 4, 4001), [-np.inf, -1e30, 1e30, np.inf, 3, -3]]).astype(np.float32)
    want, got = reference(model, {"c": x})["y"], open_session(result.model, optimize=False)({"c": x})["y"]
    assert np.abs(got - want).max() <= result.changes[0].bound


def net(body: str, outs: str = "float[N,4,5] y", **values: object) -> onnx.ModelProto:
    return build(f" g (float[N,4,5] c) => ({outs}) {{ {body} }}", {**NUMBERS, "sixth": np.float32(1 / 6), **values})


LEFT = {
    "another number": net("a = Add (c, three) h = Clip (a, zero, six) y = Mul (h, n)", n=np.float32(0.2)),
    "another end": net("a = Add (c, three) h = Clip (a, zero, n) y = Mul (h, sixth)", n=np.float32(5)),
    "another sum": net("a = Add (c, n) h = Clip (a, zero, six) y = Mul (h, sixth)", n=np.float32(2)),
    "a ReLU6 of a sum": net("a = Add (c, three) y = Clip (a, zero, six)"),
    "a product of two others": net(f"r = Relu (c) {CLIP} y = Mul (r, h)"),
    "a square": net(f"{CLIP} y = Mul (h, h)"),
    "six over the clip": net(f"{CLIP} y = Div (six, h)"),
    "a number for each": net("a = Add (c, n) h = Clip (a, zero, six) y = Mul (h, sixth)", n=np.float32([3] * 4 + [2])),
    "numbers that enlarge it": net(
        "a = Add (c, n) h = Clip (a, zero, six) y = Mul (h, sixth)", "float[2,N,4,5] y", n=np.full((2, 1, 1, 1), 3, "f")
    ),
    "the clip is an output": net(f"{CLIP} y = Mul (h, sixth)", "float[N,4,5] y, float[N,4,5] h"),
    "the sum is an output": net(f"{CLIP} y = Mul (h, sixth)", "float[N,4,5] y, float[N,4,5] a"),
    "the sixth part is read": net(
        "s = Div (c, six) a = Add (half, s) y = Clip (a, zero, one) z = Neg (s)", "float[N,4,5] y, float[N,4,5] z"
    ),
    "an operator set that does not broadcast": build(
        " g (float[2,3] c) => (float[2,3] y) { a = Add <broadcast: int = 1> (c, three) "
        "h = Clip <min = 0.0, max = 6.0> (a) y = Div <broadcast: int = 1> (h, six) }",
        {"three": np.float32([3]), "six": np.float32([6])},
        HEAD.replace("18", "6"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", LEFT.values(), ids=LEFT)
def test_left_alone(model: onnx.ModelProto) -> None:
    result = hard_of_parts.run(model)
    assert not result.modified
    assert result.model == model


def test_a_gate_that_two_read_is_a_hardsigmoid() -> None:
    model = net(f"{CLIP} s = Mul (h, sixth) y = Mul (c, s) z = Neg (s)", "float[N,4,5] y, float[N,4,5] z")
    assert op_counts(hard_of_parts.run(model).model) == {"HardSigmoid": 1, "Mul": 1, "Neg": 1}


def test_the_int8_form_finds_it() -> None:
    """Conv -> parts -> Conv: nothing between the two is left in float."""
    text = f""" g (float[N,3,8,8] x) => (float[N,5,6,6] z) {{
        c = Conv (x, w) {CLIP} s = Mul (h, sixth) y = Mul (c, s) z = Conv (y, v) }}"""
    model = simplified(build(text, {"w": draw(4, 3, 3, 3), "v": draw(5, 4, 1, 1), **NUMBERS})).model
    feeds = [{"x": draw(1, 3, 8, 8, seed=i)} for i in range(4)]
    assert quantize_model(model, feeds, QuantRecipe()).float_nodes == ()


def test_what_pytorch_writes_for_relu6_of_a_sum() -> None:
    class Old(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):  # type: ignore[no-untyped-def]
            y = self.conv(x)
            return y * nn.functional.relu6(y + 3) / 6

    assert op_counts(simplified(export_module(Old().eval(), (3, 5, 5))).model) == {"Conv": 1, "HardSwish": 1}
