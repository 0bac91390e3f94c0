"""exporters/fold/front.py: what may go into the operators behind it, against PyTorch in float64 and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from exporters.graph import ABSORBED_KEY, get_meta, op_counts
from exporters.passes import fold_batchnorm
from fold_graphs import BN, SNR_LIMIT_DB, SQUARE, build, check_fold, execute, rng, snr_db, statistics
from runtimes.base import Array, BadInput

X = "float[N,4,6,6] x"
KERNEL = rng(9).normal(size=(6, 4, 3, 3)).astype(np.float32)
C = rng(2).uniform(0.5, 2, (4, 1, 1)).astype(np.float32)
NORM = f"n = {BN % 'x'}"


def centred(**more: Array) -> dict[str, Array]:
    """Statistics of a BatchNormalization that leaves zero alone: no mean, no shift."""
    zero = np.zeros(4, np.float32)
    return {**statistics(4), "h": zero, "m": zero, **more}


FOLDED: dict[str, tuple[str, str, dict[str, Array]]] = {
    "Conv": ("N,6,4,4", "y = Conv(n, w)", {"w": KERNEL}),
    "Conv with bias": ("N,6,4,4", "y = Conv(n, w, b)", {"w": KERNEL, "b": rng(1).normal(size=6).astype(np.float32)}),
    "Conv, VALID": ("N,6,4,4", 'y = Conv <auto_pad = "VALID"> (n, w)', {"w": KERNEL}),
    "Conv 1x1, SAME": ("N,4,6,6", 'y = Conv <auto_pad = "SAME_UPPER"> (n, w)', {"w": SQUARE}),
    "Conv, pads of zero": ("N,6,4,4", "y = Conv <pads: ints = [0,0,0,0]> (n, w)", {"w": KERNEL}),
    "Conv, strides and dilations": (
        "N,6,1,1", "y = Conv <strides: ints = [2,2], dilations: ints = [2,2]> (n, w)", {"w": KERNEL}),
    "Conv in groups": ("N,6,4,4", "y = Conv <group: int = 2> (n, w)", {"w": KERNEL[:, :2]}),
    "Conv of each channel": ("N,8,4,4", "y = Conv <group: int = 4> (n, w)",
                             {"w": rng(8).normal(size=(8, 1, 3, 3)).astype(np.float32)}),
    "ConvTranspose 1x1": ("N,6,6,6", "y = ConvTranspose(n, w)", {"w": KERNEL[:, :, :1, :1].transpose(1, 0, 2, 3)}),
    "ConvTranspose 1x1 in groups": ("N,12,6,6", "y = ConvTranspose <group: int = 2> (n, w)",
                                    {"w": KERNEL[:, :, :1, :1].transpose(1, 0, 2, 3)}),
}  # fmt: skip


@pytest.mark.parametrize(("makes", "text", "values"), FOLDED.values(), ids=FOLDED)
def test_batchnorm_before_an_operator_that_pads_nothing(makes: str, text: str, values: dict[str, Array]) -> None:
    model = build(f"g ({X}) => (float[{makes}] y) {{ {NORM} {text} }}", **values, **statistics(4))
    result = check_fold(model, folded=1)
    assert len(result.model.graph.node) == 1
    assert "next" in result.changes[0].what
    assert get_meta(result.model.graph.node[0]) == {ABSORBED_KEY: "n"}


PADDED = {
    "Conv": 'y = Conv <pads: ints = [1,1,1,1]> (n, w)',
    "Conv at one side": 'y = Conv <pads: ints = [0,0,0,1]> (n, w)',
    "Conv, SAME": 'y = Conv <auto_pad = "SAME_LOWER"> (n, w)',
    "ConvTranspose 3x3": "y = ConvTranspose(n, t)",
    "ConvTranspose with gaps": "y = ConvTranspose <strides: ints = [2,2]> (n, u)",
    "ConvTranspose, more at the end": "y = ConvTranspose <strides: ints = [2,2], output_padding: ints = [1,1]> (n, u)",
}  # fmt: skip
TRANSPOSED = KERNEL.transpose(1, 0, 2, 3)


@pytest.mark.parametrize("text", PADDED.values(), ids=PADDED)
def test_padded_zeros_are_no_normalized_zeros(text: str) -> None:
    """Kept with the reason when the shift is not zero, folded when it is."""
    name = "wtu"["wtu".index(text.rpartition(", ")[2][0])]
    weight = {"w": KERNEL, "t": TRANSPOSED, "u": TRANSPOSED[:, :, :1, :1]}[name]
    graph = f"g ({X}) => (float[N,6,a,b] y) {{ {NORM} {text} }}"
    result = check_fold(build(graph, **{name: weight}, **statistics(4)), folded=0, kept=1)
    assert "pads with zeros, which a fold would shift" in result.kept[0].reason
    check_fold(build(graph, **{name: weight}, **centred()), folded=1)


def test_a_transposed_convolution_with_negative_pads_adds_zeros() -> None:
    text = "y = ConvTranspose <pads: ints = [-1,-1,-1,-1]> (n, w)"
    model = build(f"g ({X}) => (float[N,6,8,8] y) {{ {NORM} {text} }}", w=TRANSPOSED[:, :, :1, :1], **statistics(4))
    assert not fold_batchnorm.run(model).modified


def test_from_both_sides_with_a_bias() -> None:
    """The second fold reads the bias that the first one wrote under the same name."""
    text = f"g ({X}) => (float[N,4,6,6] y) {{ {NORM} c = Conv(n, w, b) y = {BN % 'c'} }}"
    result = check_fold(build(text, w=SQUARE, b=C.ravel(), **statistics(4)), folded=2)
    assert {t.name for t in result.model.graph.initializer} == {"w", "b"}


def test_an_identity_alone_is_not_folded() -> None:
    model = build(f"g ({X}) => (float[N,6,4,4] y) {{ i = Identity(x) c = Conv(i, w) y = Identity(c) }}", w=KERNEL)
    result = fold_batchnorm.run(model)
    assert result.model == model
    assert not result.kept


def test_all_readers_take_their_own_copy() -> None:
    text = f"g ({X}) => (float[N,6,4,4] y, float[N,4,6,6] z) {{ {NORM} y = Conv(n, w) z = Conv(n, u, b) }}"
    result = check_fold(build(text, w=KERNEL, u=SQUARE, b=statistics(4)["h"], **statistics(4)), folded=1)
    assert op_counts(result.model) == {"Conv": 2}
    assert "Conv y, Conv z" in result.changes[0].what


def test_readers_that_share_their_weight_take_their_own_copy() -> None:
    text = f"g ({X}) => (float[N,6,4,4] y, float[N,6,4,4] z) {{ {NORM} y = Conv(n, w) z = Conv(n, w) }}"
    check_fold(build(text, w=KERNEL, **statistics(4)), folded=1)


def test_one_reader_that_cannot_keeps_it_for_all() -> None:
    text = f"g ({X}) => (float[N,6,4,4] y, float[N,4,6,6] z) {{ {NORM} y = Conv(n, w) z = Relu(n) }}"
    result = check_fold(build(text, w=KERNEL, **statistics(4)), folded=0, kept=1)
    assert "the next operator is Relu z" in result.kept[0].reason


KEPT = {
    "it makes a weight": ("float[4,4,1,1] x", "float[N,4,6,6] y", f"{NORM} y = Conv(z, n)", "parameter of y"),
    "Gemm reads it transposed": ("float[5,4] x", "float[4,2] y", f"{NORM} y = Gemm <transA: int = 1> (n, g)",
                                 "transposes"),
    "it is an output": (X, "float[N,6,4,4] y, float[N,4,6,6] n", f"{NORM} y = Conv(n, w)", "an output of the graph"),
    "the weight is computed": (X, "float[N,6,4,4] y", f"{NORM} r = Exp(w) y = Conv(n, r)",
                               "weight of y is not constant"),
    "a body reads it": (X, "float[N,6,4,4] y, float[N,4,6,6] q", f"""{NORM} y = Conv(n, w)
        k = Constant <value = bool {{1}}> ()
        q = If (k) <then_branch = t () => (float[N,4,6,6] a) {{ a = Identity(n) }},
                    else_branch = e () => (float[N,4,6,6] b) {{ b = Neg(n) }}>""", "inside a body"),
}  # fmt: skip


@pytest.mark.parametrize(("reads", "makes", "text", "reason"), KEPT.values(), ids=KEPT)
def test_kept_with_the_reason(reads: str, makes: str, text: str, reason: str) -> None:
    values = {"w": KERNEL, "z": np.ones((1, 4, 6, 6), np.float32), "g": np.ones((5, 2), np.float32)}
    model = build(f"g ({reads}) => ({makes.replace('N', '1') if 'z, n' in text else makes}) {{ {text} }}", **values,
                  **statistics(4))  # fmt: skip
    result = fold_batchnorm.run(model)
    assert not result.modified
    assert reason in result.kept[0].reason


# --------------------------------------------------------------------------------------- networks as PyTorch has them
def test_conv_relu_batchnorm_conv_equals_pytorch() -> None:
    """The BatchNormalization behind a Relu goes into the next convolution, which pads nothing."""
    torch.manual_seed(0)
    first, norm, second = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 6, 3)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    with torch.no_grad():
        norm.train()(torch.randn(8, 4, 5, 5) * 3 + 1)
    values = {"w": first.weight, "b": first.bias, "s": norm.weight, "h": norm.bias, "m": norm.running_mean,
              "v": norm.running_var, "u": second.weight, "c": second.bias}  # fmt: skip
    text = f"""g (float[2,3,9,9] x) => (float[2,6,5,5] y) {{ a = Conv(x, w, b) r = Relu(a) n = {BN % "r"}
        y = Conv(n, u, c) }}"""
    model = build(text, **{k: v.detach().numpy() for k, v in values.items()})  # type: ignore[union-attr]
    result = check_fold(model, folded=1)
    net = torch.nn.Sequential(first, torch.nn.ReLU(), norm, second).double().eval()
    x = rng(5).normal(size=(2, 3, 9, 9)).astype(np.float32)
    truth = net(torch.from_numpy(x).double()).detach().numpy()
    assert snr_db(truth, execute(result.model, x=x)[0]) >= SNR_LIMIT_DB


def test_before_activation_batchnorm_stays_and_says_why() -> None:
    """A pre-activation block (He et al. 2016): the sum is no convolution, and Relu stands before the next one."""
    text = f"""g ({X}) => (float[N,4,6,6] y) {{ a = Conv(x, w) t = Add(a, x) n = {BN % "t"} r = Relu(n)
        y = Conv(r, w) }}"""
    (kept,) = check_fold(build(text, w=SQUARE, **statistics(4)), folded=0, kept=1).kept
    assert kept.node == "n"
    assert kept.reason == "it follows Add t, not a Conv, ConvTranspose, Gemm or MatMul; the next operator is Relu r"


# ---------------------------------------------------------------------------------- constants, such as a preprocessing
def test_preprocessing_goes_into_the_first_convolution() -> None:
    """(x / 255 - mean) / deviation in front of a convolution that pads nothing."""
    text = f"g ({X}) => (float[N,6,4,4] y) {{ a = Div(x, k) b = Sub(a, m) c = Div(b, d) y = Conv(c, w) }}"
    mean = C - 1
    result = check_fold(build(text, w=KERNEL, k=np.float32(255), m=mean, d=C), folded=3)
    assert op_counts(result.model) == {"Conv": 1}


def test_what_somebody_else_reads_of_a_chain_stays() -> None:
    text = f"g ({X}) => (float[N,6,4,4] y, float[N,4,6,6] b) {{ b = Sub(x, m) c = Div(b, d) y = Conv(c, w) }}"
    result = check_fold(build(text, w=KERNEL, m=C - 1, d=C), folded=1, kept=1)
    assert [n.op_type for n in result.model.graph.node] == ["Sub", "Conv"]


def test_readers_that_have_their_channels_elsewhere_keep_it() -> None:
    """Conv means dimension 1, MatMul the last one; both have four."""
    text = (
        "g (float[N,4,4,4] x) => (float[N,4,4,4] y, float[N,4,4,4] z) { n = Mul(x, k) y = Conv(n, w) z = MatMul(n, u) }"
    )
    result = check_fold(build(text, w=SQUARE, u=SQUARE[:, :, 0, 0], k=C), folded=0, kept=1)
    assert "its readers see different channels" in result.kept[0].reason


def test_of_a_preprocessing_before_padding_the_factor_goes() -> None:
    text = f"g ({X}) => (float[N,6,6,6] y) {{ b = Sub(x, m) c = Div(b, d) y = Conv <pads: ints = [1,1,1,1]> (c, w) }}"
    result = check_fold(build(text, w=KERNEL, m=C - 1, d=C), folded=1, kept=1)
    assert [n.op_type for n in result.model.graph.node] == ["Sub", "Conv"]
    assert "pads with zeros" in result.kept[0].reason


WIDENED = {
    "fewer channels": "float[N,1,6,6] x",
    "fewer dimensions": "float[4,6,6] x",
    "channels not known": "float[N,D,6,6] x",
    "nothing known": "float x",
}


@pytest.mark.parametrize("reads", WIDENED.values(), ids=WIDENED)
def test_a_constant_that_makes_the_channels_stays(reads: str) -> None:
    """(N, 1, 6, 6) + (1, 4, 1, 1) has four channels: the convolution needs the sum."""
    text = f"g ({reads}) => (float[a,6,4,4] y) {{ n = Add(x, k) y = Conv(n, w) }}"
    model = build(text, w=KERNEL, k=C[None])
    if reads == "float x":
        model.graph.input[0].type.tensor_type.ClearField("shape")
    assert not fold_batchnorm.run(model).modified


@pytest.mark.parametrize("sides", [(6,), (6, 6), (6, 6, 6)])
def test_channels_come_second_in_every_number_of_dimensions(sides: tuple[int, ...]) -> None:
    text = (
        f"g (float[N,4{',6' * len(sides)}] x) => (float[N,2{',5' * len(sides)}] y) {{ n = Mul(x, k) y = Conv(n, w) }}"
    )
    weight = rng(4).normal(size=(2, 4, *[2] * len(sides))).astype(np.float32)
    check_fold(build(text, w=weight, k=C.reshape(4, *[1] * len(sides))), folded=1)


def test_a_number_of_four_dimensions_needs_the_shape() -> None:
    """It would make (6, 6) a (1, 1, 6, 6)."""
    model = build("g (float x) => (float[a,6,4,4] y) { n = Mul(x, k) y = Conv(n, w) }",
                  w=KERNEL, k=np.full((1, 1, 1, 1), 3, np.float32))  # fmt: skip
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert not fold_batchnorm.run(model).modified


def test_a_number_for_all_needs_no_shape() -> None:
    model = build("g (float[N,D,6,6] x) => (float[a,6,4,4] y) { n = Mul(x, k) y = Conv(n, w) }",
                  w=KERNEL, k=np.float32(3))  # fmt: skip
    assert len(fold_batchnorm.run(model).changes) == 1


def test_channels_that_do_not_meet_are_bad_input() -> None:
    model = build(f"g (float[N,5,6,6] x) => (float[N,6,4,4] y) {{ {NORM} y = Conv(n, w) }}", w=KERNEL, **statistics(5))
    with pytest.raises(BadInput, match="reads 4 channels, the BatchNormalization before it has 5"):
        fold_batchnorm.run(model)


@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm_with_every_attribute(trans_b: int) -> None:
    """Y = alpha BN(A) B' + beta C, and C of two rows; oracle: the formula in float64."""
    weight = rng(2).normal(size=(5, 4) if trans_b else (4, 5)).astype(np.float32)
    bias, stats = rng(4).normal(size=(3, 5)).astype(np.float32), statistics(4)
    text = f"""g (float[3,4] x) => (float[3,5] y) {{ {NORM}
        y = Gemm <alpha: float = 0.5, beta: float = -1.5, transB: int = {trans_b}> (n, w, b) }}"""
    result = check_fold(build(text, w=weight, b=bias, **stats), folded=1)
    x = rng(5).normal(size=(3, 4)).astype(np.float32)
    s, h, m, v = (stats[k].astype(np.float64) for k in "shmv")
    normal = s * (x - m) / np.sqrt(v + np.float64(np.float32(1e-5))) + h
    truth = 0.5 * normal @ (weight.T if trans_b else weight).astype(np.float64) - 1.5 * bias
    assert snr_db(truth, execute(result.model, x=x)[0]) >= SNR_LIMIT_DB


def test_the_old_weights_go_when_nobody_reads_them() -> None:
    result = check_fold(
        build(f"g ({X}) => (float[N,6,4,4] y) {{ {NORM} y = Conv(n, w) }}", w=KERNEL, **statistics(4)), 1
    )
    names = {t.name: numpy_helper.to_array(t).shape for t in result.model.graph.initializer}
    assert names == {"w": (6, 4, 3, 3), "w.bias": (6,)}
    assert result.model.graph.initializer[0].data_type == onnx.TensorProto.FLOAT
