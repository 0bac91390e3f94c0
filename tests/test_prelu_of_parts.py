"""A PRelu of two ReLUs: against ONNX Runtime on the parts, to the last bit; what only looks like one stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgecnn.float_passes import simplified
from exporters.graph import op_counts
from exporters.passes import prelu_of_parts
from pass_examples import build, draw
from pass_examples.prelu_of_parts import EXAMPLES, PARTS, SLOPES
from runtimes.session import open_session


@pytest.mark.parametrize("name", EXAMPLES)
def test_parts_are_one(name: str) -> None:
    model, result = EXAMPLES[name], prelu_of_parts.run(EXAMPLES[name])
    assert op_counts(result.model)["PRelu"] == 1
    assert not {"Relu", "Neg", "Mul", "Add", "Sub"} & set(op_counts(result.model))
    assert len(result.model.graph.initializer) == len(model.graph.initializer)
    size = (2, 5, 4) if "c" in {value.name for value in model.graph.input} else (2, 3, 8, 8)
    feeds = {model.graph.input[0].name: draw(*size)}
    want, got = (open_session(m, optimize=False)(feeds)["y"] for m in (model, result.model))
    np.testing.assert_array_equal(got, want)


def net(body: str, outs: str = "float[N,5,4] y", slopes: np.ndarray = SLOPES) -> onnx.ModelProto:
    return build(f" g (float[N,5,4] c) => ({outs}) {{ {body} }}", {"s": slopes})


LEFT = {
    "not of the negative": net("p = Relu (c) n = Exp (c) q = Relu (n) m = Mul (q, s) y = Add (p, m)"),
    "of two tensors": net("e = Exp (c) p = Relu (e) n = Neg (c) q = Relu (n) m = Mul (q, s) y = Add (p, m)"),
    "the product less the ReLU": net(f"{PARTS} m = Mul (q, s) y = Sub (m, p)"),
    "a part is an output": net(f"{PARTS} m = Mul (q, s) y = Add (p, m)", "float[N,5,4] y, float[N,5,4] q"),
    "from pixel to pixel": net(f"{PARTS} m = Mul (q, s) y = Add (p, m)", slopes=draw(5, 4)),
    "slopes that enlarge it": net(
        f"{PARTS} m = Mul (q, s) y = Add (p, m)", "float[2,N,5,4] y", draw(2, 1, 1, 1)
    ),
    "too steep": net(f"{PARTS} m = Mul (q, s) y = Add (p, m)", slopes=SLOPES * np.float32(4)),
}  # fmt: skip


@pytest.mark.parametrize("model", LEFT.values(), ids=LEFT)
def test_left_alone(model: onnx.ModelProto) -> None:
    result = prelu_of_parts.run(model)
    assert not result.modified
    assert result.model == model


def test_simplified_it_is_what_a_prelu_becomes() -> None:
    model = simplified(EXAMPLES["a slope for each channel"]).model
    assert op_counts(model) == {"Conv": 1, "Mul": 2, "Relu": 1, "Add": 1}


def test_a_product_with_minus_one_is_a_negative() -> None:
    parts = PARTS.replace("Neg (c)", "Mul (c, k)")
    text = f" g (float[N,5,4] c) => (float[N,5,4] y) {{ {parts} m = Mul (q, s) y = Add (p, m) }}"
    model = build(text, {"s": SLOPES, "k": np.float32(-1)})
    assert op_counts(prelu_of_parts.run(model).model) == {"PRelu": 1}
