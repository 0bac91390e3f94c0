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


def build4(body: str, opset: int = 18, left: int = 0, **values: object) -> tuple[onnx.ModelProto, int]:
    """(x -> Relu -> `body` (r -> a) -> Abs -> y, nodes of `body` that stay when its no-ops are gone)."""
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[N,3,4,4] x) => (float[N,3,4,4] y)'
    model = parser.parse_model(f"{head} {{ r = Relu (x) {body} y = Abs (a) }}")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in values.items())
    return model, left


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


BIG = 2**63 - 1
SAME = {  # every way to compute nothing; opset 18 unless told
    "cast to its own type": build4("a = Cast <to: int = 1> (r)"),
    "concat of one": build4("a = Concat <axis: int = 1> (r)"),
    "sum of one": build4("a = Sum (r)"),
    "max of one": build4("a = Max (r)"),
    "slice of everything": build4("a = Slice (r, s, e)", s=[0, 0], e=[BIG, 3]),
    "slice of everything, axes and steps": build4("a = Slice (r, s, e, k, t)", s=[0], e=[4], k=[-1], t=[1]),
    "slice by attributes": build4("a = Slice <starts: ints = [0], ends: ints = [9], axes: ints = [1]> (r)", 9),
    "slice of a part of a concat": build4(
        "n = Neg (r) c = Concat <axis: int = 1> (n, r, n) a = Slice (c, s, e, k)", s=[3], e=[6], k=[1]
    ),
    "slice of the last part, to the end": build4(
        "n = Neg (r) c = Concat <axis: int = -2> (n, r) a = Slice (c, s, e, k)", s=[0, 4], e=[BIG, BIG], k=[0, -2]
    ),
    "add 0": build4("a = Add (r, z)", z=np.zeros((3, 1, 1), np.float32)),
    "0 plus": build4("a = Add (z, r)", z=np.float32(0)),
    "sub 0": build4("a = Sub (r, z)", z=np.float32(0)),
    "mul 1": build4("a = Mul (r, o)", o=np.ones((1, 3, 4, 4), np.float32)),
    "1 times": build4("a = Mul (o, r)", o=np.ones(1, np.float32)),
    "div 1": build4("a = Div (r, o)", o=np.ones(4, np.float32)),
    "pad 0": build4("a = Pad (r, p)", p=[0] * 8),
    "reflect by 0": build4('a = Pad <mode: string = "reflect"> (r, p)', p=[0] * 8),
    "pad by attribute": build4("a = Pad <pads: ints = [0,0,0,0,0,0,0,0]> (r)", 9),
    "resize by 1": build4('a = Resize <mode: string = "linear"> (r, , s)', s=np.ones(4, np.float32)),
    "resize by 1, opset 10": build4("a = Resize (r, s)", 10, s=np.ones(4, np.float32)),
    "upsample by 1": build4("a = Upsample (r, s)", 9, s=np.ones(4, np.float32)),
    "transpose in order": build4("a = Transpose <perm: ints = [0, 1, 2, 3]> (r)"),
    "reshape to its shape": build4("a = Reshape (r, s)", s=[-1, 3, 4, 4]),
    "flatten of two axes": build4("f = Flatten (r) g = Flatten (f) a = Reshape (g, s)", s=[-1, 3, 4, 4], left=2),
    "expand to its shape": build4("a = Expand (r, s)", s=[1, 3, 1, 4]),
    "tile once": build4("a = Tile (r, s)", s=[1, 1, 1, 1]),
    "mean of one": build4("a = AveragePool <kernel_shape: ints = [1, 1], strides: ints = [1, 1]> (r)"),
    "largest of one": build4("a = MaxPool <kernel_shape: ints = [1, 1]> (r)"),
}


@pytest.mark.parametrize(("model", "left"), SAME.values(), ids=SAME)
def test_what_hands_its_input_on_goes(model: onnx.ModelProto, left: int) -> None:
    result = run(model)
    assert len(result.model.graph.node) == left + 2
    assert not result.kept
    used = {name for node in result.model.graph.node for name in node.input}
    assert {t.name for t in result.model.graph.initializer} <= used


WORK = {  # every way to look like a no-op and compute something
    "cast": build4("i = Cast <to: int = 7> (r) a = Cast <to: int = 1> (i)"),
    "concat": build4("c = Concat <axis: int = 1> (r, r) a = Slice (c, s, e, k)", s=[1], e=[4], k=[1]),
    "slice from 1": build4("c = Slice (r, s, e, k) a = Pad (c, p)", s=[1], e=[4], k=[3], p=[0] * 7 + [1]),
    "slice to 3": build4("c = Slice (r, s, e, k) a = Pad (c, p)", s=[0], e=[3], k=[3], p=[0] * 7 + [1]),
    "slice to -1": build4("c = Slice (r, s, e, k) a = Pad (c, p)", s=[0], e=[-1], k=[3], p=[0] * 7 + [1]),
    "slice of an open size": build4("a = Slice (r, s, e)", s=[0], e=[3]),
    "slice by 2": build4("c = Slice (r, s, e, k, t) a = Tile (c, n)", s=[0], e=[4], k=[3], t=[2], n=[1, 1, 1, 2]),
    "backwards": build4("a = Slice (r, s, e, k, t)", s=[-1], e=[-BIG], k=[3], t=[-1]),
    "add 0 that enlarges": build4(
        "c = ReduceMax <keepdims: int = 1> (r, k) a = Add (c, z)", k=[1], z=np.zeros((3, 1, 1), np.float32)
    ),
    "add 0 and 1": build4("a = Add (r, z)", z=np.float32([[[0]], [[1]], [[0]]])),
    "0 minus": build4("a = Sub (z, r)", z=np.float32(0)),
    "1 over": build4("q = Exp (r) a = Div (o, q)", o=np.float32(1)),
    "mul 0": build4("a = Mul (r, z)", z=np.float32(0)),
    "resize by 1 and 2": build4("c = Resize (r, , s) a = Slice (c, b, e, k)", b=[0], e=[4], k=[2],
                               s=np.float32([1, 1, 2, 1])),
    "resize of an open size": build4(
        "t = Transpose <perm: ints = [0, 1, 3, 2]> (r) k = Shape (t) z = Mul (k, m) c = Resize (t, , , z) "
        "b = Resize (c, , h) a = Transpose <perm: ints = [0, 1, 3, 2]> (b)",
        m=[1, 1, 2, 1], h=np.float32([1, 1, 0.5, 1]),
    ),
    "resize with a crop": build4(
        'a = Resize <coordinate_transformation_mode: string = "tf_crop_and_resize"> (r, roi, s)',
        roi=np.float32([0, 0, 0, 0, 1, 1, 0.5, 1]), s=np.ones(4, np.float32),
    ),
    "transpose": build4("a = Transpose <perm: ints = [0, 1, 3, 2]> (r)"),
    "reshape": build4("c = Reshape (r, s) a = Reshape (c, t)", s=[-1, 4, 3, 4], t=[-1, 3, 4, 4]),
    "mean of three": build4("a = AveragePool <kernel_shape: ints = [1, 3], pads: ints = [0, 1, 0, 1]> (r)"),
    "every second of one": build4(
        "c = MaxPool <kernel_shape: ints = [1, 1], strides: ints = [1, 2]> (r) a = Tile (c, n)", n=[1, 1, 1, 2]
    ),
    "tile": build4("c = Tile (r, s) a = Slice (c, b, e, k)", s=[1, 2, 1, 1], b=[2], e=[5], k=[1]),
}  # fmt: skip


@pytest.mark.parametrize("model", [model for model, _ in WORK.values()], ids=WORK)
def test_what_works_stays(model: onnx.ModelProto) -> None:
    result = run(model)
    assert not result.modified, result.changes
    assert not result.kept


def test_a_noop_that_has_to_stay_says_why() -> None:
    result = run(build("y = Mul (x, o)", o=np.ones(1)))
    assert "input or a constant" in result.kept[0].reason


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
