"""Saturating CPUs: ONNX Runtime here against the emulation, forms of weights in a graph, its exact twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from accuracy_nets import chain, images, work_on
from exporters.quantization.quantize import QuantRecipe
from exporters.quantization.work import Work
from exporters.targets import weight_forms
from exporters.targets.cpu_target import SATURATING, finer, this_cpu
from exporters.targets.saturation import conv_rows
from runtimes.base import Array
from runtimes.census import census, kernels_dict
from runtimes.parity import compare
from runtimes.session import open_session
from saturating import saturating_dot
from small_nets import model

only_where_sums_saturate = pytest.mark.skipif(this_cpu() not in SATURATING, reason="this CPU sums exactly")


# ----------------------------------------------------------------------------------- what ONNX Runtime really computes
def q_conv(x: Array, w: Array, group: int, step: float) -> Array:
    """QLinearConv of x uint8 on scale 1 with w (int8, or uint8 around 128): its uint8 output on the scale `step`."""
    zero = np.asarray(128 if w.dtype == np.uint8 else 0, w.dtype)
    values = {"xs": np.float32(1), "xz": np.uint8(0), "w": w, "ws": np.float32(1), "wz": zero,
              "ys": np.float32(step), "yz": np.uint8(128)}  # fmt: skip
    node = helper.make_node("QLinearConv", ["x", *values], ["y"], group=group)
    shown = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in
             (("x", x.shape), ("y", [None] * 4))]  # fmt: skip
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph([node], "g", shown[:1], shown[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return np.asarray(open_session(made, threads=1)({"x": x})["y"])


def adversarial(channels: int, outputs: int, kernel: int, group: int) -> tuple[Array, Array, Array, Array]:
    """(x, w, exact sums, saturated sums): bright images and large weights, so that nearly every sum saturates."""
    rng = np.random.default_rng(channels)
    x = rng.integers(200, 256, (1, channels, 6, 6)).astype(np.uint8)
    w = rng.choice([127, 120, 90, -127, -100], (outputs, channels // group, kernel, kernel)).astype(np.int8)
    windows = sliding_window_view(x, (kernel, kernel), axis=(2, 3))
    exact, saturated = [], []
    for part, weights in zip(np.split(windows, group, axis=1), np.split(w, group), strict=True):
        rows = np.ascontiguousarray(part.transpose(0, 2, 3, 4, 5, 1)).reshape(-1, weights[0].size)
        exact.append(rows.astype(np.int64) @ conv_rows(weights).astype(np.int64).T)
        saturated.append(saturating_dot(rows, conv_rows(weights)))
    return x, w, np.concatenate(exact, axis=1), np.concatenate(saturated, axis=1)


CONVOLUTIONS = [(4, 16, 1, 1), (6, 16, 1, 1), (7, 5, 1, 1), (16, 4, 1, 1), (3, 8, 3, 1), (5, 8, 3, 1), (8, 16, 3, 1),
                (16, 16, 3, 2), (12, 12, 3, 4)]  # fmt: skip
"""(channels, outputs, kernel, groups): odd ones, whose pairs reach over two taps, too."""


@only_where_sums_saturate
@pytest.mark.parametrize("shape", CONVOLUTIONS, ids=str)
def test_onnx_runtime_saturates_here_as_the_emulation_says(shape: tuple[int, int, int, int]) -> None:
    x, w, exact, saturated = adversarial(*shape)
    step = float(np.abs(exact).max()) / 127
    got = q_conv(x, w, shape[3], step).transpose(0, 2, 3, 1).reshape(saturated.shape)
    assert np.array_equal(got, np.clip(np.rint(saturated / np.float32(step)) + 128, 0, 255))
    assert (got != np.clip(np.rint(exact / np.float32(step)) + 128, 0, 255)).mean() > 0.5


@pytest.mark.parametrize("shape", [*CONVOLUTIONS, (16, 16, 3, 16)], ids=str)
def test_unsigned_weights_are_exact_on_every_cpu(shape: tuple[int, int, int, int]) -> None:
    x, w, exact, _ = adversarial(*shape)
    step = float(np.abs(exact).max()) / 127
    moved = (w.astype(np.int16) + 128).astype(np.uint8)
    got = q_conv(x, moved, shape[3], step).transpose(0, 2, 3, 1).reshape(exact.shape)
    assert np.array_equal(got, np.clip(np.rint(exact / np.float32(step)) + 128, 0, 255))


@only_where_sums_saturate
def test_depthwise_kernels_are_exact_here() -> None:
    x, w, exact, saturated = adversarial(16, 16, 3, 16)
    step = float(np.abs(exact).max()) / 127
    got = q_conv(x, w, 16, step).transpose(0, 2, 3, 1).reshape(exact.shape)
    assert np.array_equal(got, np.clip(np.rint(exact / np.float32(step)) + 128, 0, 255))
    assert not np.array_equal(exact, saturated), "the emulation alone would have been wrong here"


# ------------------------------------------------------------------------------------------------ networks and recipes
BRIGHT = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N,8,10,10] x) => (float[N,4] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    r = Relu (a)
    b = Conv (r, w2)
    p = GlobalAveragePool (b)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, v)
}
"""


def bright_net() -> onnx.ModelProto:
    """The first convolution has large weights of one sign in its first channels; the second one is harmless."""
    rng = np.random.default_rng(0)
    w1 = np.where(np.arange(8)[None, :, None, None] < 4, 1.0, 0.25) * rng.uniform(0.9, 1.0, (8, 8, 3, 3))
    w1[::2] *= -1
    values = {"w1": w1, "w2": rng.normal(size=(8, 8, 1, 1)), "v": rng.normal(size=(4, 8))}
    return model(BRIGHT, **{name: value.astype(np.float32) for name, value in values.items()})


def bright_work(target: str, per_channel: bool = True) -> Work:
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.uniform(0.5, 1.0, (1, 8, 10, 10)).astype(np.float32)} for _ in range(5)]
    return work_on(bright_net(), feeds, QuantRecipe(target=target, per_channel=per_channel))


@pytest.mark.parametrize("per_channel", [True, False])
def test_only_the_layer_that_saturates_gets_other_weights(per_channel: bool) -> None:
    work = bright_work("avx2", per_channel)
    risks = {risk.node: risk for risk in weight_forms.look(work)}
    assert sorted(risks) == ["Conv_a", "Conv_b", "Gemm_y"]
    assert risks["Conv_a"].loss_db > 10
    assert dict(weight_forms.adapt(work, list(risks.values())).recipe.weight_forms) == {
        name: risk.choice for name, risk in risks.items() if risk.choice != "s8"
    }
    assert risks["Conv_a"].choice != "s8"
    assert risks["Conv_b"].choice == "s8"


def test_cpus_that_sum_exactly_are_not_looked_at() -> None:
    for target in ("vnni", "arm", ""):
        work = bright_work(target)
        assert weight_forms.look(work) == ()
        assert weight_forms.adapt(work, ()).recipe == work.recipe


def test_a_layer_that_met_no_numbers_is_not_looked_at() -> None:
    """As behind the proposals of a detector that proposes nothing; images of other sizes do not count either."""
    work = bright_work("avx2")
    empty = [{"x": np.zeros((0, 8, 10, 10), np.float32)}]
    assert weight_forms.look(replace(work, images=empty)) == ()
    other = [{"x": np.full((1, 8, 12, 12), 0.7, np.float32)}]
    open_net = bright_net()
    for dim in open_net.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.ClearField("dim_value")
    both = replace(work, model=open_net, images=[*work.images[:1], *other])
    assert len(weight_forms.look(both)) == 3


@only_where_sums_saturate
def test_the_prediction_holds_on_this_cpu() -> None:
    """Measured on the real kernels: the graph loses what was predicted, and the adapted one does not."""
    work = bright_work(this_cpu())
    reference = open_session(work.model)
    risks = weight_forms.look(work)
    seven, eight = (weight_forms.adapt(work, forms) for forms in (risks, finer(risks)))
    graphs = [each.quantized().model for each in (work, seven, eight)]
    before, after, fine, exact = (
        compare(reference, open_session(m), work.images).snr_db for m in (*graphs, weight_forms.exact(graphs[0]))
    )
    assert before < exact - 10
    assert exact - 10 < after < exact - 3, "a bit of the weights"
    assert fine > exact - 3


def with_forms(form: str) -> tuple[Work, onnx.ModelProto]:
    work = work_on(chain(), images(4))
    forms = tuple((name, form) for name in ("a", "b", "c", "y"))
    return work, replace(work, recipe=replace(work.recipe, weight_forms=forms)).quantized().model


@pytest.mark.parametrize(("form", "kind"), [("s7", np.int8), ("u8", np.uint8)])
def test_weights_of_every_form_run_on_integer_kernels(form: str, kind: type) -> None:
    work, made = with_forms(form)
    onnx.checker.check_model(made, full_check=True)
    weights = [v for t in made.graph.initializer if (v := numpy_helper.to_array(t)).ndim > 1]
    assert len(weights) == 4
    assert {v.dtype for v in weights} == {np.dtype(kind)}
    ends = [int(np.abs(v.astype(int) - (128 if form == "u8" else 0)).max()) for v in weights]
    assert ends == [64 if form == "s7" else 127] * 4
    assert kernels_dict(census(made, work.images[0])).get("QLinearConv") == 3


def test_unsigned_weights_are_the_same_numbers() -> None:
    """Oracle: onnx.reference, which computes a QDQ graph in float."""
    work, unsigned = with_forms("u8")
    signed = work.quantized().model
    for feed in work.images:
        want, got = (ReferenceEvaluator(m).run(None, dict(feed))[0] for m in (signed, unsigned))
        np.testing.assert_array_equal(want, got)


def test_the_exact_twin_is_that_graph_whatever_its_forms_were() -> None:
    work, unsigned = with_forms("u8")
    signed = work.quantized().model
    twin = weight_forms.exact(signed)
    assert signed.SerializeToString() == work.quantized().model.SerializeToString(), "the argument is not edited"
    one, other = (open_session(m, threads=1) for m in (twin, unsigned))
    assert compare(one, other, work.images).max_abs == 0.0
    reference = [ReferenceEvaluator(signed).run(None, dict(feed))[0] for feed in work.images]
    for feed, want in zip(work.images, reference, strict=True):  # a sum near a half may round to the other integer
        np.testing.assert_allclose(one(feed)["y"], want, atol=0.05 * float(np.abs(want).max()))


def test_forms_are_written_into_the_recipe() -> None:
    recipe = QuantRecipe(target="avx2", weight_forms=(("a", "s7"),))
    assert recipe.to_dict()["weight_forms"] == {"a": "s7"}
    assert recipe.to_dict()["target"] == "avx2"
