"""exporters/fold/{scope,shapes}.py: folds inside If, Loop and Scan, what they capture, and shapes without weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporters.fold import shapes as shapes_module
from exporters.fold.scope import Scope, names_within
from exporters.fold.shapes import inferred
from exporters.graph import op_counts
from exporters.passes import fold_batchnorm
from fold_graphs import BN, SQUARE, build, check_fold, execute, statistics

X, Y = "float[N,4,6,6] x", "float[N,4,6,6] y"
INNER = f"c = Conv(x, w) a = {BN % 'c'}"
IF = """g (bool k, float[2,4,6,6] x) => (float[2,4,6,6] y) {{ {before}
    y = If (k) <then_branch = t () => (float[2,4,6,6] a) {{ {then} }},
                else_branch = e () => (float[2,4,6,6] b) {{ {other} }}> }}"""


def branches(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    node = next(n for n in model.graph.node if n.op_type == "If")
    return [a.g for a in sorted(node.attribute, key=lambda a: a.name, reverse=True)]


def both_ways(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Either branch gives what it gave."""
    for way in (True, False):
        feeds = {"k": np.array(way)}
        for a, b in zip(execute(before, **feeds), execute(after, **feeds), strict=True):
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-5, err_msg="ten roundings of numbers up to 10")


def test_both_branches_fold_with_weights_from_outside() -> None:
    text = IF.format(before="", then=INNER, other=f"d = Conv(x, w) b = {BN % 'd'}")
    model = build(text, w=SQUARE, **statistics(4))
    result = fold_batchnorm.run(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert len(result.changes) == 2
    assert [[n.op_type for n in g.node] for g in branches(result.model)] == [["Conv"], ["Conv"]]
    assert not result.model.graph.initializer, "what nobody reads any more is gone outside, too"
    both_ways(model, result.model)
    assert not fold_batchnorm.run(result.model).modified


def test_a_weight_that_another_branch_reads_stays_as_it_is() -> None:
    text = IF.format(before="", then=INNER, other="b = Conv(x, w)")
    model = build(text, w=SQUARE, **statistics(4))
    result = fold_batchnorm.run(model)
    assert [t.name for t in result.model.graph.initializer] == ["w"]
    np.testing.assert_array_equal(numpy_helper.to_array(result.model.graph.initializer[0]), SQUARE)
    both_ways(model, result.model)


def test_new_names_are_new_everywhere() -> None:
    """The name that the folded weight would get is taken in the other branch, and outside."""
    text = IF.format(before="w_folded = Neg(x)", then=INNER, other="w_bias = Add(x, w_folded) b = Conv(w_bias, w)")
    model = build(text, w=SQUARE, **statistics(4))
    for node in model.graph.node[0], *branches(model)[1].node:
        for names in (node.input, node.output):
            names[:] = [name.replace("_", ".") for name in names]
    result = fold_batchnorm.run(model)
    every = [t.name for g in branches(result.model) for t in g.initializer] + ["w.folded", "w.bias"]
    assert len(set(every)) == len(every) == 4
    both_ways(model, result.model)


def test_a_fold_outside_leaves_what_a_body_reads() -> None:
    text = IF.format(before=f"c = Conv(x, w) n = {BN % 'c'}", then="a = Conv(n, w)", other="b = Conv(x, w)")
    model = build(text, w=SQUARE, **statistics(4))
    result = fold_batchnorm.run(model)
    assert op_counts(result.model) == {"Conv": 1, "If": 1}
    both_ways(model, result.model)


KEPT = {
    "the convolution is outside": ("c = Conv(x, w)", f"a = {BN % 'c'}", "made outside its body"),
    "the statistics are computed outside": ("q = Relu(m)", "c = Conv(x, w) a = BatchNormalization(c, s, h, q, v)",
                                            "mean is not constant"),
    "the weight is computed outside": ("u = Relu(w)", f"c = Conv(x, u) a = {BN % 'c'}", "weight of c is not constant"),
    "the convolution is a result of the body": ("", f"a = Conv(x, w) unused = {BN % 'a'}", "also an output"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "then", "reason"), KEPT.values(), ids=KEPT)
def test_kept_inside_with_the_reason(before: str, then: str, reason: str) -> None:
    model = build(IF.format(before=before, then=then, other="b = Neg(x)"), w=SQUARE, **statistics(4))
    result = fold_batchnorm.run(model)
    assert not result.modified
    assert [reason in entry.reason for entry in result.kept] == [True]


def test_a_weight_that_a_caller_may_override_is_none_inside_either() -> None:
    model = build(IF.format(before="", then=INNER, other="b = Neg(x)"), w=SQUARE, **statistics(4))
    model.graph.input.append(helper.make_tensor_value_info("w", 1, SQUARE.shape))
    result = fold_batchnorm.run(model)
    assert not result.modified
    assert "weight of c is not constant" in result.kept[0].reason


LOOP = f"""g (float[2,4,6,6] x) => (float[2,4,6,6] y) {{
    n = Constant <value = int64 {{3}}> () go = Constant <value = bool {{1}}> ()
    y = Loop (n, go, x) <body = b (int64 i, bool on, float[2,4,6,6] s0) => (bool still, float[2,4,6,6] s1) {{
        still = Identity(on) c = Conv(s0, w) s1 = {BN % "c"} }}> }}"""
SCAN = f"""g (float[2,3,4,6,6] x) => (float[2,3,4,6,6] y) {{
    y = Scan <num_scan_inputs: int = 1, body = b (float[3,4,6,6] part) => (float[3,4,6,6] r) {{
        c = Conv(part, w) r = {BN % "c"} }}> (x) }}"""


@pytest.mark.parametrize("text", [LOOP, SCAN], ids=["Loop", "Scan"])
def test_loops_and_scans(text: str) -> None:
    check_fold(build(text, w=SQUARE, **statistics(4)), folded=1)


def test_a_loop_that_carries_its_weight_keeps_it() -> None:
    text = f"""g ({X.replace("N", "2")}) => (float[2,4,6,6] y, float[4,4,1,1] u) {{
        n = Constant <value = int64 {{3}}> () go = Constant <value = bool {{1}}> ()
        y, u = Loop (n, go, x, w) <body = b (int64 i, bool on, float[2,4,6,6] s0, float[4,4,1,1] w0)
            => (bool still, float[2,4,6,6] s1, float[4,4,1,1] w1)
            {{ still = Identity(on) c = Conv(s0, w0) s1 = {BN % "c"} w1 = Neg(w0) }}> }}"""
    result = check_fold(build(text, w=SQUARE, **statistics(4)), folded=0, kept=1)
    assert "weight of c is not constant" in result.kept[0].reason


def test_a_body_in_a_body() -> None:
    inner = f"z = If (k) <then_branch = p () => (float[2,4,6,6] a1) {{ c = Conv(x, w) a1 = {BN % 'c'} }}, " \
            "else_branch = q () => (float[2,4,6,6] a2) { a2 = Conv(x, w) }> a = Conv(z, w)"  # fmt: skip
    model = build(IF.format(before="", then=inner, other="b = Neg(x)"), w=SQUARE, **statistics(4))
    result = fold_batchnorm.run(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert len(result.changes) == 1
    assert [t.name for t in result.model.graph.initializer] == ["w"]
    both_ways(model, result.model)


def test_a_batchnorm_in_a_function_is_named() -> None:
    function = helper.make_function(
        "local", "Block", ["x", "w", *"shmv"], ["y"],
        [helper.make_node("Conv", ["x", "w"], ["c"]),
         helper.make_node("BatchNormalization", ["c", *"shmv"], ["y"], "bn")],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    head = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n'
    model = build(head + f"g ({X}) => ({Y}) {{ y = local.Block(x, w, s, h, m, v) }}", w=SQUARE, **statistics(4))
    model.functions.append(function)
    result = fold_batchnorm.run(model)
    assert result.model == model
    assert [(k.node, k.reason) for k in result.kept] == [("bn", "it is inside a function of the model")]


# ------------------------------------------------------------------------------------------------------------- shapes
def test_shapes_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights above the limit are inputs to the inference: the same shapes come out, whatever the limit."""
    text = f"""g ({X}) => (float[N,144] y) {{ big = Constant <value = float[2] {{1.0, 2.0}}> () c = Conv(x, w)
        n = {BN % "c"} f = Reshape(n, target) k = Mul(big, big) y = Relu(f) }}"""
    model = build(text, w=SQUARE, target=np.array([0, -1]), **statistics(4))
    expected = {"x": (None, 4, 6, 6), "c": (None, 4, 6, 6), "n": (None, 4, 6, 6), "f": (None, 144), "k": (2,)}
    found = inferred(model).shapes
    assert {name: found[name] for name in expected} == expected
    monkeypatch.setattr(shapes_module, "SMALL", 1)
    small = inferred(model).shapes
    assert {name: small[name] for name in ("x", "c", "n", "k")} == {n: expected[n] for n in ("x", "c", "n", "k")}


def test_names_that_two_bodies_share_are_left_out_when_they_differ() -> None:
    text = IF.format(before="", then="q = Flatten(x) a = Neg(x)", other="q = Neg(x) b = Neg(q)")
    found = inferred(build(text)).shapes
    assert "q" not in found
    assert found["x"] == (2, 4, 6, 6)


def test_a_graph_that_cannot_be_inferred_has_the_shapes_that_it_says() -> None:
    model = build(f"g ({X}) => ({Y}) {{ y = Conv(x, w) }}", w=SQUARE[:, :2])
    assert inferred(model).shapes["x"] == (None, 4, 6, 6)


def test_names_within_bodies_are_names() -> None:
    model = build(IF.format(before="", then=INNER, other="b = Neg(x)"), w=SQUARE, **statistics(4))
    assert names_within(model.graph) >= {"k", "x", "y", "a", "b", "c", "w", *"shmv"}
    scope = Scope(model, model.graph)
    assert scope.fresh("c") == "c_1"
    assert scope.bodies()[0].fresh("c") == "c_2"
