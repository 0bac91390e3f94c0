"""MobileNetV3: V2's inverted residuals, with attention over channels and a cheap swish, its widths found by search.

    x ── 1x1, wide ── k x k depthwise, stride s ── squeeze-and-excitation ── 1x1, linear ──(+)── y
     └──────────────────────── only where s = 1 and the channels stay ──────────────────────┘

    squeeze-and-excitation   y = x * hardsigmoid(W2 relu(W1 mean(x)))       one factor per channel
    hardswish(x)             x * min(max(x + 3, 0), 6) / 6                  swish without its exponential

The head works on 1x1 pixels: pooling comes before the last, widest layer.
Parameter names and initial values are torchvision's; 5,483,032 parameters (large) and 2,542,856 (small).
Howard et al. 2019, Searching for MobileNetV3; Hu, Shen, Sun 2018, Squeeze-and-excitation networks.
Test: tests/test_models.py.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from edgecnn.networks.spec import IMAGENET, ModelSpec

Activation = type[nn.Module]
RE, HS = nn.ReLU, nn.Hardswish

Row = tuple[int, int, int, bool, Activation, int]
"""kernel, width of the middle, channels out, squeeze-and-excitation, activation, stride (tables 1 and 2)."""

LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, RE, 1),
    (3, 64, 24, False, RE, 2), (3, 72, 24, False, RE, 1),
    (5, 72, 40, True, RE, 2), (5, 120, 40, True, RE, 1), (5, 120, 40, True, RE, 1),
    (3, 240, 80, False, HS, 2), (3, 200, 80, False, HS, 1), (3, 184, 80, False, HS, 1), (3, 184, 80, False, HS, 1),
    (3, 480, 112, True, HS, 1), (3, 672, 112, True, HS, 1),
    (5, 672, 160, True, HS, 2), (5, 960, 160, True, HS, 1), (5, 960, 160, True, HS, 1),
)  # fmt: skip
SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, RE, 2),
    (3, 72, 24, False, RE, 2), (3, 88, 24, False, RE, 1),
    (5, 96, 40, True, HS, 2), (5, 240, 40, True, HS, 1), (5, 240, 40, True, HS, 1),
    (5, 120, 48, True, HS, 1), (5, 144, 48, True, HS, 1),
    (5, 288, 96, True, HS, 2), (5, 576, 96, True, HS, 1), (5, 576, 96, True, HS, 1),
)  # fmt: skip


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: Activation | None = None,
) -> nn.Sequential:
    """Convolution, BatchNorm and, where given, an activation; keeps height and width at stride 1."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, eps=0.001, momentum=0.01),
        *([] if activation is None else [activation()]),
    )


class SqueezeExcitation(nn.Module):
    """(N, channels, H, W) -> the same, every channel scaled by a factor 0..1 that depends on all channels' means."""

    def __init__(
        self, channels: int, squeeze: int, activation: Activation = nn.ReLU, gate: Activation = nn.Sigmoid
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)
        self.activation = activation()
        self.gate = gate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        factor = self.activation(self.fc1(self.avgpool(x)))
        return x * self.gate(self.fc2(factor))


def round_to_8(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, but never more than 10 % below it: vector units work in eights.

    >>> [round_to_8(c) for c in (16, 18, 22, 28, 4)]
    [16, 24, 24, 32, 8]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class InvertedResidual(nn.Module):
    """(N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride)."""

    def __init__(self, in_channels: int, row: Row) -> None:
        super().__init__()
        kernel, wide, out_channels, attends, activation, stride = row
        self.adds = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if wide != in_channels:
            layers.append(conv_bn(in_channels, wide, 1, activation=activation))
        layers.append(conv_bn(wide, wide, kernel, stride, groups=wide, activation=activation))
        if attends:
            layers.append(SqueezeExcitation(wide, round_to_8(wide // 4), gate=nn.Hardsigmoid))
        layers.append(conv_bn(wide, out_channels, 1))
        self.block = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x) if self.adds else self.block(x)


class MobileNetV3(nn.Module):
    """Images (N, 3, H, W), 224 x 224 in the paper -> logits (N, num_classes)."""

    def __init__(self, rows: tuple[Row, ...], last: int, num_classes: int = 1000) -> None:
        super().__init__()
        channels = 16
        layers: list[nn.Module] = [conv_bn(3, channels, 3, stride=2, activation=HS)]
        for row in rows:
            layers.append(InvertedResidual(channels, row))
            channels = row[2]
        layers.append(conv_bn(channels, 6 * channels, 1, activation=HS))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, last), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(last, num_classes)
        )
        self._init()

    def _init(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier(x)


VARIANTS = {"mobilenet_v3_large": (LARGE, 1280), "mobilenet_v3_small": (SMALL, 1024)}

SPECS = tuple(
    ModelSpec(name, partial(MobileNetV3, rows=rows, last=last), IMAGENET, "Howard et al. 2019", num_classes=1000)
    for name, (rows, last) in VARIANTS.items()
)
