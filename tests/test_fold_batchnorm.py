"""exporters/passes/fold_batchnorm.py against PyTorch in float64 and ONNX Runtime without optimizations."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exporters.graph import ABSORBED_KEY, MODULE_KEY, get_meta, op_counts, set_meta
from exporters.passes import fold_batchnorm
from fold_graphs import BN, CONV, PLAIN, SNR_LIMIT_DB, SQUARE, build, check_fold, execute, rng, snr_db, statistics
from runtimes.base import Array, BadInput


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_bound_is_one_unit_roundoff_for_a_healthy_layer(dtype: str) -> None:
    model = build("g (TYPE[N,3,5,5] x) => (TYPE[N,4,3,3] y) { c = Conv(x, w) y = BatchNormalization(c, s, h, m, v) }"
                  .replace("TYPE", {"float32": "float", "float64": "double"}.get(dtype, dtype)),
                  w=rng().normal(size=(4, 3, 3, 3)).astype(dtype), **statistics(4, dtype))  # fmt: skip
    (change,) = fold_batchnorm.run(model).changes
    roundoff = np.finfo(dtype).eps / 2
    assert roundoff <= change.bound <= 16 * roundoff


# ------------------------------------------------------------------------------------ every shape of linear operator
def torch_model(
    linear: torch.nn.Module, norm: torch.nn.Module, shape: tuple[int, ...]
) -> tuple[onnx.ModelProto, Array]:
    """The ONNX text of `linear` then `norm` with their parameters, and what PyTorch says in float64 about seed 5."""
    generator = torch.Generator().manual_seed(7)
    for value in [*linear.parameters(), norm.weight, norm.bias, norm.running_mean]:
        torch.nn.init.normal_(value, generator=generator)  # type: ignore[arg-type]
    torch.nn.init.uniform_(norm.running_var, 0.05, 4, generator=generator)  # type: ignore[arg-type]
    names = {"s": norm.weight, "h": norm.bias, "m": norm.running_mean, "v": norm.running_var, "w": linear.weight}
    if linear.bias is not None:
        names["b"] = linear.bias
    values = {k: v.detach().numpy() for k, v in names.items()}  # type: ignore[union-attr, operator]
    dims = ",".join(map(str, shape))
    rest = ",".join(f"d{i}" for i in range(len(shape) - 1))
    arguments = "x, w, b" if "b" in values else "x, w"
    text = f"""g (float[{dims}] x) => (float[N,{rest}] y) {{ c = {onnx_name(linear)} ({arguments})
        y = BatchNormalization <epsilon: float = {norm.eps}> (c, s, h, m, v) }}"""
    x = torch.from_numpy(rng(5).normal(size=shape).astype(np.float32)).double()
    linear, norm = linear.double().eval(), norm.double().eval()
    return build(text, **{k: v.astype(np.float32) for k, v in values.items()}), norm(linear(x)).detach().numpy()


def onnx_name(module: torch.nn.Module) -> str:
    """`Conv <strides = [2, 2], ...>` for a PyTorch layer."""
    if isinstance(module, torch.nn.Linear):
        return "Gemm <transB: int = 1>"
    fields = {"strides": module.stride, "dilations": module.dilation, "kernel_shape": module.kernel_size}
    fields["pads"] = (*module.padding, *module.padding)  # type: ignore[misc]
    kind = "Conv"
    if isinstance(module, torch.nn.modules.conv._ConvTransposeNd):
        kind, fields["output_padding"] = "ConvTranspose", module.output_padding
    attrs = [f"{k}: ints = {list(v)}" for k, v in fields.items()]  # type: ignore[call-overload]
    return f"{kind} <group: int = {module.groups}, {', '.join(attrs)}>"


configurations = st.fixed_dictionaries(
    {
        "rank": st.integers(1, 3),
        "transpose": st.booleans(),
        "groups": st.integers(1, 3),
        "per_group_in": st.integers(1, 3),
        "per_group_out": st.integers(1, 3),
        "kernel": st.integers(1, 3),
        "stride": st.integers(1, 2),
        "dilation": st.integers(1, 2),
        "bias": st.booleans(),
        "epsilon": st.sampled_from([1e-5, 1e-3, 0.5]),
    }
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(configurations)
def test_any_convolution_equals_pytorch_in_float64(c: dict[str, int]) -> None:
    kind = f"Conv{'Transpose' if c['transpose'] else ''}{c['rank']}d"
    channels = (c["groups"] * c["per_group_in"], c["groups"] * c["per_group_out"])
    conv = getattr(torch.nn, kind)(
        *channels,
        c["kernel"],
        c["stride"],
        padding=c["kernel"] // 2,
        dilation=c["dilation"],
        groups=c["groups"],
        bias=c["bias"],
    )
    norm = getattr(torch.nn, f"BatchNorm{c['rank']}d")(channels[1], eps=c["epsilon"])
    model, truth = torch_model(conv, norm, (2, channels[0], *[6] * c["rank"]))
    result = check_fold(model, folded=1)
    assert op_counts(result.model) == {"ConvTranspose" if c["transpose"] else "Conv": 1}
    assert snr_db(truth, execute(result.model)[0]) >= SNR_LIMIT_DB


def test_depthwise_convolution() -> None:
    conv = torch.nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False)
    model, truth = torch_model(conv, torch.nn.BatchNorm2d(16), (2, 8, 6, 6))
    assert snr_db(truth, execute(check_fold(model, folded=1).model)[0]) >= SNR_LIMIT_DB


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layer(bias: bool) -> None:
    model, truth = torch_model(torch.nn.Linear(7, 5, bias=bias), torch.nn.BatchNorm1d(5), (3, 7))
    assert snr_db(truth, execute(check_fold(model, folded=1).model)[0]) >= SNR_LIMIT_DB


GEMM_BIASES = {"none": None, "scalar": (), "one": (1,), "row": (5,), "row 2d": (1, 5), "column": (3, 1), "full": (3, 5)}


@pytest.mark.parametrize("shape", GEMM_BIASES.values(), ids=GEMM_BIASES)
@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm_with_every_attribute(shape: tuple[int, ...] | None, trans_b: int) -> None:
    """Y = alpha A' B' + beta C with C of any shape that broadcasts to (M, N); oracle: the formula in float64."""
    b = rng(2).normal(size=(5, 7) if trans_b else (7, 5)).astype(np.float32)
    values = {"w": b, **statistics(5)}
    if shape is not None:
        values["b"] = rng(4).normal(size=shape).astype(np.float32)
    gemm = f"Gemm <alpha: float = 0.5, beta: float = -1.5, transA: int = 1, transB: int = {trans_b}>"
    text = f"g (float[7,3] x) => (float[3,5] y) {{ c = {gemm} (x, w{', b' if shape is not None else ''})"
    model = build(text + " y = BatchNormalization (c, s, h, m, v) }", **values)
    result = check_fold(model, folded=1)
    x = rng(5).normal(size=(7, 3)).astype(np.float32).astype(np.float64)
    y = 0.5 * x.T @ (b.T if trans_b else b).astype(np.float64) - 1.5 * values.get("b", np.zeros(())).astype(np.float64)
    s, h, m, v = (values[k].astype(np.float64) for k in "shmv")
    truth = s * (y - m) / np.sqrt(v + np.float64(np.float32(1e-5))) + h
    assert snr_db(truth, execute(result.model)[0]) >= SNR_LIMIT_DB


def test_float16_stays_float16() -> None:
    """11 bits carry 66 dB; both graphs round every step, which leaves a little less."""
    text = PLAIN.replace("float[", "float16[")
    model = build(text, w=SQUARE.astype(np.float16), **statistics(4, "float16"))
    result = check_fold(model, folded=1, limit_db=50)
    assert {numpy_helper.to_array(t).dtype for t in result.model.graph.initializer} == {np.dtype(np.float16)}


def test_float64_stays_float64() -> None:
    """53 bits carry 319 dB. ONNX Runtime has no float64 Conv, so onnx's reference evaluator is the oracle."""
    model = build(PLAIN.replace("float[", "double["), w=SQUARE.astype(np.float64), **statistics(4, "float64"))
    result = fold_batchnorm.run(model)
    assert len(result.changes) == 1
    x = rng(5).normal(size=(2, 4, 6, 6))
    truth, found = (ReferenceEvaluator(m).run(None, {"x": x})[0] for m in (model, result.model))
    assert snr_db(truth, found) >= 280


# ------------------------------------------------------------------------------------------------------ the surgery


def test_names_and_metadata_stay() -> None:
    model = build(
        """g (float[N,3,6,6] x) => (float[N,4,4,4] y, float[N,4,4,4] z)
           { c = Conv(x, stem_w) n = BatchNormalization(c, s, h, m, v) y = Relu(n) z = Identity(n) }""",
        stem_w=CONV, **statistics(4),
    )  # fmt: skip
    model.graph.initializer[0].name = model.graph.node[0].input[1] = "conv.weight"
    for node, name in zip(model.graph.node, ("stem.conv", "stem.bn", "stem.act", "tap"), strict=True):
        node.name = name
        set_meta(node, {MODULE_KEY: name, "other": "kept"})
    model.graph.value_info.append(helper.make_tensor_value_info("c", 1, ["N", 4, 4, 4]))
    model.graph.value_info.append(helper.make_tensor_value_info("n", 1, ["N", 4, 4, 4]))
    result = check_fold(model, folded=1)
    nodes = result.model.graph.node
    assert [n.name for n in nodes] == ["stem.conv", "stem.act", "tap"]
    assert get_meta(nodes[0]) == {MODULE_KEY: "stem.conv", ABSORBED_KEY: "stem.bn", "other": "kept"}
    assert [get_meta(n) for n in nodes[1:]] == [{MODULE_KEY: n.name, "other": "kept"} for n in nodes[1:]]
    assert list(nodes[0].input) == ["x", "conv.weight", "conv.bias"]
    assert list(nodes[0].output) == ["n"]
    assert sorted(t.name for t in result.model.graph.initializer) == ["conv.bias", "conv.weight"]
    assert [v.name for v in result.model.graph.value_info] == ["n"]
    assert result.changes[0].node == "stem.bn"
    assert "stem.conv" in result.changes[0].what


def test_batchnorm_at_the_end_keeps_the_name_of_the_output() -> None:
    text = "g (float[N,3,6,6] x) => (float[N,4,4,4] y) { c = Conv(x, w) y = BatchNormalization(c, s, h, m, v) }"
    assert list(check_fold(build(text, w=CONV, **statistics(4)), folded=1).model.graph.node[0].output) == ["y"]


def test_two_in_a_row_fold_into_one() -> None:
    text = f"g (float[N,3,6,6] x) => (float[N,4,4,4] y) {{ c = Conv(x, w) n = {BN % 'c'} y = {BN % 'n'} }}"
    assert op_counts(check_fold(build(text, w=CONV, **statistics(4)), folded=2).model) == {"Conv": 1}


def test_constants_behind_identity_and_constant_nodes() -> None:
    text = f"""g (float[N,4,6,6] x) => (float[N,4,6,6] y, float[4] other)
        {{ w = Identity(w0) b = Constant <value = float[4] {{1.0, 2.0, 3.0, 4.0}}> ()
           c = Conv(x, w, b) y = {BN % "c"} other = Identity(v) }}"""
    result = check_fold(build(text, w0=SQUARE, **statistics(4)), folded=1)
    assert op_counts(result.model) == {"Conv": 1, "Identity": 1}, "what is read elsewhere stays, the rest goes"
    assert "v" in {t.name for t in result.model.graph.initializer}


SHARED = {  # everything that must not be edited because somebody else reads it
    "weight of two convolutions, one normalized": "a = Conv(x, w) y = " + BN % "a" + " z = Conv(x, w)",
    "weight of two convolutions, both normalized": "a = Conv(x, w) y = " + BN % "a" + " b = Conv(x, w) z = " + BN % "b",
    "weight and bias": "a = Conv(x, w, h) y = " + BN % "a" + " z = Conv(x, w, h)",
    "one vector in five roles": "a = Conv(x, w, v) y = BatchNormalization(a, v, v, v, v) z = Conv(x, w, v)",
    "weight is also an ordinary operand": "a = Conv(x, w) y = " + BN % "a" + " r = ReduceSum(w) z = Mul(x, r)",
    "weight behind two names": "u = Identity(w) a = Conv(x, u) y = " + BN % "a" + " z = Conv(x, u)",
}


@pytest.mark.parametrize("body", SHARED.values(), ids=SHARED)
def test_shared_parameters_are_copied_never_edited(body: str) -> None:
    text = f"g (float[N,4,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] z) {{ {body} }}"
    check_fold(build(text, w=SQUARE, **statistics(4)), folded=body.count("BatchNormalization"))


def test_weight_that_is_an_output_stays() -> None:
    text = f"g (float[N,4,6,6] x) => (float[N,4,6,6] y, float[4,4,1,1] w) {{ c = Conv(x, w) y = {BN % 'c'} }}"
    result = check_fold(build(text, w=SQUARE, **statistics(4)), folded=1)
    np.testing.assert_array_equal(execute(result.model)[1], SQUARE)


def test_weight_read_by_a_body_stays() -> None:
    text = f"""g (float[N,4,6,6] x) => (float[N,4,6,6] y, float[4,4,1,1] z) {{ c = Conv(x, w) y = {BN % "c"}
        k = Constant <value = bool {{1}}> ()
        z = If (k) <then_branch = t () => (float[4,4,1,1] a) {{ a = Identity(w) }},
                    else_branch = e () => (float[4,4,1,1] b) {{ b = Neg(w) }}> }}"""
    result = check_fold(build(text, w=SQUARE, **statistics(4)), folded=1)
    np.testing.assert_array_equal(execute(result.model)[1], SQUARE)


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    text = f"g (float[N,4,6,6] x) => (float[N,4,6,6] y) {{ c = Conv(x, w) d = {BN % 'c'} y = Pow(d, k) }}"
    model = build(text, w=SQUARE, k=np.float32(3), **statistics(4))
    model.graph.initializer[0].name = model.graph.node[0].input[1] = "n.weight"
    model.graph.initializer[1].name = model.graph.node[2].input[1] = "n.bias"
    check_fold(model, folded=1)


KEPT = {  # graph body -> the reason that must be given
    "output of the convolution read twice": (f"c = Conv(x, w) n = {BN % 'c'} y = Add(n, c)", "is read 2 times"),
    "no linear operator before": (f"r = Relu(x) y = {BN % 'r'}", "follows Relu"),
    "reads the input": (f"y = {BN % 'x'}", "input directly"),
    "batchnorm before the convolution": (
        f"n = {BN % 'x'} y = Conv <pads: ints = [1,0,0,0]> (n, w)",
        "reads the model's input directly; the next operator, Conv y, pads with zeros",
    ),
    "computed weight": (f"q = ReduceMax(x) u = Mul(w, q) c = Conv(x, u) y = {BN % 'c'}", "weight of c is not constant"),
    "computed bias": (
        f"q = ReduceMax <keepdims: int = 0> (x) u = Mul(h, q) c = Conv(x, w, u) y = {BN % 'c'}",
        "bias of c is not constant",
    ),
    "computed mean": ("c = Conv(x, w) q = Relu(m) y = BatchNormalization(c, s, h, q, v)", "mean is not constant"),
    "depthwise of another domain": (f"c = com.microsoft.FusedConv(x, w) y = {BN % 'c'}", "follows FusedConv"),
}


@pytest.mark.parametrize(("body", "reason"), KEPT.values(), ids=KEPT)
def test_what_may_not_be_folded_is_kept_with_the_reason(body: str, reason: str) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n'
    text = head + f"g (float[N,4,6,6] x) => (float[N,4,d1,d2] y) {{ {body} }}"
    result = check_fold(build(text, w=SQUARE, **statistics(4)), folded=0, kept=1)
    assert reason in result.kept[0].reason


def test_convolution_output_that_is_a_model_output() -> None:
    text = f"g (float[N,4,6,6] x) => (float[N,4,6,6] c, float[N,4,6,6] y) {{ c = Conv(x, w) y = {BN % 'c'} }}"
    result = check_fold(build(text, w=SQUARE, **statistics(4)), folded=0, kept=1)
    assert "also an output of the model" in result.kept[0].reason


def test_convolution_output_captured_by_a_body() -> None:
    text = f"""g (float[N,4,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] z) {{ c = Conv(x, w) y = {BN % "c"}
        k = Constant <value = bool {{1}}> ()
        z = If (k) <then_branch = t () => (float[N,4,6,6] a) {{ a = Identity(c) }},
                    else_branch = e () => (float[N,4,6,6] b) {{ b = Neg(c) }}> }}"""
    result = check_fold(build(text, w=SQUARE, **statistics(4)), folded=0, kept=1)
    assert "inside a body" in result.kept[0].reason


@pytest.mark.parametrize("name", ["w", "s", "v"])
@pytest.mark.parametrize("ir_version", [3, 8])
def test_parameters_that_a_caller_may_override_stay(name: str, ir_version: int) -> None:
    """An initializer that is also an input is a default value; IR 3 demands that all of them are."""
    text = f"""<ir_version: {ir_version}, opset_import: ["" : 9]>
        g (float[2,4,6,6] x) => (float[2,4,6,6] y) {{ c = Conv(x, w) y = {BN % "c"} }}"""
    values = {"w": SQUARE, **statistics(4)}
    model = build(text, **values)
    for key in values if ir_version == 3 else [name]:
        model.graph.input.append(helper.make_tensor_value_info(key, 1, values[key].shape))
    result = fold_batchnorm.run(model)
    assert not result.modified
    assert "not constant" in result.kept[0].reason
    if ir_version == 3:
        return  # ONNX Runtime itself treats them as constants there
    other = 2 * values[name]
    np.testing.assert_array_equal(execute(model, **{name: other})[0], execute(result.model, **{name: other})[0])


TRAINING = {
    "attribute": ('["" : 17]', "y = BatchNormalization <training_mode: int = 1> (c, s, h, m, v)"),
    "attribute and outputs": ('["" : 17]', "y, r1, r2 = BatchNormalization <training_mode: int = 1> (c, s, h, m, v)"),
    "outputs before opset 14": ('["" : 9]', "y, r1, r2, r3, r4 = BatchNormalization (c, s, h, m, v)"),
    "is_test left at 0": ('["" : 6]', "y = BatchNormalization (c, s, h, m, v)"),
}


@pytest.mark.parametrize(("opset", "norm"), TRAINING.values(), ids=TRAINING)
def test_training_mode_is_kept(opset: str, norm: str) -> None:
    text = (
        f"<ir_version: 8, opset_import: {opset}> g (float[2,4,6,6] x) => (float[2,4,6,6] y) {{ c = Conv(x, w) {norm} }}"
    )
    result = fold_batchnorm.run(build(text, w=SQUARE, **statistics(4)))
    assert not result.modified
    assert "training mode" in result.kept[0].reason


def test_statistics_per_position_are_kept() -> None:
    norm = "BatchNormalization <spatial: int = 0> (c, s, h, m, v)"
    text = '<ir_version: 8, opset_import: ["" : 7]> ' + PLAIN.replace("BatchNormalization(c, s, h, m, v)", norm)
    assert "each position" in fold_batchnorm.run(build(text, w=SQUARE, **statistics(4))).kept[0].reason


# ------------------------------------------------------------------------------------------------- numbers at the edge


def test_epsilon_that_is_not_written_is_1e_5() -> None:
    """With variances of 1e-7 the epsilon is nearly all of the denominator."""
    check_fold(build(PLAIN, w=SQUARE, **{**statistics(4), "v": np.full(4, 1e-7, np.float32)}), folded=1)


def test_slightly_negative_variance_is_legal_arithmetic() -> None:
    check_fold(build(PLAIN, w=SQUARE, **{**statistics(4), "v": np.full(4, -1e-6, np.float32)}), folded=1)


@pytest.mark.parametrize("value", [-1.0, -1e-5, np.nan, np.inf])
def test_impossible_variance_is_bad_input(value: float) -> None:
    model = build(PLAIN, w=SQUARE, **{**statistics(4), "v": np.array([1, value, 1, 1], np.float32)})
    model.graph.node[1].name = "layer1.bn2"
    with pytest.raises(BadInput, match=r"layer1\.bn2: .*(NaN or Inf|must be positive)"):
        fold_batchnorm.run(model)


@pytest.mark.parametrize("name", ["w", "s", "h", "m"])
def test_parameters_that_are_no_numbers_are_bad_input(name: str) -> None:
    values = {"w": SQUARE, **statistics(4)}
    values[name] = values[name].copy()
    values[name].flat[0] = np.nan
    with pytest.raises(BadInput, match="NaN or Inf"):
        fold_batchnorm.run(build(PLAIN, **values))


def test_wrong_number_of_channels_is_bad_input() -> None:
    with pytest.raises(BadInput, match="makes 4 channels"):
        fold_batchnorm.run(build(PLAIN, w=SQUARE, **statistics(5)))


def test_dead_channels_fold() -> None:
    """Trained networks hold channels whose scale and variance have decayed to 1e-40."""
    stats = statistics(4)
    stats["s"][0], stats["h"][0], stats["m"][0], stats["v"][0] = 1e-40, 1e-41, 0, 1e-41
    stats["s"][2] = stats["h"][2] = 0
    check_fold(build(PLAIN, w=SQUARE, **stats), folded=1)


def test_large_mean_does_not_cancel_away() -> None:
    """The bias is found in float64: mean 1e4 leaves 8 digits of b - mean, float32 would leave none of the last four."""
    stats = statistics(4)
    stats["m"] = np.full(4, 1e4, np.float32)
    bias = np.float32(1e4) + np.arange(4, dtype=np.float32) / 1024
    model = build(PLAIN.replace("(x, w)", "(x, w, b)"), w=SQUARE, b=bias, **stats)
    result = fold_batchnorm.run(model)
    truth = stats["s"] * (bias.astype(np.float64) - 1e4) / np.sqrt(stats["v"].astype(np.float64) + 1e-5) + stats["h"]
    found = {t.name: numpy_helper.to_array(t) for t in result.model.graph.initializer}["b"]
    np.testing.assert_allclose(found, truth, rtol=1.2e-7, err_msg="one rounding to float32 is 6e-8")


@pytest.mark.parametrize(("variance", "reason"), [(0.0, "do not fit"), (6e4, "too small")])
def test_float16_that_would_overflow_or_underflow_is_kept(variance: float, reason: str) -> None:
    stats = statistics(4, "float16")
    weight = SQUARE.astype(np.float16)
    if variance == 0:
        weight = (weight * 1000).astype(np.float16)  # g is 316: 3e5 does not fit into float16
    else:
        weight, stats["h"], stats["m"] = (weight * 1e-4).astype(np.float16), *np.zeros((2, 4), np.float16)
    stats["v"] = np.full(4, variance, np.float16)
    result = fold_batchnorm.run(build(PLAIN.replace("float[", "float16["), w=weight, **stats))
    assert not result.modified
    assert reason in result.kept[0].reason


# ---------------------------------------------------------------------------------------------------- the real road
@pytest.mark.slow
@pytest.mark.parametrize(("name", "folds"), [("resnet18", 20), ("resnet50", 53), ("mobilenet_v2", 52)])
def test_real_networks_fold_completely(name: str, folds: int) -> None:
    """PyTorch -> ONNX -> our fold. Without the fold all BatchNormalizations are still there: nobody else did it.

    The module in float64 is the oracle for the folded graph; the graph before the fold shows what float32 leaves.
    Limit: the two graphs round differently at each of 20 to 53 layers, and 105 to 125 dB were seen.
    """
    from edgecnn.networks.zoo import find  # the only test in this file that needs the zoo
    from exporters.torch_export import export_module

    torch.manual_seed(0)
    module = find(name).build(num_classes=10)
    images = torch.randn(8, 3, 64, 64)
    with torch.no_grad():  # live statistics: the ones of an untrained network fold away unseen
        module.train()(images)
    model = export_module(module, (3, 64, 64))
    assert op_counts(model)["BatchNormalization"] == folds
    result = fold_batchnorm.run(model)
    assert (len(result.changes), result.kept) == (folds, ())
    assert "BatchNormalization" not in op_counts(result.model)
    assert max(change.bound for change in result.changes) <= 1.01 * 2.0**-24, "one rounding to float32"
    x = rng(6).normal(size=(2, 3, 64, 64)).astype(np.float32)
    before, after = (execute(m, **{m.graph.input[0].name: x})[0] for m in (model, result.model))
    truth = module.double().eval()(torch.from_numpy(x).double()).detach().numpy()
    assert snr_db(before, after) >= SNR_LIMIT_DB
    assert snr_db(truth, after) >= SNR_LIMIT_DB
