"""Per-layer choices for CPUs whose sums of two products saturate, on layers made to saturate and layers that cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from exporters.quantization.affine import SEVEN_BITS, activation_grid, weight_grid
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.targets import cpu_target
from exporters.targets.cpu_target import (
    SATURATING,
    TARGETS,
    LayerRisk,
    bounded_db,
    check_target,
    finer,
    predict,
    this_cpu,
)
from exporters.targets.saturation import conv_rows
from exporters.targets.weight_forms import exact
from runtimes.base import Array, BadInput
from runtimes.session import open_session
from saturating import saturating_dot
from small_nets import model

NET = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N,8,6,6] x) => (float[N,4] y) {
    c = Conv <pads = [1, 1, 1, 1]> (x, w)
    d = Conv <group = 8> (c, dw)
    g = Conv <group = 2> (d, gw)
    p = GlobalAveragePool (g)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, v)
}
"""


def make(w: np.ndarray) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    shapes = {"dw": (8, 1, 3, 3), "gw": (8, 4, 1, 1), "v": (4, 8)}
    return model(NET, w=w, **{k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()})


def risk_of_first(w: np.ndarray, x: np.ndarray) -> object:
    net = make(w)
    grid = activation_grid(float(x.min()), float(x.max()))
    return predict(net, {"c"}, {"x": grid}, {"x": grid.quantize(x)})[0]


ONE_SIGN = np.where(np.arange(8)[:, None] < 4, 1.0, 0.2).reshape(1, 8, 1, 1)


def test_large_weights_of_one_sign_on_bright_images_saturate() -> None:
    """Four bright channels with the largest weights: every pair of them leaves 16 bits."""
    w = np.broadcast_to(ONE_SIGN, (8, 8, 3, 3)).astype(np.float32).copy()
    x = np.full((2, 8, 6, 6), 1.0, np.float32)
    risk = risk_of_first(w, x)
    assert risk.saturated_db < 15 < risk.exact_db
    assert risk.risky_pairs == pytest.approx(0.5)
    assert risk.choice == "s7", "the weights are as exact on 7 bits"


def test_the_prediction_is_the_instruction_itself() -> None:
    """Oracle: the whole layer as one matrix product through `saturating_dot`, which Python integers hold."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(8, 8, 1, 1)).astype(np.float32)
    w[:, :4] = np.abs(w[:, :4]) * 3
    x = rng.uniform(0, 1, (4, 8, 6, 6)).astype(np.float32)
    net = model(NET.replace("<pads = [1, 1, 1, 1]> (x, w)", "(x, w)"), w=w, dw=np.ones((8, 1, 3, 3), np.float32),
                gw=np.ones((8, 4, 1, 1), np.float32), v=np.ones((4, 8), np.float32))  # fmt: skip
    grid = activation_grid(0.0, 1.0)
    risk = predict(net, {"c"}, {"x": grid}, {"x": grid.quantize(x)})[0]
    rows = grid.quantize(x).transpose(0, 2, 3, 1).reshape(-1, 8)
    flat = w.reshape(8, 8)
    wg = weight_grid(flat, 0)
    got = saturating_dot(rows, wg.quantize(flat)) * float(grid.scale) * wg.scale
    want = grid.dequantize(rows).astype(np.float64) @ flat.T
    assert risk.saturated_db == pytest.approx(bounded_db([(want, got)]), abs=0.7), "a sample of 128 of 144 positions"
    assert risk.saturated_db < risk.exact_db - 1


def test_one_grid_for_all_channels_is_what_is_looked_at_then() -> None:
    """A channel with weights a hundredth of the others' keeps one or two of its bits."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(8, 8, 3, 3)).astype(np.float32)
    w[:4] /= 100
    net, x = make(w[:4].repeat(2, axis=0)), np.abs(rng.normal(size=(2, 8, 6, 6))).astype(np.float32)
    wide = make(w)
    grid = activation_grid(0.0, float(x.max()))
    shared, own = (predict(wide, {"c"}, {"x": grid}, {"x": grid.quantize(x)}, per)[0] for per in (False, True))
    small = predict(net, {"c"}, {"x": grid}, {"x": grid.quantize(x)}, per_channel=False)[0]
    assert shared.exact_db < own.exact_db
    assert small.exact_db > 30, "alone, the small channels have all their bits"


def test_gaussian_weights_on_dark_images_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(2, 8, 6, 6))).astype(np.float32) ** 3
    risk = risk_of_first(rng.normal(size=(8, 8, 3, 3)).astype(np.float32), x)
    assert risk.loss_db < 0.5
    assert risk.choice == "s8"


def test_where_seven_bits_cost_much_unsigned_weights_are_finer() -> None:
    """One pair of large weights on bright channels, all else small: 7 bits hit the small ones, saturation the sums."""
    rng = np.random.default_rng(5)
    w = (rng.normal(size=(8, 8, 3, 3)) * 0.05).astype(np.float32)
    w[:, :2] = 0.0
    w[:, :2, 1, 1] = 1.0
    x = (rng.uniform(size=(2, 8, 6, 6)) * (rng.uniform(size=(2, 8, 6, 6)) < 0.2)).astype(np.float32)
    x[:, :2] = rng.uniform(0.9, 1.0, (2, 2, 6, 6))
    risk = risk_of_first(w, x)
    assert risk.loss_db > 3
    assert risk.exact_db - risk.seven_bits_db > 3
    assert risk.choice == "s7", "it costs no time"
    (fine,) = finer([risk])
    assert fine == replace(risk, choice="u8")
    assert (risk.lost_db, fine.lost_db) == (risk.exact_db - risk.seven_bits_db, 0.0)
    mild = replace(risk, seven_bits_db=risk.exact_db - 2)
    assert finer([mild, replace(mild, choice="s8")]) == (mild, replace(fine, seven_bits_db=mild.seven_bits_db))


ROWS = {
    "Gemm": "g (float[N,64] x) => (float[N,4] y) { y = Gemm <transB = 1> (x, w) }",
    "Conv": "g (float[N,64,1,1] x) => (float[N,4,1,1] y) { y = Conv (x, w) }",
}


def risk_of_rows(kind: str, w: Array, images: int) -> LayerRisk:
    """Of a layer that sees one row of 64 an image, all 0.4 of 1."""
    pixels = (1, 1) if kind == "Conv" else ()
    net = model(f'<ir_version: 9, opset_import: ["" : 18]> {ROWS[kind]}', w=w.reshape(*w.shape, *pixels))
    grid = activation_grid(0.0, 1.0)
    (risk,) = predict(net, {"y"}, {"x": grid}, {"x": grid.quantize(np.full((images, 64, *pixels), 0.4, np.float32))})
    return risk


@pytest.mark.parametrize(("images", "form"), [(2, "s7"), (8, "s7"), (9, "s8")])
@pytest.mark.parametrize("kind", ROWS)
def test_a_few_rows_say_little(kind: str, images: int, form: str) -> None:
    """One image is one row of a fully connected layer: what saturates on the next one was never seen."""
    w = np.full((4, 64), 0.1, np.float32)
    w[:, :2] = 1.0
    risk = risk_of_rows(kind, w, images)
    assert risk.loss_db == pytest.approx(0.0, abs=1e-5)
    assert risk.risky_pairs == pytest.approx(1 / 32)
    assert (risk.choice, risk.few_rows) == (form, form == "s7")
    w[:, 1::2] *= -1
    assert risk_of_rows(kind, w, images).choice == "s8", "weights of two signs never saturate"


def test_depthwise_layers_are_not_asked_and_groups_are() -> None:
    rng = np.random.default_rng(0)
    net = make(rng.normal(size=(8, 8, 3, 3)).astype(np.float32))
    shapes = {"x": (2, 8, 6, 6), "c": (2, 8, 6, 6), "d": (2, 8, 4, 4), "f": (2, 8)}
    seen = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    grids = {name: activation_grid(float(v.min()), float(v.max())) for name, v in seen.items()}
    integers = {name: grids[name].quantize(value) for name, value in seen.items()}
    names = [risk.node for risk in predict(net, {"c", "d", "g", "y"}, grids, integers)]
    assert names == ["Conv_c", "Conv_g", "Gemm_y"]


@pytest.mark.parametrize(
    ("channels", "filters", "group", "kernel", "saturates"),
    [
        (1, 8, 1, (3, 3), True),  # a grey image: neighbours are taps
        (1, 8, 1, (9,), True),  # sound
        (1, 8, 1, (1, 1), False),  # one product a sum
        (1, 1, 1, (3, 3), False),  # one filter for one channel
        (4, 4, 4, (5, 5), False),  # one filter for each channel
        (4, 8, 4, (3, 3), True),  # two filters for each
        (4, 4, 2, (1, 1), True),
    ],
)
def test_one_channel_pairs_its_taps(
    channels: int, filters: int, group: int, kernel: tuple[int, ...], saturates: bool
) -> None:
    """Oracle on a CPU that saturates: the kernels, against those for unsigned weights, which are exact."""
    sizes = [10] * len(kernel)
    axes = ",".join(f"S{i}" for i in range(len(sizes)))
    head = f"g (float[1,{channels},{','.join(map(str, sizes))}] x) => (float[N,C,{axes}] y)"
    weight = np.random.default_rng(0).normal(1, 0.1, (filters, channels // group, *kernel)).astype(np.float32)
    net = model(f'<ir_version: 9, opset_import: ["": 18]> {head} {{ y = Conv <group = {group}> (x, w) }}', w=weight)
    x = np.random.default_rng(1).uniform(0.8, 1, (1, channels, *sizes)).astype(np.float32)
    grid = activation_grid(0.0, float(x.max()))
    assert any(risk.loss_db > 10 for risk in predict(net, {"y"}, {"x": grid}, {"x": grid.quantize(x)})) == saturates
    if this_cpu() in SATURATING:
        int8 = quantize_model(net, [{"x": x}], QuantRecipe()).model
        got, want = (open_session(graph)({"x": x})["y"] for graph in (int8, exact(int8)))
        assert (np.abs(got - want).max() > 0.1 * want.max()) == saturates


def test_what_carries_integers_beside_a_layer_has_no_weights() -> None:
    """A MaxPool that reads what a convolution reads (an Inception block) is int8 as well, and is no layer."""
    net = model("""<ir_version: 9, opset_import: ["" : 18]>
        net (float[N,8,6,6] x) => (float[N,8,6,6] c, float[N,8,3,3] p) {
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
            c = Conv (x, w)
        }""", w=np.ones((8, 8, 1, 1), np.float32))  # fmt: skip
    grid, x = activation_grid(0.0, 1.0), np.ones((2, 8, 6, 6), np.float32)
    (risk,) = predict(net, {"c", "p"}, {"x": grid}, {"x": grid.quantize(x)})
    assert risk.node == "Conv_c"


def test_seven_bit_grids_stay_within_64_and_map_the_peak_there() -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(5, 40)).astype(np.float32)
    q = weight_grid(w, 0, SEVEN_BITS).quantize(w)
    assert np.abs(q.astype(int)).max(axis=1).tolist() == [64] * 5


def test_unknown_targets_are_told_with_the_nearest() -> None:
    for name in TARGETS:
        check_target(name)
    with pytest.raises(BadInput, match="avx512"):
        check_target("avx521")


def test_a_large_layer_is_looked_at_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block is as much of the layer's rows; what is said of the layer is the same."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(40, 64)).astype(np.float32)
    text = "g (float[N,64] x) => (float[N,40] y) { y = Gemm <transB = 1> (x, w) }"
    net = model(f'<ir_version: 9, opset_import: ["" : 18]> {text}', w=weight)
    x = np.abs(rng.normal(size=(16, 64))).astype(np.float32)
    grid = activation_grid(0.0, float(x.max()))

    def risk() -> cpu_target.LayerRisk:
        return predict(net, {"y"}, {"x": grid}, {"x": grid.quantize(x)})[0]

    whole = risk()
    rows, real = [], cpu_target._layer_rows
    monkeypatch.setattr(cpu_target, "_layer_rows", lambda n, w, *rest: rows.append(len(w)) or real(n, w, *rest))
    monkeypatch.setattr(cpu_target, "BLOCK_BYTES", weight.nbytes // 4)
    blocks = risk()
    assert rows == [10] * 4
    assert blocks.choice == whole.choice
    assert blocks.risky_pairs == pytest.approx(whole.risky_pairs)
    for name in ("exact_db", "saturated_db", "seven_bits_db"):
        assert getattr(blocks, name) == pytest.approx(getattr(whole, name), abs=1e-3)


@pytest.mark.parametrize("layer", ["Gemm (x, w)", "MatMul (x, w)", "Gemm <transB = 0> (x, w)"])
def test_the_rows_of_a_fully_connected_layer_are_its_outputs_however_they_lie(layer: str) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 64)).astype(np.float32) * rng.uniform(0.01, 1, (64, 1)).astype(np.float32)
    text = '<ir_version: 9, opset_import: ["" : 18]> g (float[N,64] x) => (float[N,64] y) { y = LAYER }'
    x = np.abs(rng.normal(size=(16, 64))).astype(np.float32)
    grid = activation_grid(0.0, float(x.max()))
    nets = (
        model(text.replace("LAYER", "Gemm <transB = 1> (x, w)"), w=weight),
        model(text.replace("LAYER", layer), w=weight.T),
    )
    wanted, found = (predict(net, {"y"}, {"x": grid}, {"x": grid.quantize(x)})[0] for net in nets)
    assert found.exact_db == pytest.approx(wanted.exact_db, abs=1e-3)
    assert found.to_dict() == {**wanted.to_dict(), "node": found.node}
    assert found.to_dict()["loss_db"] == pytest.approx(found.exact_db - found.saturated_db, abs=1e-4)


def test_layers_that_answer_zero_are_right_or_wrong_altogether() -> None:
    zero, one = np.zeros(3), np.ones(3)
    assert [bounded_db([pair]) for pair in ((zero, zero), (zero, one), (one, one))] == [200.0, -200.0, 200.0]


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize(
    ("sizes", "kernel", "strides", "dilations"),
    [
        ((2, 2), (3, 3), (1, 1), (1, 1)),  # the kernel is larger than the image
        ((7, 6), (2, 3), (2, 1), (1, 1)),
        ((9, 8), (4, 2), (3, 2), (1, 1)),
        ((9, 7), (3, 2), (1, 1), (2, 3)),
        ((9,), (4,), (2,), (1,)),
    ],
)
def test_rows_are_taken_where_the_convolution_takes_them(
    monkeypatch: pytest.MonkeyPatch,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    auto_pad: str,
) -> None:
    """Oracle: onnx.reference. So many rows are drawn that every output occurs, and no other does."""
    monkeypatch.setattr(cpu_target, "POSITIONS", 3000)
    pads = f"pads = {[1, 0, 2, 1] if len(sizes) == 2 else [1, 2]}, " if auto_pad == "NOTSET" else ""
    if auto_pad == "VALID" and sizes == (2, 2):
        pytest.skip("there is no output without padding")
    attrs = f'auto_pad = "{auto_pad}", {pads}strides = {list(strides)}, dilations = {list(dilations)}'
    text = f"g (float[2,3,{','.join(map(str, sizes))}] x) => (float[N,4,{'A,B'[: 2 * len(sizes) - 1]}] y)"
    rng = np.random.default_rng(5)
    x, w = rng.integers(1, 256, (2, 3, *sizes)), rng.integers(-128, 128, (4, 3, *kernel)).astype(np.float32)
    net = model(f'<ir_version: 9, opset_import: ["" : 18]> {text} {{ y = Conv <{attrs}> (x, w) }}', w=w)
    rows = cpu_target._sample(net.graph.node[0], x.astype(np.uint8), w, 0, rng)
    got = rows @ conv_rows(w).T
    want = np.asarray(ReferenceEvaluator(net).run(None, {"x": x.astype(np.float32)})[0])
    assert {tuple(row) for row in got.tolist()} == {
        tuple(row) for row in np.moveaxis(want, 1, -1).reshape(-1, 4).tolist()
    }


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_a_kernel_larger_than_its_image_has_a_risk(auto_pad: str) -> None:
    text = f'g (float[N,4,2,2] x) => (float[N,4,2,2] y) {{ y = Conv <auto_pad = "{auto_pad}"> (x, w) }}'
    net = model(f'<ir_version: 9, opset_import: ["" : 18]> {text}', w=np.ones((4, 4, 3, 3), np.float32))
    grid = activation_grid(0.0, 1.0)
    (risk,) = predict(net, {"y"}, {"x": grid}, {"x": grid.quantize(np.ones((3, 4, 2, 2), np.float32))})
    assert risk.choice == "s7"
