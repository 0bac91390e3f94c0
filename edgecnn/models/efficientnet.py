"""EfficientNet: MobileNetV3's block with SiLU, and a rule for growing depth, width and resolution together.

    x ── 1x1, t times wider ── k x k depthwise, stride s ── squeeze-and-excitation ── 1x1, linear ──(+)── y
     └──────────────────────────── only where s = 1 and the channels stay ───────────────────────────┘

- efficientnet_b0: the seed of the family. SiLU(x) = x sigmoid(x); the squeeze is a quarter of the block's *input*.
  In training a branch is left out at random, the deeper the more often (stochastic depth), up to one in five.
- efficientnet_lite0: the same table made for integer hardware: no squeeze-and-excitation, ReLU6 for SiLU, pixels in
  -1..1. Both of what it drops are what int8 handles worst.

Parameter names and initial values of B0 are torchvision's; 5,288,548 parameters (B0) and 4,652,008 (Lite0).
Tan, Le 2019, EfficientNet: rethinking model scaling for convolutional neural networks; Liu 2020, Higher accuracy on
vision models with EfficientNet-Lite; Huang et al. 2016, Deep networks with stochastic depth.
Test: tests/test_models.py.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from edgecnn.models.mobilenet_v3 import SqueezeExcitation
from edgecnn.networks.spec import IMAGENET, ModelSpec

Activation = type[nn.Module]

Stages = tuple[tuple[int, int, int, int, int], ...]
STAGES: Stages = (
    # expansion t, kernel k, stride of the first s, channels c, blocks n (table 1 of the paper)
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
DROPPED = 0.2


class StochasticDepth(nn.Module):
    """In training: zero for a share `p` of the images of a batch, the others scaled up so that the mean stays."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        kept = torch.empty(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.p)
        return x * kept.div_(1 - self.p)


def conv_bn(
    in_channels: int, out_channels: int, kernel: int, stride: int, groups: int, activation: Activation | None
) -> nn.Sequential:
    """Convolution, BatchNorm and, where given, an activation; keeps height and width at stride 1."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        *([] if activation is None else [activation()]),
    )


class MBConv(nn.Module):
    """(N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride); `p`: how often training leaves it out."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: int,
        kernel: int,
        stride: int,
        p: float,
        activation: Activation,
        attends: bool,
    ) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.adds = stride == 1 and in_channels == out_channels
        self.block = nn.Sequential(
            *([conv_bn(in_channels, wide, 1, 1, 1, activation)] if expansion != 1 else []),
            conv_bn(wide, wide, kernel, stride, wide, activation),
            *([SqueezeExcitation(wide, in_channels // 4, activation)] if attends else []),
            conv_bn(wide, out_channels, 1, 1, 1, None),
        )
        self.stochastic_depth = StochasticDepth(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.stochastic_depth(self.block(x)) if self.adds else self.block(x)


class EfficientNet(nn.Module):
    """Images (N, 3, H, W), 224 x 224 in the paper -> logits (N, num_classes)."""

    def __init__(
        self, activation: Activation = nn.SiLU, attends: bool = True, num_classes: int = 1000, stages: Stages = STAGES
    ) -> None:
        super().__init__()
        channels, done, total = 32, 0, sum(blocks for *_, blocks in stages)
        layers = [conv_bn(3, channels, 3, 2, 1, activation)]
        for expansion, kernel, first_stride, out_channels, blocks in stages:
            stage: list[nn.Module] = []
            for i in range(blocks):
                stride, p = first_stride if i == 0 else 1, DROPPED * done / total
                stage.append(MBConv(channels, out_channels, expansion, kernel, stride, p, activation, attends))
                channels, done = out_channels, done + 1
            layers.append(nn.Sequential(*stage))
        layers.append(conv_bn(channels, 4 * channels, 1, 1, 1, activation))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * channels, num_classes))
        self._init()

    def _init(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.out_features)
                nn.init.uniform_(module.weight, -bound, bound)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier(x)


SPECS = (
    ModelSpec("efficientnet_b0", EfficientNet, IMAGENET, "Tan, Le 2019", num_classes=1000),
    ModelSpec(
        "efficientnet_lite0",
        partial(EfficientNet, nn.ReLU6, False),
        replace(IMAGENET, mean=(0.5,) * 3, std=(0.5,) * 3),
        "Liu 2020",
        num_classes=1000,
    ),
)
