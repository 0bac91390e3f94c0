"""Every operator that the lecture decks teach: PyTorch -> ONNX -> the same numbers on ONNX Runtime, for any batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgecnn.layers.adaptive import AdaptiveAvgPool, AdaptiveMaxPool
from edgecnn.layers.convolution import TrueConv1d, TrueConv2d, TrueConv3d
from edgecnn.layers.k_max import DynamicKMaxPool1d, KMaxPool1d
from edgecnn.layers.local import LocalConv1d, LocalConv2d
from edgecnn.layers.padding import Conv1d, Conv2d, Conv3d
from edgecnn.layers.probabilistic import ProbabilisticMaxPool2d
from edgecnn.layers.tiled import TiledConv1d, TiledConv2d
from exported import Several, agree, exported, normal, same, simplified
from exporters.graph import op_counts

FLOAT32 = 5e-6
"""Sums of at most 150 products of about 0.3, and norms that divide by a deviation of about 1."""


class Call(nn.Module):
    """A functional as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Skip(nn.Module):
    """x + F(x), the residual connection; and [x, F(x)], U-Net's."""

    def __init__(self, inner: nn.Module, join: bool = False) -> None:
        super().__init__()
        self.inner, self.join = inner, join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.inner(x)], 1) if self.join else x + self.inner(x)


@dataclass(frozen=True)
class Row:
    """One line of what is taught. `ops` must be in the exported graph, `gone` must not."""

    name: str
    shape: tuple[int, ...]
    modules: Callable[[], list[nn.Module]]
    ops: tuple[str, ...]
    gone: tuple[str, ...] = ()


def alive(norm: nn.Module) -> nn.Module:
    """`norm` with parameters and statistics that are not 0 and 1."""
    with torch.no_grad():
        for value in [*norm.parameters(), *(b for b in norm.buffers() if b.is_floating_point())]:
            value.uniform_(0.5, 1.5)
    return norm


WEIGHT = torch.from_numpy(normal(4, 3, 3, 3))
ACTIVATIONS: list[nn.Module] = [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.PReLU(), nn.Sigmoid(), nn.Tanh()]
ACTIVATIONS += [nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid(), nn.ELU(), nn.GELU()]
ROWS = [
    Row("cross-correlation 1-D", (3, 11), lambda: [nn.Conv1d(3, 4, 3), nn.Conv1d(3, 4, 4, 2, 1)], ("Conv",)),
    Row(
        "cross-correlation 2-D",
        (3, 9, 8),
        lambda: [nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, (2, 5), (2, 1), (1, 2)), Call(lambda x: F.conv2d(x, WEIGHT))],
        ("Conv",),
    ),
    Row(
        "cross-correlation 3-D",
        (2, 5, 6, 4),
        lambda: [nn.Conv3d(2, 3, 3), nn.Conv3d(2, 3, 2, 2, 1), nn.Conv3d(2, 3, (1, 3, 2), bias=False)],
        ("Conv",),
    ),
    Row("true convolution 1-D", (3, 11), lambda: [TrueConv1d(3, 4, 3), TrueConv1d(3, 4, 4, 2)], ("Conv",)),
    Row("true convolution 2-D", (3, 9, 8), lambda: [TrueConv2d(3, 4, 3), TrueConv2d(3, 4, (2, 3), 2)], ("Conv",)),
    Row("true convolution 3-D", (2, 5, 6, 4), lambda: [TrueConv3d(2, 3, 3), TrueConv3d(2, 3, 2, 2)], ("Conv",)),
    Row(
        "stride and zero padding: valid, same, full",
        (3, 9, 8),
        lambda: [Conv2d(3, 4, k, s, m) for m in ("valid", "same", "full") for k, s in ((3, 1), (2, 1), (4, 3))],  # type: ignore[arg-type]
        ("Conv",),
    ),
    Row("same in 1-D and even kernels", (3, 11), lambda: [Conv1d(3, 4, 4, 2), Conv1d(3, 4, 2)], ("Conv",)),
    Row("same in 3-D", (2, 5, 6, 4), lambda: [Conv3d(2, 3, 2, 2), Conv3d(2, 3, 3)], ("Conv",)),
    Row(
        "many kernels, channels, 1x1",
        (6, 5, 5),
        lambda: [nn.Conv2d(6, 64, 1), nn.Conv2d(6, 2, 1), nn.Conv2d(6, 12, 3, groups=3), nn.Conv2d(6, 6, 3, groups=6)],
        ("Conv",),
    ),
    Row("dilated convolution", (3, 9, 8), lambda: [nn.Conv2d(3, 4, 3, padding=2, dilation=2)], ("Conv",)),
    Row("unshared convolution 1-D", (3, 11), lambda: [LocalConv1d(3, 4, 11, 3, 2)], ("Gather", "MatMul")),
    Row("unshared convolution 2-D", (3, 6, 5), lambda: [LocalConv2d(3, 4, (6, 5), 3)], ("Gather", "MatMul")),
    Row("tiled convolution 1-D", (3, 11), lambda: [TiledConv1d(3, 4, 3, 2)], ("Conv",)),
    Row("tiled convolution 2-D", (3, 6, 5), lambda: [TiledConv2d(3, 4, 3, 2)], ("Conv",)),
    Row(
        "up-convolution",
        (4, 5, 6),
        lambda: [
            nn.ConvTranspose2d(4, 3, 2, 2),
            nn.ConvTranspose2d(4, 3, 4, 2, 1),
            nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1),
            nn.ConvTranspose2d(4, 6, 3, groups=2),
            nn.Sequential(nn.ConvTranspose2d(4, 3, 2, 2), alive(nn.BatchNorm2d(3)), nn.ReLU()),
        ],
        ("ConvTranspose", "BatchNormalization"),
    ),
    Row("up-convolution 1-D", (4, 7), lambda: [nn.ConvTranspose1d(4, 3, 3, 2)], ("ConvTranspose",)),
    Row("up-convolution 3-D", (2, 3, 4, 3), lambda: [nn.ConvTranspose3d(2, 3, 2, 2)], ("ConvTranspose",)),
    Row(
        "up-sampling without weights",
        (3, 4, 5),
        lambda: [nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.PixelShuffle(1)],
        ("Resize",),
    ),
    Row(
        "max pooling",
        (3, 9, 8),
        lambda: [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, ceil_mode=True)],
        ("MaxPool",),
    ),
    Row("max pooling 1-D", (3, 11), lambda: [nn.MaxPool1d(2), nn.MaxPool1d(3, 2, 1)], ("MaxPool",)),
    Row("max pooling 3-D", (2, 5, 6, 4), lambda: [nn.MaxPool3d(2)], ("MaxPool",)),
    Row(
        "average pooling",
        (3, 9, 8),
        lambda: [nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)],
        ("AveragePool",),
    ),
    Row("average pooling 1-D", (3, 11), lambda: [nn.AvgPool1d(2)], ("AveragePool",)),
    Row("average pooling 3-D", (2, 5, 6, 4), lambda: [nn.AvgPool3d(2)], ("AveragePool",)),
    Row(
        "global pooling",
        (3, 9, 8),
        lambda: [nn.AdaptiveAvgPool2d(1), Call(lambda x: x.mean((2, 3))), Call(lambda x: x.amax((2, 3)))],
        ("ReduceMean", "ReduceMax"),
    ),
    Row(
        "adaptive pooling",
        (3, 9, 8),
        lambda: [nn.AdaptiveAvgPool2d((3, 4)), AdaptiveAvgPool((2, 5)), AdaptiveMaxPool((2, 5)), AdaptiveMaxPool(1)],
        ("AveragePool", "MatMul", "ReduceMax"),
        ("Range", "Div", "Mod"),
    ),
    Row("dynamic pooling", (3, 12), lambda: [KMaxPool1d(3), DynamicKMaxPool1d(3, 1, 3)], ("TopK", "GatherElements")),
    Row("probabilistic max pooling", (3, 6, 8), lambda: [ProbabilisticMaxPool2d(2)], ("Sigmoid",)),
    Row(
        "batch normalization",
        (4, 5, 6),
        lambda: [
            alive(nn.BatchNorm2d(4)),
            nn.Sequential(nn.Conv2d(4, 3, 3), alive(nn.BatchNorm2d(3))),
            alive(nn.BatchNorm2d(4, affine=False)),
        ],
        ("BatchNormalization",),
    ),
    Row(
        "batch normalization 1-D",
        (4, 7),
        lambda: [alive(nn.BatchNorm1d(4)), nn.Sequential(nn.Flatten(), nn.Linear(28, 5), alive(nn.BatchNorm1d(5)))],
        ("BatchNormalization",),
    ),
    Row("batch normalization 3-D", (2, 3, 4, 3), lambda: [alive(nn.BatchNorm3d(2))], ("BatchNormalization",)),
    Row(
        "layer normalization",
        (4, 5, 6),
        lambda: [
            alive(nn.LayerNorm(6)),
            alive(nn.LayerNorm([4, 5, 6])),
            nn.LayerNorm([5, 6], elementwise_affine=False),
        ],
        ("LayerNormalization",),
    ),
    Row(
        "group normalization",
        (4, 5, 6),
        lambda: [alive(nn.GroupNorm(2, 4)), alive(nn.GroupNorm(4, 4)), alive(nn.GroupNorm(1, 4))],
        ("InstanceNormalization",),
    ),
    Row(
        "instance normalization",
        (4, 5, 6),
        lambda: [alive(nn.InstanceNorm2d(4, affine=True))],
        ("InstanceNormalization",),
    ),
    Row(
        "dropout",
        (4, 5, 6),
        lambda: [
            nn.Sequential(nn.Conv2d(4, 4, 3), nn.Dropout(0.5)),
            nn.Sequential(nn.Conv2d(4, 4, 3), nn.Dropout2d(0.5)),
            nn.Sequential(nn.Conv2d(4, 4, 3), Call(lambda x: F.dropout(x, 0.5, training=False))),
        ],
        ("Conv",),
        ("Dropout",),
    ),
    Row(
        "softmax",
        (4, 5, 6),
        lambda: [nn.Softmax(1), nn.LogSoftmax(1), nn.Softmax2d(), Call(lambda x: x.softmax(-1))],
        ("Softmax", "LogSoftmax"),
    ),
    Row("activations", (4, 5, 6), lambda: ACTIVATIONS, ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish")),
    Row(
        "skip connection",
        (4, 5, 6),
        lambda: [Skip(nn.Conv2d(4, 4, 3, padding=1)), Skip(nn.Conv2d(4, 3, 3, padding=1), join=True)],
        ("Add", "Concat"),
    ),
    Row("fully connected", (4, 5, 6), lambda: [nn.Sequential(nn.Flatten(), nn.Linear(120, 7))], ("Gemm",)),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_an_operator_gives_the_same_numbers_in_onnx_runtime(row: Row) -> None:
    torch.manual_seed(0)
    modules = row.modules()
    for module in modules:
        module.train()  # the export must not need to be told
    model = exported(Several(modules), row.shape)
    same(model, modules, normal(3, *row.shape), FLOAT32)
    ops = op_counts(model)
    assert set(row.ops) <= ops.keys(), ops
    assert not set(row.gone) & ops.keys(), ops


def test_after_the_float_passes_norms_of_a_batch_are_gone_and_others_are_kept() -> None:
    torch.manual_seed(0)
    folded = [
        nn.Sequential(nn.Conv2d(4, 3, 3), alive(nn.BatchNorm2d(3)), nn.ReLU()),
        nn.Sequential(nn.ConvTranspose2d(4, 3, 2, 2), alive(nn.BatchNorm2d(3)), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(144, 5), alive(nn.BatchNorm1d(5))),
    ]
    kept = [alive(nn.LayerNorm([4, 6, 6])), alive(nn.GroupNorm(2, 4))]
    ops = simplified([*folded, *kept], (4, 6, 6))
    assert "BatchNormalization" not in ops
    assert (ops["Conv"], ops["ConvTranspose"], ops["Gemm"], ops["LayerNormalization"]) == (1, 1, 1, 1)
    assert ops.get("InstanceNormalization") == 1  # GroupNorm, as it is written before opset 21


def test_a_pool_of_fixed_size_is_an_average_pool_with_fixed_sizes() -> None:
    ops = simplified([nn.AdaptiveAvgPool2d((3, 4)), nn.AdaptiveAvgPool2d(1)], (3, 9, 8))
    assert ops == {"AveragePool": 1, "GlobalAveragePool": 1}


def test_the_comparison_can_fail() -> None:
    """A module that answers otherwise inside an export is caught."""

    class Liar(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if torch.onnx.is_in_onnx_export() else x

    with pytest.raises(AssertionError):
        agree([Liar()], np.ones((2, 1, 3, 3), np.float32), atol=FLOAT32)
