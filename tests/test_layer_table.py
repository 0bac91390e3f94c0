"""The layer table is that of the lectures, line by line, and the same from PyTorch and from ONNX."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgecnn.layers.local import LocalConv1d
from edgecnn.numbers.inspect import inspect, inspect_model
from edgecnn.numbers.layer_table import Part, Table, layer_table
from edgecnn.numbers.torch_numbers import watch
from edgecnn.words import rounded
from exporters.torch_export import export_module
from small_nets import model

DECK_VGG16 = """
INPUT:     [224x224x3]   = 150K  0                 = 0
CONV3-64:  [224x224x64]  = 3.2M  (3x3x3)x64        = 1,728
CONV3-64:  [224x224x64]  = 3.2M  (3x3x64)x64       = 36,864
POOL2:     [112x112x64]  = 800K  0                 = 0
CONV3-128: [112x112x128] = 1.6M  (3x3x64)x128      = 73,728
CONV3-128: [112x112x128] = 1.6M  (3x3x128)x128     = 147,456
POOL2:     [56x56x128]   = 400K  0                 = 0
CONV3-256: [56x56x256]   = 800K  (3x3x128)x256     = 294,912
CONV3-256: [56x56x256]   = 800K  (3x3x256)x256     = 589,824
CONV3-256: [56x56x256]   = 800K  (3x3x256)x256     = 589,824
POOL2:     [28x28x256]   = 200K  0                 = 0
CONV3-512: [28x28x512]   = 400K  (3x3x256)x512     = 1,179,648
CONV3-512: [28x28x512]   = 400K  (3x3x512)x512     = 2,359,296
CONV3-512: [28x28x512]   = 400K  (3x3x512)x512     = 2,359,296
POOL2:     [14x14x512]   = 100K  0                 = 0
CONV3-512: [14x14x512]   = 100K  (3x3x512)x512     = 2,359,296
CONV3-512: [14x14x512]   = 100K  (3x3x512)x512     = 2,359,296
CONV3-512: [14x14x512]   = 100K  (3x3x512)x512     = 2,359,296
POOL2:     [7x7x512]     = 25K   0                 = 0
FC:        [1x1x4096]    = 4096  7x7x512x4096      = 102,760,448
FC:        [1x1x4096]    = 4096  4096x4096         = 16,777,216
FC:        [1x1x1000]    = 1000  4096x1000         = 4,096,000
"""
"""The table of lecture 002, typed in (its lines of zero parameters written as the others)."""


def as_in_the_deck(table: Table) -> list[str]:
    return [
        f"{row.layer.upper()}: [{row.shape}] = {rounded(row.activations or 0)} {row.formula or 0} = {row.weights:,}"
        for row in table.rows
    ]


def table_of(module: nn.Module, *image: int) -> Table:
    return layer_table((1, *image), watch(module.eval(), image)[1])  # type: ignore[arg-type]


def test_vgg16_is_the_table_of_the_lecture_line_by_line() -> None:
    found = inspect("vgg16")
    assert as_in_the_deck(found.table) == [" ".join(line.split()) for line in DECK_VGG16.strip().splitlines()]
    assert rounded(found.table.weights) == "140M"  # the lecture: 138M, with three digits
    assert 138_000_000 < found.table.weights < found.params == 138_357_544
    assert found.params * 4 / 2**20 == pytest.approx(528, abs=0.5)  # MiB; the lecture's 552MB are 138M x 4
    assert found.table.macs == found.macs == 15_470_264_320
    # The lecture ends with "24M activations"; its own lines add up to 15 M.
    assert found.table.activations == 15_237_608


def test_alexnet_is_the_table_of_the_lecture() -> None:
    rows = inspect("alexnet_original").table.rows
    assert [(row.layer, row.shape) for row in rows] == [
        ("input", "227x227x3"),
        ("conv11-96", "55x55x96"),
        ("pool3", "27x27x96"),
        ("conv5-256", "27x27x256"),
        ("pool3", "13x13x256"),
        ("conv3-384", "13x13x384"),
        ("conv3-384", "13x13x384"),
        ("conv3-256", "13x13x256"),
        ("pool3", "6x6x256"),
        ("fc", "1x1x4096"),
        ("fc", "1x1x4096"),
        ("fc", "1x1x1000"),
    ]
    assert rows[9].formula == "6x6x256x4096"


class Every(nn.Module):
    """One of each kind of layer that has a line, and some that have none."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, (3, 5), padding=(1, 2), bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.MaxPool2d(3, 1, 1),
            nn.Conv2d(8, 16, 1, groups=2), nn.AvgPool2d(2),
            nn.ConvTranspose2d(16, 12, 2, stride=2, groups=2),
            nn.AdaptiveAvgPool2d((4, 4)), nn.AdaptiveAvgPool2d((4, 4)),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Dropout(), nn.Linear(6, 5, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.body(x)))


EVERY = [
    # layer, height x width x channels, weights, multiply-adds: by hand
    ("input", "16x16x3", 0, 0),
    ("conv3x5-8", "16x16x8", 3 * 5 * 3 * 8, 256 * 8 * 45),
    ("dw3-8", "16x16x8", 9 * 8, 256 * 8 * 9),
    ("pool3", "16x16x8", 0, 0),  # stride 1: the shape stays, the layer is real
    ("conv1-16/g2", "16x16x16", 4 * 16, 256 * 16 * 4),
    ("avgpool2", "8x8x16", 0, 0),
    ("upconv2-12/g2", "16x16x12", 4 * 8 * 12, 64 * 16 * 6 * 4),
    ("avgpool4", "4x4x12", 0, 0),  # adaptive; the second one changes nothing
    ("globalpool", "1x1x12", 0, 0),
    ("fc", "1x1x6", 72, 72),
    ("fc", "1x1x5", 30, 30),
]


def test_every_kind_of_layer_by_hand() -> None:
    rows = table_of(Every(), 3, 16, 16).rows
    assert [(row.layer, row.shape, row.weights, row.macs) for row in rows] == EVERY
    assert [row.formula for row in rows if row.layer.startswith(("dw", "upconv", "fc"))] == [
        "(3x3x1)x8", "(2x2x8)x12", "1x1x12x6", "6x5",
    ]  # fmt: skip


def test_onnx_has_the_same_table_with_the_same_modules() -> None:
    module = Every()
    found = inspect_model(export_module(module, (3, 16, 16)), "every", 0)
    assert found.table == table_of(module, 3, 16, 16)


class Written(nn.Module):
    """Work and pooling that no layer does, a recurrent layer, attention, and weights of their own at every place."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(8, 3, 3, 3))
        self.gru = nn.GRU(32, 6, 2, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.local = LocalConv1d(12, 4, 8, 3)
        self.places = nn.Parameter(torch.ones(6, 4, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.max_pool2d(F.conv2d(x, self.kernel, padding=1), 2)
        y = self.gru(F.avg_pool2d(y, (1, 2)).flatten(1, 2).transpose(1, 2)[:, :8])[0]
        y = self.local(self.attention(y, y, y, need_weights=False)[0].transpose(1, 2))
        return torch.einsum("ncp,pco->npo", y, self.places)


WRITTEN = [
    # layer, weights, multiply-adds: by hand; 8 steps of 4 x 8 features
    ("input", 0, 0), ("conv3-8", 216, 8 * 8 * 32 * 27), ("pool2", 0, 0), ("avgpool1x2", 0, 0),
    ("bigru-6", 2 * 18 * (32 + 6), 8 * 2 * 18 * (32 + 6)), ("bigru-6", 2 * 18 * (12 + 6), 8 * 2 * 18 * (12 + 6)),
    ("fc", 12 * 36, 8 * 12 * 36), ("matmul", 0, 2 * 8 * 8 * 6), ("matmul", 0, 2 * 8 * 8 * 6), ("fc", 144, 8 * 144),
    ("local3-4", 6 * 36 * 4, 6 * 36 * 4), ("local-5", 6 * 4 * 5, 6 * 4 * 5),
]  # fmt: skip


def test_what_no_layer_does_recurrence_and_attention_are_lines_and_the_same_ones_in_onnx() -> None:
    module = Written().eval()
    found = inspect_model(export_module(module, (3, 8, 32)), "written", 0)
    for table in (table_of(module, 3, 8, 32), found.table):
        names = [row.layer.replace("local-4", "local3-4").replace("matmul", "local-5") if row.weights else row.layer
                 for row in table.rows]  # fmt: skip
        assert (
            list(zip(names, [row.weights for row in table.rows], [row.macs for row in table.rows], strict=True))
            == WRITTEN
        )
    assert found.macs == found.table.macs


def test_adaptive_pooling_whose_windows_differ_has_no_line() -> None:
    assert [row.layer for row in table_of(nn.AdaptiveAvgPool2d(3), 1, 4, 4).rows] == ["input"]
    assert [row.layer for row in table_of(nn.AdaptiveMaxPool2d(2), 1, 4, 6).rows] == ["input", "pool2x3"]


def test_a_transposed_matrix_says_its_inputs_and_outputs_in_order() -> None:
    graph = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 7] x) => (float[A, B] y) { y = Gemm <transB=1>(x, w) }',
        w=np.ones((3, 7), np.float32),
    )
    assert inspect_model(graph, "fc", 0).table.rows[1].formula == "7x3"


def test_quantized_weights_and_means_by_reduction_have_their_lines() -> None:
    graph = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 3, 8, 8] x) => (float[N, 2] y) {'
        "k = DequantizeLinear (w, s, z) c = Conv <pads = [1, 1, 1, 1]> (x, k) r = Relu (c)"
        "m = ReduceMean <keepdims = 0> (r, axes) t = Transpose <perm = [1, 0]> (v) y = MatMul (m, t) }",
        s=np.float32(0.1), z=np.int8(0), w=np.ones((4, 3, 3, 3), np.int8), axes=np.array([-1, 2]),
        v=np.ones((2, 4), np.float32),
    )  # fmt: skip
    rows = inspect_model(graph, "q", 0).table.rows
    assert [(row.layer, row.shape, row.weights) for row in rows] == [
        ("input", "8x8x3", 0), ("conv3-4", "8x8x4", 108), ("globalpool", "1x1x4", 0), ("fc", "1x1x2", 8),
    ]  # fmt: skip


def test_a_product_of_two_activations_has_its_work_and_no_weights_and_a_mean_over_channels_no_line() -> None:
    pictures = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 2, 4, 4] x) => (float[1, 1, 4, 4] y) '
        "{ p = MatMul (x, x) y = ReduceMean (p, axes) }",
        axes=np.array([1]),
    )
    matrices = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[4, 4] x) => (float[4, 4] y) {y = MatMul (x, x)}'
    )
    for graph, macs in ((pictures, 2 * 4 * 4 * 4), (matrices, 4 * 4 * 4)):
        table = inspect_model(graph, "attention", 0).table
        assert [(row.layer, row.weights, row.macs) for row in table.rows] == [("input", 0, 0), ("matmul", 0, macs)]


def test_open_shapes_are_unknown_not_guessed() -> None:
    open_size = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 3, H, W] x, float[4, 3, 3, 3] w)'
        " => (float[N, 4, A, B] y) { y = Conv (x, w) }"
    )
    table = inspect_model(open_size, "open", 0).table
    assert [(row.shape, row.activations, row.macs) for row in table.rows] == [("?", None, 0), ("?", None, None)]
    assert (table.activations, table.macs, table.weights) == (None, None, 108)
    assert table.to_dict()["activation_bytes"] is None


def test_pictures_with_channels_last_are_a_row_like_the_others() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[N,6,7,3] x) => (float[N,2,4,5] y)
        <float[2,3,3,3] w = {%s}> { t = Transpose <perm = [0,3,1,2]> (x) y = Conv (t, w) }"""
    table = inspect_model(onnx.parser.parse_model(text % ",".join(["1"] * 54)), "last", 0, "6,7,3").table
    assert [(row.layer, row.shape) for row in table.rows] == [("input", "6x7x3"), ("conv3-2", "4x5x2")]


def test_a_fully_connected_layer_behind_a_map_of_another_size_names_its_features_alone() -> None:
    parts = [Part("fc", "a", (), 10, 5, 1, (1, 5), 50)]
    assert layer_table((1, 3, 2, 2), parts).rows[1].formula == "10x5"
    assert layer_table((2, 3, 2, 2), []).rows[0].shape == "2 of 2x2x3"


def test_the_table_of_a_file_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "every.onnx"
    onnx.save(export_module(Every(), (3, 16, 16)), path)
    code = (
        "import sys; from edgecnn import api; t = api.inspect(sys.argv[1]).table;"
        "print(len(t.rows), t.rows[2].layer, int('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["11", "dw3-8", "0"]


def test_inputs_without_channels_have_a_shape_too() -> None:
    rows = [layer_table(sizes, []).rows[0].shape for sizes in (None, (), (7,), (1, 7), (2, 3, 5))]
    assert rows == ["?", "1", "7", "1x1x7", "2 of 5x3"]
