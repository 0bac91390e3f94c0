"""exporters/passes/cast_constants.py against ONNX Runtime's own CastLike."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from exporters.base import PassResult
from exporters.graph import op_counts
from exporters.passes import cast_constants
from exporters.quantization.placement import plan
from pass_examples import build, draw
from runtimes.session import open_session, random_feeds


def run(model: onnx.ModelProto) -> PassResult:
    result = cast_constants.run(model)
    onnx.checker.check_model(result.model, full_check=True)
    sessions = [open_session(m, optimize=False) for m in (model, result.model)]
    feeds = random_feeds(sessions[0].inputs, batch=2, seed=1)
    left, right = (session(feeds) for session in sessions)
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name])
    return result


def net(body: str, outs: str = "float[N,4] y", **values: object) -> onnx.ModelProto:
    return build(f"g (float[N,4] x) => ({outs}) {{ {body} }}", values)


@pytest.mark.parametrize("value", [np.int64(-3), np.float32(0.5), np.float64(0.1), np.array([1, 2, 3, 4]), np.True_])
def test_a_constant_is_cast_once_and_for_all(value: np.ndarray) -> None:
    assert op_counts(run(net("c = CastLike (k, x) y = Add (x, c)", k=value)).model) == {"Add": 1}


def test_a_constant_node_counts_too() -> None:
    body = "k = Constant <value_float: float = 0.25> () c = CastLike (k, x) y = Mul (x, c)"
    assert op_counts(run(net(body)).model) == {"Mul": 1}


KEPT = {
    "not constant": net("c = CastLike (x, k) y = CastLike (c, x)", k=np.int64(1)),
    "an output": net("y = CastLike (k, x)", "float y", k=np.int64(2)),
    "more than the type holds": net("i = Cast <to: int = 3> (x) c = CastLike (k, i) y = Cast <to: int = 1> (c)",
                                    "float y", k=np.int64(300)),
}  # fmt: skip


@pytest.mark.parametrize("model", KEPT.values(), ids=KEPT)
def test_left_alone(model: onnx.ModelProto) -> None:
    result = cast_constants.run(model)
    assert not result.modified
    assert result.model == model


def test_a_clip_with_such_ends_belongs_to_its_convolution() -> None:
    model = build(
        """g (float[N,4,8,8] x) => (float[N,4,8,8] y) {
            c = Conv (x, w) a = CastLike (low, c) b = CastLike (high, c) d = Clip (c, a, b) y = Conv (d, w)
        }""",
        {"w": draw(4, 4, 1, 1), "low": np.int64(-1), "high": np.int64(2)},
    )
    assert "d" not in plan(model).made_by_int8
    assert "d" in plan(cast_constants.run(model).model).made_by_int8
