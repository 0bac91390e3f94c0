"""Causes of slowness, planted: each must be named with its nodes, its cost and a remedy that exists."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgecnn.profiling import remedies, slow_spots
from edgecnn.profiling.profile import measure
from edgecnn.profiling.profiled import Measured
from edgecnn.profiling.remedies import slow_int8
from edgecnn.profiling.slow_spots import Spot, spots
from exporters.artifact import Identity, describe, write_identity, write_stages
from exporters.graph import Graph
from exporters.quantization.quantize import QuantRecipe, quantize_model
from profiles import PEAKS, measured, piece
from small_nets import model, save

ROOT = Path(__file__).resolve().parent.parent
NOTHING = Graph(parser.parse_model('<ir_version: 9, opset_import: ["": 18]> g () => () {}'))
PLANTED = """<ir_version: 9, opset_import: ["" : 18]>
net (float[N,16,16,16] x) => (float[N,16,H,W] y) {
    c1 = Conv <pads: ints = [1,1,1,1]> (x, w1)
    s = Elu (c1)
    c2 = Conv <pads: ints = [1,1,1,1]> (s, w2)
    r = Relu (c2)
    u = ConvTranspose <strides: ints = [2,2]> (r, w3)
    y = Conv <pads: ints = [1,1,1,1], strides: ints = [2,2]> (u, w1)
}"""


def found_in(one: Measured, file: Graph = NOTHING) -> dict[str, Spot]:
    return {spot.kind: spot for spot in spots(one, file)}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Measured, Graph]:
    """An int8 network with an Elu and a ConvTranspose, which have no integer kernels."""
    draw = np.random.default_rng(0).normal
    net = model(
        PLANTED, **{f"w{i}": draw(size=(16, 16, k, k)).astype(np.float32) / 8 for i, k in enumerate((3, 3, 2), 1)}
    )
    feeds = {"x": draw(size=(1, 16, 16, 16)).astype(np.float32)}
    int8 = quantize_model(net, [feeds], QuantRecipe()).model
    path = save(int8, tmp_path_factory.mktemp("planted") / "int8.onnx")
    (((one, numbers),), _) = measure([str(path)], PEAKS, iterations=6)
    return one, numbers.graph


def test_a_planted_island_and_a_float_fall_back_are_named(planted: tuple[Measured, Graph]) -> None:
    found = found_in(*planted)
    assert found["island"].where == ("Elu_s",)
    assert found["island"].what.startswith("Elu in float")
    assert "Elu has no int8 kernel" in found["island"].remedy
    assert found["float layer"].where == ("ConvTranspose_u", "ConvTranspose_u/stays_float")
    assert "rewrite transposed_conv" in found["float layer"].remedy
    assert {"boundary", "layout", "work"} <= found.keys()


def test_an_island_costs_its_borders_too(planted: tuple[Measured, Graph]) -> None:
    """Elu itself, the Dequantize in front of it and the Quantize behind it: kernels counted by their tensors."""
    one, file = planted
    elu = next(p for p in one.pieces if p.op == "Elu")
    border = [p for p in one.pieces if set(p.ran.makes) & set(elu.ran.reads) or set(p.ran.reads) & set(elu.ran.makes)]
    assert {p.ran.op for p in border} == {"QuantizeLinear", "DequantizeLinear"}
    cost = elu.ran.time_us + sum(p.ran.time_us for p in border)
    assert found_in(one, file)["island"].time_us == pytest.approx(cost)


def test_every_microsecond_is_in_one_spot(planted: tuple[Measured, Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_spots, "LEAST_SHARE", 0.0)
    one, file = planted
    found = [spot for spot in spots(one, file) if spot.kind != "slow int8"]
    assert sum(spot.time_us for spot in found) == pytest.approx(one.nodes_us)
    assert sum(spot.share for spot in found) == pytest.approx(1.0)


def test_a_float_model_has_no_islands() -> None:
    one = measured([piece("Conv", origin="c", macs=10**6, layer="conv3-8 4x4"), piece("Elu", origin="e")])
    assert set(found_in(one)) == {"work"}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("conv3-8 4x4", "3x3 convolution"), ("conv80-8 1981", "80-wide convolution"), ("dw9-8 64", "9-wide depthwise"),
        ("conv3-8 2x4x4", "3x3x3 convolution"), ("conv3x5-8/g2 4x4", "3x5 grouped convolution"),
        ("upconv4-8 12", "4-wide transposed convolution"), ("bigru-8 9x2", "1 x GRU"),
    ],
)  # fmt: skip
def test_a_window_has_as_many_sides_as_the_map_has_axes(layer: str, words: str) -> None:
    op = "GRU" if "gru" in layer else "Conv"
    assert words in found_in(measured([piece(op, origin="c", macs=10**6, layer=layer)]))["work"].what


@pytest.mark.parametrize(
    ("sizes", "pixels"), [("N,3,8,8", True), ("N,8,8,3", True), ("N,1,8000", False), ("N,3,4,8,8", False)]
)
def test_only_pictures_are_advised_to_come_as_pixels(sizes: str, pixels: bool) -> None:
    text = f'<ir_version: 9, opset_import: ["": 18]> g (float[{sizes}] x) => (float[{sizes}] y) {{ y = Relu (x) }}'
    assert ("uint8-nhwc" in remedies.island_remedy("boundary", [], Graph(parser.parse_model(text)))) is pixels


def test_what_an_export_says_of_its_input_is_believed() -> None:
    """A spectrogram has one channel too."""
    net = parser.parse_model(
        '<ir_version: 9, opset_import: ["": 18]> g (float[N,1,8,9] x) => (float[N,1,8,9] y) {y = Relu (x)}'
    )
    write_identity(net, Identity("net", "classification", (), None))
    assert "uint8" not in remedies.island_remedy("boundary", [], Graph(net))


def test_two_islands_are_two_and_a_longer_one_is_one() -> None:
    """q -> DQ -> Sin -> Cos -> Q -> int8 -> DQ -> Tan -> Q"""
    one = measured(
        [
            piece("DequantizeLinear", 1, reads="q0", makes="f0"), piece("Sin", 2, origin="sin", reads="f0", makes="f1"),
            piece("Cos", 4, origin="cos", reads="f1", makes="f2"),
            piece("QuantizeLinear", 8, reads="f2", makes="q1", made="uint8"),
            piece("QLinearConv", 100, origin="conv", reads="q1", makes="q2", made="uint8", macs=10**6),
            piece("DequantizeLinear", 16, reads="q2", makes="f3"),
            piece("Tan", 32, origin="tan", reads="f3", makes="f4"),
            piece("QuantizeLinear", 64, reads="f4", makes="q3", made="uint8"),
        ]
    )  # fmt: skip
    islands = [spot for spot in spots(one, NOTHING) if spot.kind == "island"]
    assert [(spot.time_us, spot.where) for spot in islands] == [(112, ("tan",)), (15, ("cos", "sin"))]


@pytest.mark.parametrize(("mode", "words"), [("linear", "right as it is"), ("nearest", "rewrite nearest_resize")])
def test_an_interpolation_belongs_in_float(mode: str, words: str) -> None:
    text = f"""<ir_version: 9, opset_import: ["" : 18]> g (float[1,4,8,8] x) => (float[1,4,16,16] y)
    <float[4] s = {{1.0,1.0,2.0,2.0}}> {{ [up] y = Resize <mode = "{mode}"> (x, , s) }}"""
    one = measured(
        [
            piece("DequantizeLinear", 1, reads="q0", makes="f0"),
            piece("Resize", 2, origin="up", reads="f0", makes="f1"),
            piece("QuantizeLinear", 1, reads="f1", makes="q1", made="uint8"),
            piece("QLinearConv", 100, origin="conv", reads="q1", makes="q2", made="uint8", macs=10**6),
        ]
    )
    assert words in found_in(one, Graph(parser.parse_model(text)))["island"].remedy


@pytest.mark.parametrize(("op", "rewrite"), [("PRelu", "max_of_prelu"), ("BatchNormalization", "depthwise_batchnorm")])
def test_what_a_rewrite_takes_away_is_told(op: str, rewrite: str) -> None:
    assert f"(rewrite {rewrite})" in remedies.island_remedy("island", [piece(op, 2, origin="n")], NOTHING)
    assert (ROOT / f"exporters/rewrites/{rewrite}.py").is_file()


def test_what_edgecnn_raced_itself_is_not_recommended(planted: tuple[Measured, Graph]) -> None:
    """The same measurement, of a file that `quantize` or `build` chose: its stages are on record in it."""
    one, file = planted
    chosen = write_stages(file.model, (describe("fold", file.model, 0.1), describe("quantize", file.model, 1.0)))
    before, after = (spots(one, Graph(net)) for net in (file.model, chosen))
    assert [replace(spot, remedy="") for spot in before] == [replace(spot, remedy="") for spot in after]
    assert any(remedies.AGAIN in spot.remedy for spot in before)
    assert not any(remedies.AGAIN in spot.remedy or remedies.SEARCH in spot.remedy for spot in after)
    assert {spot.kind: spot.remedy for spot in after}["float layer"] == remedies.RACED
    floated = write_stages(file.model, (describe("fold", file.model, 0.1),))
    assert spots(one, Graph(floated)) == before, "a graph that was only exported was not raced"


def test_two_scales_that_meet_are_no_boundary() -> None:
    one = measured(
        [
            piece("QLinearConv", 100, origin="c", reads="q0", makes="q1", made="uint8", macs=10**6),
            piece("DequantizeLinear", 5, reads="q1", makes="f"),
            piece("QuantizeLinear", 6, reads="f", makes="q2", made="uint8"),
        ]
    )
    assert found_in(one)["requantize"].time_us == 11


def test_changes_of_layout_blame_what_is_no_convolution() -> None:
    one = measured(
        [
            piece("Conv", origin="c", makes="b0", macs=10**6, layer="conv3-8"),
            piece("ReorderOutput", 7, reads="b0", makes="p0"),
            piece("Mul", origin="m", reads="p0", makes="p1"),
            piece("ReorderInput", 5, reads="p1", makes="b1"),
            piece("Conv", origin="d", reads="b1", makes="b2", macs=10**6, layer="conv3-8"),
            piece("ReorderOutput", 1, reads="b2", makes="y"),
        ]
    )
    spot = found_in(one)["layout"]
    assert (spot.time_us, spot.where, spot.what) == (13, ("m",), "2 ReorderOutput, 1 ReorderInput")
    assert "(Mul)" in spot.remedy


@pytest.mark.parametrize(
    ("weight", "group", "words"),
    [
        ((32, 3, 7, 7), 1, "input channels"),
        ((8, 32, 1, 1), 1, "output channels"),
        ((30, 32, 1, 1), 1, "output channels"),
        ((24, 1, 3, 3), 24, "depthwise, channels"),
        ((32, 1, 5, 5), 32, "depthwise 5x5"),
        ((32, 8, 3, 3), 4, "4 groups of under 16 outputs"),
        ((64, 16, 3, 3), 4, "4 wide groups"),
        ((160, 16, 3, 3), 10, "grouped convolution"),
        ((72, 16, 3, 3), 4, "grouped convolution"),
        ((56, 8, 3, 3), 7, "grouped convolution"),
        ((48, 1, 3, 3), 24, "grouped convolution"),
        ((32, 32, 3, 3), 1, None),
        ((32, 1, 3, 3), 32, None),
    ],
)  # fmt: skip
def test_conditions_of_the_fast_kernel(weight: tuple[int, ...], group: int, words: str | None) -> None:
    file = quantized_conv(weight, group)
    slow = piece("QLinearConv", 100.0, origin="conv", made="uint8", macs=10**6)
    cause = slow_int8(slow, file, PEAKS)
    assert (cause is None) == (words is None)
    assert words is None or cause[0].startswith(words)  # type: ignore[index]
    quick = piece("QLinearConv", 100.0, origin="conv", made="uint8", macs=int(0.51 * 100 * 100 * 1e3))
    assert slow_int8(quick, file, PEAKS) is None, "at half of the peak nothing is wrong"


def test_kinds_of_numbers_that_are_slow() -> None:
    file = quantized_conv((32, 32, 3, 3), 1)
    signed = piece("QLinearConv", 100.0, origin="conv", made="int8", macs=10**6, took="int8")
    assert slow_int8(signed, file, PEAKS)[0] == "signed activations (S8S8)"  # type: ignore[index]
    unsigned = quantized_conv((32, 32, 3, 3), 1, np.uint8)
    plain = piece("QLinearConv", 100.0, origin="conv", made="uint8", macs=10**6)
    assert slow_int8(plain, unsigned, PEAKS)[0] == "unsigned weights (U8U8)"  # type: ignore[index]


def test_slow_layers_of_one_cause_are_one_spot() -> None:
    file = quantized_conv((24, 1, 3, 3), 24)
    pieces = [piece("QLinearConv", 40.0 + i, origin="conv", made="uint8", macs=10**5, makes=str(i)) for i in range(2)]
    spot = found_in(measured(pieces), file)["slow int8"]
    assert (spot.time_us, spot.share) == (81.0, 1.0)
    assert spot.what.startswith("2 x depthwise, channels no multiple of 16")
    assert "at 2.5 % of the int8 peak" in spot.what  # 2 x 10**5 MACs take 2 us at 100 GMAC/s, here 81
    assert "pad_depthwise" in spot.remedy


def test_a_slow_layer_is_not_called_near_the_peak() -> None:
    """A fast and a slow convolution of one kind: together they would look like one that is near the peak."""
    file = quantized_conv((8, 32, 1, 1), 1)
    fast, slow = (
        piece("QLinearConv", time_us, origin=origin, made="uint8", macs=macs, layer="conv1-8")
        for time_us, origin, macs in ((100.0, "other", 9 * 10**6), (30.0, "conv", 10**5))
    )
    one = measured([fast, slow])
    found = {spot.where: spot for spot in spots(one, file) if spot.kind == "work"}
    assert found["other",].remedy.startswith("near the peak: ")
    assert found["conv",].remedy == slow_spots.SLOW


@pytest.mark.parametrize(("cpu", "words"), [("avx2", "the price of exact sums"), ("vnni", "quantize --target vnni`")])
def test_unsigned_weights_are_what_a_cpu_that_saturates_needs(
    cpu: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remedies, "this_cpu", lambda: cpu)
    plain = piece("QLinearConv", 100.0, origin="conv", made="uint8", macs=10**6)
    cause = slow_int8(plain, quantized_conv((32, 32, 3, 3), 1, np.uint8), PEAKS)
    assert cause is not None
    assert words in cause[1]
    assert ("--target" in cause[1]) == (cpu == "vnni")


def test_remedies_name_rewrites_and_options_that_exist() -> None:
    text = (ROOT / "edgecnn/profiling/remedies.py").read_text()
    rewrites = {path.stem for path in (ROOT / "exporters/rewrites").glob("*.py")}
    named = set(re.findall(r"\b(?:space_to_depth|fold_\w+|pad_\w+|transposed_conv|nearest_resize)\b", text))
    assert named
    assert named <= rewrites
    options = set(re.findall(r"--[a-z-]+", text))
    assert options <= set(re.findall(r"--[a-z-]+", (ROOT / "edgecnn/cli/_options.py").read_text())) | {"--exclude"}


def quantized_conv(weight: tuple[int, ...], group: int, kind: type = np.int8) -> Graph:
    """A Conv called `conv` whose weights are integers behind a DequantizeLinear."""
    text = f"""<ir_version: 9, opset_import: ["": 18]> g (float[1,{weight[1] * group},9,9] x) => (float[N,M,H,W] y)
    <float s = {{0.1}}> {{ w = DequantizeLinear (wq, s) y = Conv <group: int = {group}> (x, w) }}"""
    net: onnx.ModelProto = parser.parse_model(text)
    net.graph.node[1].name = "conv"
    net.graph.initializer.append(numpy_helper.from_array(np.ones(weight, kind), "wq"))
    return Graph(net)
