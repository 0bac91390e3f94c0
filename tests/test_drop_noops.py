"""exporters/passes/drop_noops.py: what computes nothing goes, the outputs stay bit for bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from exporters.base import PassResult
from exporters.graph import op_counts
from exporters.passes import drop_noops
from runtimes.session import open_session, random_feeds


def build(body: str, outs: str = "float[N,4] y", opset: int = 17, **values: object) -> onnx.ModelProto:
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[N,4] x) => ({outs}) {{ {body} }}'
    )
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in values.items())
    return model


def run(model: onnx.ModelProto) -> PassResult:
    """The pass, held to what every result must be: valid, equal to the last bit, and finished."""
    before = model.SerializeToString()
    onnx.checker.check_model(model, full_check=True)
    result = drop_noops.run(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result.model, full_check=True)
    a, b = (open_session(m, optimize=False) for m in (model, result.model))
    feeds = random_feeds(a.inputs, batch=2, seed=1)
    left, right = a(feeds), b(feeds)
    assert list(left) == list(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])
    assert not drop_noops.run(result.model).modified
    assert result.modified or result.model == model
    return result


GONE = {  # body -> operators that stay
    "identity inside": (build("a = Relu (x) b = Identity (a) y = Neg (b)"), {"Relu": 1, "Neg": 1}),
    "identity of the input": (build("b = Identity (x) y = Neg (b)"), {"Neg": 1}),
    "identity of a constant": (build("b = Identity (k) y = Add (x, b)", k=np.ones(4)), {"Add": 1}),
    "identity before the output": (build("a = Relu (x) y = Identity (a)"), {"Relu": 1}),
    "a chain": (build("a = Relu (x) b = Identity (a) c = Dropout (b) y = Identity (c)"), {"Relu": 1}),
    "read twice": (build("b = Identity (x) c = Neg (b) y = Add (c, b)"), {"Neg": 1, "Add": 1}),
    "maker read elsewhere too": (
        build("a = Relu (x) y = Identity (a) z = Neg (a)", "float[N,4] y, float[N,4] z"),
        {"Relu": 1, "Neg": 1},
    ),
    "dropout at rest": (build("a = Dropout <ratio: float = 0.5> (x) y = Neg (a)", opset=10), {"Neg": 1}),
    "dropout with ratio": (build("a, mask = Dropout (x, r) y = Neg (a)", r=0.5), {"Neg": 1}),
    "dead nodes": (build("y = Neg (x) d = Relu (x) e = Neg (d)"), {"Neg": 1}),
    "unused tensors": (build("y = Neg (x)", k=np.ones(4)), {"Neg": 1}),
}


@pytest.mark.parametrize(("model", "left"), GONE.values(), ids=GONE)
def test_noops_go(model: onnx.ModelProto, left: dict[str, int]) -> None:
    result = run(model)
    assert op_counts(result.model) == left
    assert not result.kept
    assert {t.name for t in result.model.graph.initializer} <= {
        name for n in result.model.graph.node for name in n.input
    }


KEPT = {
    "input to output": (build("y = Identity (x)"), "input or a constant"),
    "constant to output": (build("y = Identity (k)", "float[4] y", k=np.ones(4)), "input or a constant"),
    "output to output": (build("y = Relu (x) z = Identity (y)", "float[N,4] y, float[N,4] z"), "itself an output"),
    "read by a body": (
        build("""i = Identity (x) k = Constant <value = bool {1}> ()
            y = If (k) <then_branch = t () => (float[N,4] a) { a = Neg (i) },
                        else_branch = e () => (float[N,4] b) { b = Abs (i) }>"""),
        "inside a body",
    ),
    "maker read by a body": (
        build("""m = Relu (x) y = Identity (m) k = Constant <value = bool {1}> ()
            z = If (k) <then_branch = t () => (float[N,4] a) { a = Neg (m) },
                        else_branch = e () => (float[N,4] b) { b = Abs (m) }>""", "float[N,4] y, float[N,4] z"),
        "inside a body",
    ),
    "mask is used": (
        build("a, mask = Dropout (x, r) y = Neg (a) z = Not (mask)", "float[N,4] y, bool[N,4] z", r=0.5),
        "mask is used",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "reason"), KEPT.values(), ids=KEPT)
def test_what_has_to_stay(model: onnx.ModelProto, reason: str) -> None:
    result = run(model)
    assert not result.modified
    assert reason in result.kept[0].reason


ACTIVE = {
    "training mode": build("t = Constant <value = bool {1}> () y = Dropout (x, r, t)", r=0.5),
    "training mode may be computed": build("t = Not (f) f0 = Neg (x) y = Dropout (f0, r, t)", r=0.5),
    "is_test left at 0": build("a = Neg (x) y = Dropout (a)", opset=6),
}
ACTIVE["training mode may be computed"].graph.initializer.append(numpy_helper.from_array(np.array(False), "f"))


@pytest.mark.parametrize("model", ACTIVE.values(), ids=ACTIVE)
def test_active_dropout_stays(model: onnx.ModelProto) -> None:
    """Every run of it differs, so the graphs are compared and not their outputs."""
    result = drop_noops.run(model)
    assert result.model == model
    assert "training mode" in result.kept[0].reason


def test_default_values_of_inputs_stay() -> None:
    model = build("y = Neg (x)", k=np.ones(4))
    model.graph.input.append(onnx.helper.make_tensor_value_info("k", 1, [4]))
    assert not run(model).modified
