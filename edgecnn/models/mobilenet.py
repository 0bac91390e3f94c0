"""MobileNetV2: an ImageNet network for phones, built of depthwise convolutions between thin layers.

    inverted residual block (expansion t, stride s), input and output thin, the middle t times wider:

    x (c) ── 1x1 ── (t c) ── 3x3 depthwise, stride s ── (t c) ── 1x1, linear ── (c') ──(+)── y
     └─────────────────────────── only where s = 1 and c = c' ──────────────────────────┘

A k x k convolution costs k k c c' multiply-adds per pixel; depthwise k k c, and the 1x1 after it c c': for k = 3 about
8 to 9 times less. The projection has no activation: a ReLU on few channels would destroy what they carry.
ReLU6 = min(max(x, 0), 6) keeps activations in a fixed range, which suits 8-bit arithmetic.

Parameter names and initial values are torchvision's; 3,504,872 parameters for 1000 classes.
Sandler et al. 2018, MobileNetV2: inverted residuals and linear bottlenecks. Test: tests/test_models.py.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.networks.spec import IMAGENET, ModelSpec


def conv_bn_relu6(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU6; keeps height and width at stride 1."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """(N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.adds = stride == 1 and in_channels == out_channels
        expand = [] if expansion == 1 else [conv_bn_relu6(in_channels, wide, 1)]
        self.conv = nn.Sequential(
            *expand,
            conv_bn_relu6(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


Blocks = tuple[tuple[int, int, int, int], ...]
BLOCKS: Blocks = (
    # expansion t, channels c, blocks n, stride of the first s (table 2 of the paper)
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV2(nn.Module):
    """Images (N, 3, H, W), 224 x 224 in the paper -> logits (N, num_classes)."""

    def __init__(self, num_classes: int = 1000, blocks: Blocks = BLOCKS) -> None:
        super().__init__()
        channels = 32
        layers: list[nn.Module] = [conv_bn_relu6(3, channels, 3, stride=2)]
        for expansion, out_channels, count, stride in blocks:
            for i in range(count):
                layers.append(InvertedResidual(channels, out_channels, stride if i == 0 else 1, expansion))
                channels = out_channels
        layers.append(conv_bn_relu6(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))
        self._init()

    def _init(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier(x)


SPECS = (ModelSpec("mobilenet_v2", MobileNetV2, IMAGENET, "Sandler et al. 2018", num_classes=1000),)
