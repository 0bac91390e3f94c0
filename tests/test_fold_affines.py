"""exporters/fold/{recognize,linear,behind}.py: constants and BatchNormalization behind every linear operator."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporters.graph import ABSORBED_KEY, MODULE_KEY, get_meta, op_counts, set_meta
from exporters.passes import fold_batchnorm
from fold_graphs import BN, SQUARE, build, check_fold, execute, rng, snr_db, statistics
from runtimes.base import Array, BadInput

X4, Y4 = "float[N,4,6,6] x", "float[N,4,6,6] y"
C = rng(2).uniform(0.5, 2, 4).astype(np.float32)
ONES = (1, 1)


def vector(*shape: int) -> Array:
    return C.reshape(shape)


# ------------------------------------------------------------------------------------------------ constants behind Conv
FOLDED = {
    "factor (C,1,1)": ("y = Mul(c, k)", vector(4, 1, 1)),
    "factor in front": ("y = Mul(k, c)", vector(4, 1, 1)),
    "factor (1,C,1,1)": ("y = Mul(c, k)", vector(1, 4, 1, 1)),
    "one factor": ("y = Mul(c, k)", np.float32(3)),
    "one factor of four dimensions": ("y = Mul(c, k)", np.full((1, 1, 1, 1), 3, np.float32)),
    "summand": ("y = Add(c, k)", vector(4, 1, 1)),
    "difference": ("y = Sub(c, k)", vector(4, 1, 1)),
    "difference the other way": ("y = Sub(k, c)", vector(4, 1, 1)),
    "quotient": ("y = Div(c, k)", vector(4, 1, 1)),
    "sign": ("y = Neg(c)", np.float32(0)),
    "factor zero": ("y = Mul(c, k)", np.zeros((4, 1, 1), np.float32)),
    "factor with negative zero": ("y = Mul(c, k)", np.array([-0.0, 1, -1, 0], np.float32).reshape(4, 1, 1)),
}


@pytest.mark.parametrize(("text", "value"), FOLDED.values(), ids=FOLDED)
@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_behind_a_convolution(text: str, value: Array, bias: bool) -> None:
    conv = "c = Conv(x, w, b)" if bias else "c = Conv(x, w)"
    model = build(f"g ({X4}) => ({Y4}) {{ {conv} {text} }}", w=SQUARE, b=vector(4), k=value)
    result = fold_batchnorm.run(model)
    assert op_counts(result.model) == {"Conv": 1}
    before, after = execute(model)[0], execute(result.model)[0]
    np.testing.assert_allclose(after, before, rtol=0, atol=4e-6, err_msg="eight roundings of numbers up to 8")
    needs_bias = bias or text[4:7] in ("Add", "Sub")
    assert len(result.model.graph.node[0].input) == (3 if needs_bias else 2), "a bias of zeros is not added"


NOT_PER_CHANNEL = {
    "a number for each column": ("y = Mul(c, k)", np.ones(6, np.float32)),
    "a number for each row": ("y = Add(c, k)", np.ones((6, 1), np.float32)),
    "a number for each image": ("y = Add(c, k)", np.ones((2, 1, 1, 1), np.float32)),
    "more dimensions than the activations have": ("y = Mul(c, k)", np.ones((1, 1, 4, 1, 1), np.float32)),
    "two numbers that differ": ("y = Div(k, c)", vector(4, 1, 1)),
    "a divisor of zero": ("y = Div(c, k)", np.zeros((4, 1, 1), np.float32)),
    "whole numbers": ("d = Cast <to: int = 6> (c) y = Mul(d, k)", np.ones((4, 1, 1), np.int32)),
    "an operator of somebody else": ("y = com.example.Mul(c, k)", vector(4, 1, 1)),
    "itself": ("y = Mul(c, c)", vector(4, 1, 1)),
}


@pytest.mark.parametrize(("text", "value"), NOT_PER_CHANNEL.values(), ids=NOT_PER_CHANNEL)
def test_what_is_no_affine_stays_without_a_word(text: str, value: Array) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>\n'
    model = build(head + f"g ({X4}) => (float[N,a,b,d] y) {{ c = Conv(x, w) {text} }}", w=SQUARE, k=value)
    result = fold_batchnorm.run(model)
    assert result.model == model
    assert not result.kept


def test_one_channel_that_a_constant_widens_stays() -> None:
    """(N, 1, 6, 6) times (4, 1, 1) makes four channels: the convolution has one."""
    model = build(f"g ({X4}) => ({Y4}) {{ c = Conv(x, w) y = Mul(c, k) }}", w=SQUARE[:1], k=vector(4, 1, 1))
    assert not fold_batchnorm.run(model).modified


def test_a_convolution_with_one_channel_takes_its_constant() -> None:
    text = "g (float[N,4,6,6] x) => (float[N,1,6,6] y) { c = Conv(x, w) y = Mul(c, k) }"
    check_fold(build(text, w=SQUARE[:1], k=vector(4)[:1].reshape(1, 1, 1)), folded=1)


def test_as_much_of_a_chain_as_can_be() -> None:
    """What follows an output of the model stays, with the reason."""
    text = f"g ({X4}) => ({Y4}, float[N,4,6,6] d) {{ c = Conv(x, w) d = Mul(c, k) y = {BN % 'd'} }}"
    result = check_fold(build(text, w=SQUARE, k=vector(4, 1, 1), **statistics(4)), folded=1, kept=1)
    assert [n.op_type for n in result.model.graph.node] == ["Conv", "BatchNormalization"]
    assert "is also an output of the model" in result.kept[0].reason


def test_float16_takes_the_part_of_a_chain_that_fits() -> None:
    """1e3 x 1e3 does not fit into float16, 1e3 does."""
    text = "g (float16[N,4,6,6] x) => (float16[N,4,6,6] y) { c = Conv(x, w) d = Mul(c, k) y = Mul(d, k) }"
    model = build(text, w=SQUARE.astype(np.float16), k=np.float16(1e3))
    result = fold_batchnorm.run(model)
    assert [change.node for change in result.changes] == ["d"]
    assert [(k.node, "do not fit into float16" in k.reason) for k in result.kept] == [("y", True)]


def test_one_rounding_for_a_whole_chain() -> None:
    text = f"g ({X4}) => ({Y4}) {{ c = Conv(x, w) d = Mul(c, k) e = Add(d, k) f = {BN % 'e'} y = Div(f, k) }}"
    stats = statistics(4)
    result = check_fold(build(text, w=SQUARE, k=vector(4, 1, 1), **stats), folded=4)
    found = {t.name: numpy_helper.to_array(t) for t in result.model.graph.initializer}["w"]
    gain = stats["s"].astype(np.float64) / np.sqrt(stats["v"].astype(np.float64) + np.float64(np.float32(1e-5)))
    truth = SQUARE.astype(np.float64) * gain.reshape(-1, 1, 1, 1)  # the factor and the divisor cancel
    np.testing.assert_allclose(found, truth, rtol=2.0**-24 * 1.0001, atol=0)
    assert all(2.0**-24 <= change.bound <= 1.001 * 2.0**-24 for change in result.changes)


def test_identities_between_are_taken_and_behind_are_left() -> None:
    text = f"g ({X4}) => ({Y4}) {{ c = Conv(x, w) i = Identity(c) n = {BN % 'i'} y = Identity(n) }}"
    result = check_fold(build(text, w=SQUARE, **statistics(4)), folded=2)
    assert [n.op_type for n in result.model.graph.node] == ["Conv", "Identity"]


def test_absorbed_nodes_are_written_down() -> None:
    model = build(f"g ({X4}) => ({Y4}) {{ c = Conv(x, w) d = Mul(c, k) y = {BN % 'd'} }}",
                  w=SQUARE, k=vector(4, 1, 1), **statistics(4))  # fmt: skip
    for node in model.graph.node:
        node.name = f"net/{node.op_type}"
        set_meta(node, {MODULE_KEY: node.op_type})
    (conv,) = check_fold(model, folded=2).model.graph.node
    assert get_meta(conv) == {MODULE_KEY: "Conv", ABSORBED_KEY: "net/Mul\nnet/BatchNormalization"}


def test_what_nearly_makes_up_for_a_shift_may_be_taken_in() -> None:
    """The sum of a bias and a shift of its size is as exact as either: 1 and 0.99 together, or against each other."""
    for shift in (0.99, -0.99):
        text = f"g ({X4}) => (float[N,1,6,6] y) {{ c = Conv(x, w, b) y = Add(c, k) }}"
        tiny, one = np.full((1, 4, 1, 1), 1e-3, np.float32), np.ones(1, np.float32)
        check_fold(build(text, w=tiny, b=one, k=np.full((1, 1, 1), shift, np.float32)), folded=1)


def test_a_gemms_bias_of_several_rows_fits_in_each_of_them() -> None:
    text = "g (float16[2,4] x) => (float16[2,4] y) { c = Gemm(x, w, k) y = Mul(c, s) }"
    bias = np.ones((2, 4), np.float16)
    bias[1, 2] = 6e4
    result = fold_batchnorm.run(build(text, w=np.eye(4, dtype=np.float16), k=bias, s=np.float16(2)))
    assert not result.modified
    assert "do not fit into float16" in result.kept[0].reason


# ------------------------------------------------------------------------------------------------------------ MatMul
MATRIX = rng(3).normal(size=(4, 4)).astype(np.float32)
X2, Y2, X3, Y3 = "float[N,4] x", "float[N,4] y", "float[N,3,4] x", "float[N,3,4] y"
MATMUL = {
    "BatchNormalization": (X2, Y2, f"c = MatMul(x, w) y = {BN % 'c'}", 1, ["MatMul", "Add"]),
    "with its Add": (X2, Y2, f"p = MatMul(x, w) c = Add(p, b) y = {BN % 'c'}", 1, ["MatMul", "Add"]),
    "with its Add the other way": (X2, Y2, f"p = MatMul(x, w) c = Add(b, p) y = {BN % 'c'}", 1, ["MatMul", "Add"]),
    "three dimensions, constants": (X3, Y3, "c = MatMul(x, w) d = Mul(c, b) y = Add(d, b)", 2, ["MatMul", "Add"]),
    "a factor alone": (X3, Y3, "c = MatMul(x, w) y = Mul(c, b)", 1, ["MatMul"]),
    "an Add and a factor": (X3, Y3, "p = MatMul(x, w) c = Add(p, b) y = Mul(c, b)", 1, ["MatMul", "Add"]),
    "two Adds": (X3, Y3, "p = MatMul(x, w) c = Add(p, b) y = Add(c, b)", 1, ["MatMul", "Add"]),
    "before": (X2, Y2, f"n = {BN % 'x'} y = MatMul(n, w)", 1, ["MatMul", "Add"]),
    "before, with its Add": (X2, Y2, f"n = {BN % 'x'} p = MatMul(n, w) y = Add(p, b)", 1, ["MatMul", "Add"]),
    "before and behind": (X2, Y2, f"n = {BN % 'x'} p = MatMul(n, w) y = {BN % 'p'}", 2, ["MatMul", "Add"]),
    "before, with an Add of what is computed": (
        X2, Y2, f"n = {BN % 'x'} p = MatMul(n, w) y = Add(p, x)", 1, ["MatMul", "Add", "Add"]),
    "before, three dimensions": (X3, Y3, "n = Sub(x, b) y = MatMul(n, w)", 1, ["MatMul", "Add"]),
}  # fmt: skip


@pytest.mark.parametrize(("reads", "makes", "text", "folded", "left"), MATMUL.values(), ids=MATMUL)
def test_matmul(reads: str, makes: str, text: str, folded: int, left: list[str]) -> None:
    result = check_fold(build(f"g ({reads}) => ({makes}) {{ {text} }}", w=MATRIX, b=C, **statistics(4)), folded=folded)
    assert [n.op_type for n in result.model.graph.node] == left
    assert result.model.graph.node[-1].output[0] == "y"


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 4), (4,)])
@pytest.mark.parametrize("layer", ["c = Gemm(x, w, k)", "p = MatMul(x, w) c = Add(p, k)"], ids=["Gemm", "MatMul"])
def test_one_number_is_a_bias_of_all_channels(layer: str, shape: tuple[int, ...]) -> None:
    text = f"g ({X2}) => ({Y2}) {{ {layer} y = {BN % 'c'} }}"
    result = check_fold(build(text, w=MATRIX, k=C[: math.prod(shape)].reshape(shape), **statistics(4)), folded=1)
    assert [n.op_type for n in result.model.graph.node] == (["Gemm"] if "Gemm" in layer else ["MatMul", "Add"])


def test_the_add_of_a_matmul_is_called_after_what_it_stands_for() -> None:
    model = build(f"g ({X2}) => ({Y2}) {{ c = MatMul(x, w) y = {BN % 'c'} }}", w=MATRIX, **statistics(4))
    for node in model.graph.node:
        node.name = f"net/{node.op_type}"
        set_meta(node, {MODULE_KEY: node.op_type})
    matmul, add = check_fold(model, folded=1).model.graph.node
    assert (matmul.name, add.name) == ("net/MatMul", "net/BatchNormalization/Add")
    assert get_meta(add) == {MODULE_KEY: "BatchNormalization"}


def test_an_add_that_adds_a_dimension_is_no_bias() -> None:
    """(N, 4) + (1, 1, 4) has three dimensions."""
    text = f"g ({X2}) => (float[a,b,4] y) {{ p = MatMul(x, w) c = Add(p, k) y = Mul(c, b) }}"
    result = fold_batchnorm.run(build(text, w=MATRIX, b=C, k=C.reshape(1, 1, 4)))
    assert not result.modified


def test_the_bias_of_a_matmul_that_is_an_output_stays() -> None:
    text = f"g ({X2}) => (float[N,4] c, {Y2}) {{ p = MatMul(x, w) c = Add(p, b) y = {BN % 'c'} }}"
    result = check_fold(build(text, w=MATRIX, b=C, **statistics(4)), folded=0, kept=1)
    assert "is also an output of the model" in result.kept[0].reason


MATMUL_KEPT = {
    "BatchNormalization over the steps of a sequence": (
        "float[N,4,4] x", "float[N,4,4] y", f"c = MatMul(x, w) y = {BN % 'c'}", {"w": MATRIX}, "dimension 1",
    ),
    "rank not known": (
        "float[N,4] x, int64[R] r", "float[N,4] y", f"u = Reshape(x, r) c = MatMul(u, w) y = {BN % 'c'}",
        {"w": MATRIX}, "not known",
    ),
    "a weight for each sample": (
        "float[2,4,4] x", "float[2,4,4] y", f"c = MatMul(x, w) y = {BN % 'c'}", {"w": np.stack([MATRIX] * 2)},
        "not one matrix",
    ),
    "the constant is on the left": (
        "float[4,4] x", "float[4,4] y", f"c = MatMul(w, x) y = {BN % 'c'}", {"w": MATRIX}, "weight of c is not",
    ),
    "an Add for each row between": (
        "float[4,4] x", "float[4,4] y", f"p = MatMul(x, w) c = Add(p, k) y = {BN % 'c'}", {"w": MATRIX, "k": MATRIX},
        "adds more than a number for each channel",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("reads", "makes", "text", "values", "reason"), MATMUL_KEPT.values(), ids=MATMUL_KEPT)
def test_matmul_kept(reads: str, makes: str, text: str, values: dict[str, Array], reason: str) -> None:
    result = fold_batchnorm.run(build(f"g ({reads}) => ({makes}) {{ {text} }}", **values, **statistics(4)))
    assert not result.modified
    assert reason in result.kept[0].reason


# -------------------------------------------------------------------------------------------------------- old opsets
def old(opset: int, text: str, ir_version: int = 3, **values: Array) -> onnx.ModelProto:
    return build(f'<ir_version: {ir_version}, opset_import: ["" : {opset}]> {text}', **values)


OLD_NORMS = {
    1: "BatchNormalization <is_test: int = 1, spatial: int = 1, consumed_inputs: ints = [0,0,0,1,1]>",
    6: "BatchNormalization <is_test: int = 1>",
    7: "BatchNormalization <spatial: int = 1>",
    9: "BatchNormalization",
    14: "BatchNormalization <training_mode: int = 0>",
    15: "BatchNormalization",
}


@pytest.mark.parametrize(("opset", "norm"), OLD_NORMS.items())
def test_batchnorm_of_every_version(opset: int, norm: str) -> None:
    """IR 4, so that the parameters need not be inputs. ONNX Runtime starts at opset 7: older ones are held to 9."""
    text = "g (float[2,4,6,6] x) => (float[2,4,6,6] y) { c = Conv(x, w) y = %s (c, s, h, m, v) }"
    result = fold_batchnorm.run(old(opset, text % norm, 4, w=SQUARE, **statistics(4)))
    assert [n.op_type for n in result.model.graph.node] == ["Conv"]
    assert [(o.domain, o.version) for o in result.model.opset_import] == [("", opset)]
    today = build(text % "BatchNormalization", w=SQUARE, **statistics(4))
    result.model.opset_import[0].version = 9
    assert snr_db(execute(today)[0], execute(result.model)[0]) >= 100


OLD_BROADCAST = {
    "aligned to an axis": ("y = Mul <broadcast: int = 1, axis: int = 1> (c, k)", C, 1),
    "aligned from the end": ("y = Add <broadcast: int = 1, axis: int = -3> (c, k)", C, 1),
    "trailing": ("y = Mul <broadcast: int = 1> (c, k)", vector(4, 1, 1), 1),
    "trailing, for each column": ("y = Mul <broadcast: int = 1> (c, k)", np.ones(6, np.float32), 0),
    "aligned to rows": ("y = Mul <broadcast: int = 1, axis: int = 2> (c, k)", np.ones(6, np.float32), 0),
    "none": ("y = Mul (c, k)", vector(1, 4, 1, 1), 0),
}


@pytest.mark.parametrize(("text", "value", "folded"), OLD_BROADCAST.values(), ids=OLD_BROADCAST)
def test_constants_before_opset_7_say_how_they_broadcast(text: str, value: Array, folded: int) -> None:
    model = old(6, f"g (float[2,4,6,6] x) => (float[2,4,6,6] y) {{ c = Conv(x, w) {text} }}", 4, w=SQUARE, k=value)
    result = fold_batchnorm.run(model)
    assert len(result.changes) == folded
    if folded:
        kind = text[4:7]
        today = build(f"g (float[2,4,6,6] x) => (float[2,4,6,6] y) {{ c = Conv(x, w) y = {kind}(c, k) }}",
                      w=SQUARE, k=vector(4, 1, 1))  # fmt: skip
        result.model.opset_import[0].version = 9
        assert snr_db(execute(today)[0], execute(result.model)[0]) >= 100


def test_gemm_before_opset_7_says_that_its_bias_broadcasts() -> None:
    text = """g (float[3,4] x) => (float[3,4] y) { c = Gemm(x, w, b)
        y = BatchNormalization <is_test: int = 1> (c, s, h, m, v) }"""
    full = rng(7).normal(size=(3, 4)).astype(np.float32)
    result = fold_batchnorm.run(old(6, text, 4, w=MATRIX, b=full, **statistics(4)))
    assert {a.name: a.i for a in result.model.graph.node[0].attribute} == {"broadcast": 1}


def test_before_ir_4_a_new_parameter_is_a_node() -> None:
    """There every initializer had to be an input, which a caller may override: constants were nodes."""
    text = """<ir_version: 3, opset_import: ["" : 9]> g (float[2,4,6,6] x) => (float[2,4,6,6] y) {
        c = Conv(x, w) n = BatchNormalization(c, s, h, m, v) r = Relu(n) d = BatchNormalization(r, s, h, m, v)
        y = Conv(d, w) }"""
    model = build(text)
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in {"w": SQUARE, **statistics(4)}.items()
    ]
    nodes = [*constants, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    result = check_fold(model, folded=2)
    assert op_counts(result.model) == {"Constant": 4, "Conv": 2, "Relu": 1}
    assert not result.model.graph.initializer


# ----------------------------------------------------------------------------------------------------------- refused
C3 = C[:3]
DAMAGED = {
    "groups that do not divide": ("c = Conv <group: int = 3> (x, w)", SQUARE, None),
    "no groups": ("c = Conv <group: int = 0> (x, w)", SQUARE, None),
    "a weight without taps": ("c = Conv(x, w)", MATRIX, None),
    "a weight without channels": ("c = Conv(x, w)", SQUARE[:0], None),
    "a number as weight": ("c = Conv(x, w)", np.float32(1), None),
    "a Gemm of four dimensions": ("c = Gemm(x, w)", SQUARE, None),
    "a bias of another size": ("c = Conv(x, w, b)", SQUARE, C3),
    "whole numbers as weight": ("c = Conv(x, w)", np.ones((4, 4, 1, 1), np.int32), None),
    "a weight transposed by nonsense": ("t = Transpose <perm: ints = [0, 0, 0, 9]> (w) c = Conv(x, t)", SQUARE, None),
    "a weight reshaped by nonsense": ("t = Reshape(w, b) c = Conv(x, t)", SQUARE, np.array([5, 5])),
}


@pytest.mark.parametrize(("text", "weight", "bias"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_models_are_left_or_refused(text: str, weight: Array, bias: Array | None) -> None:
    """What the checker does not see must not end in a traceback of another kind."""
    values = {"w": weight, **statistics(4)} | ({} if bias is None else {"b": bias})
    model = build(f"g ({X4}) => ({Y4}) {{ {text} y = {BN % 'c'} }}", **values)
    if bias is C3:
        with pytest.raises(BadInput, match="makes 4 channels, its bias has 3"):
            fold_batchnorm.run(model)
    else:
        assert not fold_batchnorm.run(model).modified


def test_a_batchnorm_of_constants_is_named() -> None:
    model = build(f"g ({X4}) => ({Y4}) {{ n = {BN % 'k'} y = Conv(n, w) }}", k=np.ones((1, 4, 6, 6), np.float32),
                  w=SQUARE, **statistics(4))  # fmt: skip
    (kept,) = fold_batchnorm.run(model).kept
    assert kept.reason == "it works on a constant"


def test_parameters_of_different_sizes_are_bad_input() -> None:
    model = build(f"g ({X4}) => ({Y4}) {{ c = Conv(x, w) y = {BN % 'c'} }}", w=SQUARE, **statistics(4) | {"s": C[:3]})
    with pytest.raises(BadInput, match="different sizes"):
        fold_batchnorm.run(model)


def test_a_sequence_of_graphs_is_one_model_after_the_other() -> None:
    """Nothing is remembered between two runs: the same tensor names with other numbers give other weights."""
    weights = []
    for scale in (1, 2):
        stats = statistics(4) | {"s": np.full(4, scale, np.float32)}
        result = fold_batchnorm.run(build(f"g ({X4}) => ({Y4}) {{ c = Conv(x, w) y = {BN % 'c'} }}", w=SQUARE, **stats))
        weights.append(numpy_helper.to_array(next(t for t in result.model.graph.initializer if t.name == "w")))
    np.testing.assert_array_equal(2 * weights[0], weights[1])


def test_a_thousand_layers_take_less_than_a_few_seconds() -> None:
    """Each fold touches what it changes: 1,000 layers in about 1 s; edits that copy the graph would need minutes."""
    import time

    nodes, source = [], "x"
    for i in range(1000):
        nodes.append(helper.make_node("Conv", [source, "w"], [f"c{i}"]))
        nodes.append(helper.make_node("BatchNormalization", [f"c{i}", *"shmv"], [f"n{i}"]))
        source = f"n{i}"
    model = build(f"g ({X4}) => (float[N,4,6,6] n999) {{ n999 = Identity(x) }}", w=SQUARE, **statistics(4))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    started = time.process_time()
    result = fold_batchnorm.run(model)
    assert len(result.changes) == 1000
    assert time.process_time() - started < 10
