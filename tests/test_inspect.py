"""The counts of `edgecnn inspect`, held against PyTorch's own counts and against shapes multiplied out by hand."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgecnn.cli import main
from edgecnn.numbers.inspect import inspect, inspect_model
from edgecnn.numbers.onnx_numbers import node_macs
from exporters.pack import pack
from exporters.quantization.quantize import QuantRecipe
from exporters.searching.search import Design
from exporters.searching.workshop import Workshop
from exporters.torch_export import export_module
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import open_session
from small_nets import conv_net, model, save
from test_predict import ABOUT


class Mixed(nn.Module):
    """Grouped, depthwise, strided, dilated, transposed and fully connected layers in one network."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 16, 3, groups=2, dilation=2), nn.PReLU(16),
            nn.Conv2d(16, 16, 5, groups=16, padding=2, bias=False), nn.SiLU(),
            nn.ConvTranspose2d(16, 6, 3, stride=2, groups=2), nn.Flatten(),
            nn.Linear(6 * 25 * 25, 7), nn.Linear(7, 5, bias=False),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_counts_of_an_exported_network_are_pytorchs() -> None:
    """Oracles: parameters() of the module, and torch's FLOP counter (2 FLOPs are 1 MAC)."""
    module = Mixed().eval()
    image = torch.zeros(1, 3, 32, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(image)
    found = inspect_model(export_module(module, (3, 32, 32)), "mixed", 0)
    assert found.macs == counter.get_total_flops() // 2
    assert found.params == sum(p.numel() for p in module.parameters())
    assert sum(layer.params for layer in found.layers) == found.params  # no weight is shared here
    assert {layer.module for layer in found.layers if layer.op == "Conv"} == {"layers.0", "layers.3", "layers.5"}


def test_shared_weights_count_once() -> None:
    shared = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 4] x) => (float[N, 4] y) '
        "{ a = MatMul (x, w) r = Relu (a) y = MatMul (r, w) }",
        w=np.ones((4, 4), np.float32),
    )
    found = inspect_model(shared, "shared", 0)
    assert (found.params, found.macs) == (16, 32)


@pytest.mark.parametrize(
    ("op", "inputs", "output", "macs"),
    [
        ("Conv", [(1, 3, 8, 8), (16, 3, 3, 3)], (1, 16, 6, 6), 16 * 36 * 27),
        ("Conv", [(1, 8, 9), (8, 1, 3)], (1, 8, 7), 8 * 7 * 3),  # 1-D, depthwise
        ("ConvTranspose", [(1, 4, 5, 5), (4, 6, 2, 2)], (1, 6, 10, 10), 100 * 24),
        ("QLinearConv", [(1, 3, 8, 8), (), (), (16, 3, 3, 3)], (1, 16, 6, 6), 16 * 36 * 27),
        ("Gemm", [(2, 7), (7, 5)], (2, 5), 70),
        ("Gemm", [(7, 2), (5, 7)], (2, 5), 70),  # both transposed
        ("MatMul", [(2, 3, 4, 5), (5, 6)], (2, 3, 4, 6), 2 * 3 * 4 * 6 * 5),
        ("GRU", [(7, 1, 5), (2, 9, 5), (2, 9, 3)], (7, 2, 1, 3), 7 * 2 * 3 * 3 * (5 + 3)),  # both directions
        ("LSTM", [(7, 2, 5), (1, 12, 5), (1, 12, 3), None], (7, 1, 2, 3), 7 * 2 * 4 * 3 * (5 + 3)),
        ("RNN", [(7, 1, 5), (1, 3, 5), (1, 3, 3)], None, 7 * 3 * (5 + 3)),
        ("DynamicQuantizeLSTM", [(7, 2, 5), (1, 5, 12), (1, 3, 12)], None, 7 * 2 * 4 * 3 * (5 + 3)),  # turned round
        ("GRU", [None, (1, 9, 5), (1, 9, 3)], None, None),
        ("Relu", [(1, 2)], (1, 2), 0),
        ("Conv", [None, (16, 3, 3, 3)], None, None),
        ("Gemm", [(2, 7), (7, 5)], None, None),
        ("Gemm", [None, (7, 5)], (2, 5), None),
        ("MatMul", [None, (5, 6)], (2, 6), None),
    ],
)
def test_macs_by_hand(op: str, inputs: list[tuple[int, ...] | None], output: tuple[int, ...] | None, macs: int) -> None:
    assert node_macs(op, inputs, output) == macs


def test_an_open_batch_counts_as_one_unless_given() -> None:
    net = conv_net(channels=8, size=8)
    one, four = (inspect_model(net, "net", 0, shape) for shape in (None, "x:4,3,8,8"))
    assert one.macs == 8 * 64 * 27 + 80
    assert four.macs == 4 * one.macs
    assert four.activation_bytes == 4 * one.activation_bytes
    with pytest.raises(BadInput, match=r"xx: unknown input; did you mean x\?"):
        inspect_model(net, "net", 0, "xx:1,3,8,8")


def test_an_open_image_size_is_unknown_and_not_one() -> None:
    """A 1 x 1 image would cost 1/64 of the truth."""
    net = conv_net(channels=8, size=8)
    for i in (2, 3):
        net.graph.input[0].type.tensor_type.shape.dim[i].dim_param = "HW"[i - 2]
    found = inspect_model(net, "net", 0)
    assert (found.macs, found.activation_bytes) == (None, None)
    assert found.params == inspect_model(conv_net(channels=8, size=8), "net", 0).params
    assert [layer.macs for layer in found.layers if layer.op in ("Conv", "Gemm")] == [None, 80]  # 8 x 10 after the pool
    given = inspect_model(net, "net", 0, "1,3,8,8")
    assert (given.macs, given.activation_bytes) == (8 * 64 * 27 + 80, 2 * 8 * 64 * 4)


def test_activation_memory_by_hand() -> None:
    """x (1,3,8,8) dies after the Conv; the widest moment is BatchNorm's or ReLU's: two (1,8,8,8) float tensors."""
    assert inspect_model(conv_net(channels=8, size=8), "net", 0).activation_bytes == 2 * 8 * 64 * 4


def test_a_skip_connection_keeps_its_tensor_alive() -> None:
    skip = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 100] x) => (float[1, 100] y) '
        "{ a = Relu (x) b = Sigmoid (a) c = Tanh (b) y = Add (a, c) }"
    )
    assert inspect_model(skip, "skip", 0).activation_bytes == 3 * 400  # a, and b with c, or c with y


def test_quantized_tensors_count_a_byte_and_weights_stay_parameters() -> None:
    """4 -> 32 -> 1 channels of 8 x 8: the integer input (256 bytes) lives until the first Conv has made its 2,048."""
    quantized = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4, 8, 8] x) => (float[1, 1, 8, 8] y) {'
        "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) k = DequantizeLinear (w, s, zw)"
        "c = Conv <pads = [1, 1, 1, 1]> (d, k) u = QuantizeLinear (c, s, z) e = DequantizeLinear (u, s, z)"
        "l = DequantizeLinear (v, s, zw) f = Conv (e, l) t = QuantizeLinear (f, s, z) y = DequantizeLinear (t, s, z) }",
        s=np.float32(0.1), z=np.uint8(128), zw=np.int8(0),
        w=np.ones((32, 4, 3, 3), np.int8), v=np.ones((1, 32, 1, 1), np.int8),
    )  # fmt: skip
    found = inspect_model(quantized, "q", 0)
    assert (found.params, found.macs) == (32 * 36 + 32, 32 * 64 * 36 + 64 * 32)
    assert found.activation_bytes == 256 + 2048


QUANTIZED = "q, s, z = DynamicQuantizeLinear (x) "
BACK = " f = Cast <to = 1> (a) t = Mul (s, k) y = Mul (f, t)"
OF_INTEGERS = {
    "MatMulInteger": ("4", "6", f"{QUANTIZED} a = MatMulInteger (q, w, z, zeros) {BACK}", (4, 6), 24, 24),
    "ConvInteger": ("4, 8, 8", "6, 6, 6", f"{QUANTIZED} a = ConvInteger (q, w, z, zeros) {BACK}", (6, 4, 3, 3),
                    216, 216 * 36),
    "QLinearConv": ("4, 8, 8", "6, 6, 6", "q = QuantizeLinear (x, k, zx) a = QLinearConv (q, k, zx, w, steps, zeros,"
                    " k, zx, b) y = DequantizeLinear (a, k, zx)", (6, 4, 3, 3), 216 + 6, 216 * 36),
    "QGemm": ("4", "6", "q = QuantizeLinear (x, k, zx) a = com.microsoft.QGemm (q, k, zx, w, steps, zeros, b, k, zx)"
              " y = DequantizeLinear (a, k, zx)", (4, 6), 24 + 6, 24),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_INTEGERS)
def test_weights_of_operators_on_integers_are_parameters_and_zero_points_are_not(name: str) -> None:
    reads, makes, body, shape, params, macs = OF_INTEGERS[name]
    text = (
        '<ir_version: 9, opset_import: ["" : 20, "com.microsoft" : 1]> '
        f"g (float[1, {reads}] x) => (float[1, {makes}] y) {{ {body} }}"
    )
    values = {
        "w": np.ones(shape, np.int8), "b": np.ones(6, np.int32), "zeros": np.zeros(6, np.int8),
        "steps": np.ones(6, np.float32), "k": np.float32(0.1), "zx": np.uint8(0),
    }  # fmt: skip
    read = set(re.findall(r"\w+", body))
    found = inspect_model(model(text, **{key: value for key, value in values.items() if key in read}), "q", 0)
    assert (found.params, found.macs) == (params, macs)


def test_a_dequantized_output_is_a_float_tensor() -> None:
    quantized = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (uint8[1, 100] x) => (float[1, 100] y) '
        "{ y = DequantizeLinear (x, s, z) }",
        s=np.float32(0.1), z=np.uint8(128),
    )  # fmt: skip
    assert inspect_model(quantized, "q", 0).activation_bytes == 100 + 400


def test_what_cannot_be_known_is_none() -> None:
    unknown = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 4] x, int64[2] shape) => (float[A, B] y) '
        "{ r = Reshape (x, shape) y = MatMul (r, w) }",
        w=np.ones((4, 4), np.float32),
    )
    found = inspect_model(unknown, "u", 0)
    assert (found.macs, found.activation_bytes, found.params) == (None, None, 16)
    assert "an unknown number of MACs" in found.verdict


def test_the_document_of_a_file(tmp_path: Path) -> None:
    path = save(conv_net(), tmp_path / "net.onnx")
    document = inspect(path).to_dict()
    assert document["size_bytes"] == path.stat().st_size
    assert document["opset"] == 20
    assert document["ops"]["Conv"] == 1
    assert document["inputs"] == ({"name": "x", "dtype": "float32", "shape": ("N", 3, 8, 8)},)
    assert {"params", "macs", "outputs", "layers", "stages", "metadata"} <= document.keys()
    with pytest.raises(BadInput, match="holds its own"):
        inspect(path, weights=Path("w.pt"))


def test_counts_of_a_rewritten_graph_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = Workshop(conv_net(), [{"x": np.ones((1, 3, 8, 8), np.float32)}], QuantRecipe())
    for names in ((), ("space_to_depth",), ("pad_inputs", "pad_outputs")):
        built = shop.built(Design(names))
        assert built is not None
        path = save(built.quantized.model, tmp_path / f"{len(names)}.onnx")
        made = [name for name in names if name != "space_to_depth"]  # no stride: it changes nothing
        assert inspect(path).rewritten.startswith(f"rewritten for int8 by {', '.join(made)}: " if made else "")
        assert bool(inspect(path).rewritten) == bool(made)
    assert main(["inspect", str(path)]) == 0
    assert "pad_inputs, pad_outputs: parameters and MACs count the zeros" in capsys.readouterr().out


def test_a_network_of_the_zoo_is_counted_by_torch() -> None:
    found = inspect("lenet5")
    assert (found.params, found.macs, found.kind) == (61_706, 416_520, "torch")
    assert sum(layer.macs or 0 for layer in found.layers) == found.macs
    assert found.outputs[0].shape == ("batch", 10)
    assert found.size_bytes == 61_706 * 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.onnx", b"", "is empty"),
        ("text.onnx", b"hello", "is not an ONNX model"),
        ("w.pt", b"PK\x03\x04", "is no ONNX model or bundle; make one with `edgecnn export"),
        ("net.edge", b"PK\x03\x04", "is not a whole zip file"),
    ],
)
def test_bad_files_are_one_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        inspect(path)
    assert str(caught.value).startswith(str(path))


def test_truncating_anywhere_is_bad_input(tmp_path: Path) -> None:
    """A cut at any of eight places is `BadInput`, or (between two fields of protobuf) still a model."""
    data = conv_net().SerializeToString()
    path = tmp_path / "cut.onnx"
    for part in range(8):
        path.write_bytes(data[: max(1, len(data) * part // 8)])
        with pytest.raises(BadInput):
            inspect(path)


def test_functions_are_counted_where_they_are_called() -> None:
    net = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20, "own" : 1]> g (float[1, 4] x, float[4, 4] w) => (float[1, 4] y) '
        "{ a = own.twice (x, w) y = own.twice (a, w) } "
        '<domain: "own", opset_import: ["" : 20]> twice (p, q) => (r) { m = MatMul (p, q) r = MatMul (m, q) }'
    )
    assert inspect_model(net, "f", 0).macs == 4 * math.prod((1, 4, 4))


INTEGERS = """<ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1]> g (uint8[1, 2, 8, 8] x) => (uint8[1, 6] y) {
    c = QLinearConv <pads = [1, 1, 1, 1]> (x, s, z, w, s, zw, s, z)
    a = com.microsoft.QLinearAdd (c, s, z, c, s, z, s, z)
    l = com.microsoft.QLinearLeakyRelu <alpha = 0.1> (a, s, z, s, z)
    g = com.microsoft.QLinearSigmoid (l, s, z, s, z)
    k = com.microsoft.QLinearConcat <axis = 1> (s, z, a, s, z, g, s, z)
    m = com.microsoft.QLinearMul (k, s, z, k, s, z, s, z)
    p = com.microsoft.QLinearAveragePool <kernel_shape = [2, 2], strides = [2, 2], channels_last = 0> (m, s, z, s, z)
    v = com.microsoft.QLinearGlobalAveragePool <channels_last = 0> (p, s, z, s, z)
    f = Flatten (v)
    q = com.microsoft.QGemm <transB = 1> (f, s, z, b, s, zw, d, s, z)
    t = com.microsoft.QLinearSoftmax <axis = 1, opset = 13> (q, s, z, s, z)
    y = QLinearMatMul (t, s, z, e, s, zw, s, z) }"""


def integers() -> onnx.ModelProto:
    """Every operator that ONNX does not know, between one that it knows and one that it knows."""
    return model(
        INTEGERS, s=np.float32(0.1), z=np.uint8(128), zw=np.int8(0), w=np.ones((4, 2, 3, 3), np.int8),
        b=np.ones((6, 8), np.int8), d=np.ones(6, np.int32), e=np.ones((6, 6), np.int8),
    )  # fmt: skip


def test_shapes_behind_integer_operators_of_onnx_runtime() -> None:
    found = inspect_model(integers(), "q", 0)
    shapes = {layer.op: layer.output for layer in found.layers}
    assert (shapes["QLinearConcat"], shapes["QLinearAveragePool"]) == ((1, 8, 8, 8), (1, 8, 4, 4))
    assert (shapes["QLinearGlobalAveragePool"], shapes["QGemm"]) == ((1, 8, 1, 1), (1, 6))
    assert found.macs == found.known_macs == 4 * 64 * 18 + 8 * 6 + 6 * 6
    assert found.params == 4 * 18 + 6 * 8 + 6 + 36, "QGemm's bias too"
    assert found.activation_bytes == 2 * 8 * 64, "k, which is read twice, and m"
    assert found.uncounted == ()


def test_a_pool_with_channels_last_is_none_of_the_standard() -> None:
    net = integers()
    (pool,) = (node for node in net.graph.node if node.op_type == "QLinearAveragePool")
    next(a for a in pool.attribute if a.name == "channels_last").i = 1
    shapes = {layer.op: layer.output for layer in inspect_model(net, "q", 0).layers}
    assert (shapes["QLinearMul"], shapes["QLinearAveragePool"]) == ((1, 8, 8, 8), None)


def test_a_node_that_cannot_be_counted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = integers()
    net.graph.node[0].domain = "com.example"  # nothing is known of it, and so of nothing behind it
    net.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    net.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del net.graph.node[:-1]
    net.graph.node[0].input[0] = "k"
    net.graph.node.insert(0, onnx.helper.make_node("Thing", ["x"], ["k"], "thing", domain="com.example"))
    net.graph.node.insert(1, onnx.helper.make_node("MatMul", ["r", "r"], ["rr"], "known"))
    net.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), "r"))
    found = inspect_model(net, "q", 0)
    assert (found.macs, found.known_macs, found.open_input) == (None, 8, "")
    assert [layer.op for layer in found.uncounted] == ["QLinearMatMul"]
    assert "at least 8 MACs" in found.verdict
    assert found.to_dict()["uncounted"] == ["QLinearMatMul_y"]
    assert main(["inspect", str(save(net, tmp_path / "q.onnx"))]) == 0
    assert "8 without QLinearMatMul QLinearMatMul_y, where a shape is unknown" in capsys.readouterr().out


def test_only_an_open_input_asks_for_its_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = conv_net()
    net.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "W"
    assert main(["inspect", str(save(net, tmp_path / "open.onnx"))]) == 0
    printed = capsys.readouterr().out
    assert "unknown: the size of input x is open, give --input-shape" in printed
    assert "an unknown number of MACs" in printed, "those behind the pool are next to nothing"


def test_a_bundle_of_open_size_is_counted_at_the_size_for_which_it_was_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = conv_net()
    for axis, name in ((2, "H"), (3, "W")):
        net.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    images = np.random.default_rng(0).random((1, 3, 6, 5), np.float32)
    about = {
        **ABOUT, "task": "other", "labels": [], "preprocess": Preprocess((6, 5)).to_dict(),
        "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, "H", "W"]},
    }  # fmt: skip
    bundle = tmp_path / "net.edge"
    pack(bundle, net, about, [images], [open_session(net)({"x": images})["y"]], 0.0)
    assert main(["inspect", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    size = "counted at 3x6x5, for which it was built; see --input-shape"
    assert found["warnings"] == [f"{bundle}: leaves the size of its input open: {size}"]
    assert found["macs"] == inspect_model(net, "", 0, "1,3,6,5").macs > 0
    asked = inspect(bundle, input_shape="1,3,12,5")
    assert (asked.macs, asked.warnings) == (inspect_model(net, "", 0, "1,3,12,5").macs, ())


def test_weights_in_a_body_are_counted_and_its_products_are_unknown() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]>
    g (float[2,3] x, bool c) => (float[2,4] y) {
        y = If (c) <
            then_branch = one () => (float[2,4] p) { p = MatMul(x, w) },
            else_branch = two () => (float[2,4] q) { q = MatMul(x, w) }
        >
    }"""
    net = model(text, w=np.ones((3, 4), np.float32))
    found = inspect_model(net, "", 0)
    assert (found.params, found.macs) == (12, None)
    assert [layer.op for layer in found.uncounted] == ["If"]


def test_a_deformable_convolution_multiplies_as_a_plain_one_does() -> None:
    assert node_macs("DeformConv", [(1, 4, 8, 8), (6, 2, 3, 3)], (1, 6, 8, 8)) == 6 * 8 * 8 * 2 * 3 * 3
