"""ShuffleNetV2: half of the channels pass every block untouched, then all are shuffled.

    stride 1                                          stride 2
    x ── split ── c/2 ─────────────────────┐          x ──┬── 3x3 depthwise /2 ── 1x1 ─────────────────┐
           └───── c/2 ── 1x1 ── 3x3 dw ── 1x1         │                                                │
                                           │              └── 1x1 ── 3x3 depthwise /2 ── 1x1 ──────────┤
                      concat, shuffle ─────┘                                    concat, shuffle ───────┘

Designed by the clock, not by counting multiply-adds: equal widths in and out of a 1x1 move the least memory, grouped
1x1 and fragments cost more than they save, and additions are not free, so there are none.
The shuffle (a, b: halves) a0 a1 .. b0 b1 .. -> a0 b0 a1 b1 .. lets both halves meet in the next block.

Parameter names and initial values are torchvision's; 2,278,604 parameters at width 1.
Ma, Zhang, Zheng, Sun 2018, ShuffleNet V2: practical guidelines for efficient CNN architecture design.
Test: tests/test_models.py.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.networks.spec import IMAGENET, ModelSpec


def pointwise(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()]


def depthwise(channels: int, stride: int) -> list[nn.Module]:
    """No activation: as in the paper, a ReLU stands behind 1x1 convolutions only."""
    return [
        nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    ]


def shuffle(x: torch.Tensor) -> torch.Tensor:
    """(N, 2c, H, W) -> the same, channels of the two halves in turn.

    >>> shuffle(torch.arange(6.0).reshape(1, 6, 1, 1)).flatten().tolist()
    [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    """
    n, c, h, w = x.shape
    return x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class InvertedResidual(nn.Module):
    """(N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride); in_channels = out_channels at stride 1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.splits = stride == 1
        self.branch1 = nn.Sequential(
            *([] if self.splits else [*depthwise(in_channels, stride), *pointwise(in_channels, half)])
        )
        self.branch2 = nn.Sequential(
            *pointwise(half if self.splits else in_channels, half),
            *depthwise(half, stride),
            *pointwise(half, half),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, changed = x.chunk(2, dim=1) if self.splits else (self.branch1(x), x)
        return shuffle(torch.cat([kept, self.branch2(changed)], 1))


def stage(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    """`blocks` blocks, of which the first halves the resolution and changes the width."""
    first = InvertedResidual(in_channels, out_channels, 2)
    return nn.Sequential(first, *(InvertedResidual(out_channels, out_channels, 1) for _ in range(blocks - 1)))


class ShuffleNetV2(nn.Module):
    """Images (N, 3, H, W), 224 x 224 in the paper -> logits (N, num_classes)."""

    def __init__(self, num_classes: int = 1000, blocks: tuple[int, int, int] = (4, 8, 4)) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 24, 3, 2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage2 = stage(24, 116, blocks[0])
        self.stage3 = stage(116, 232, blocks[1])
        self.stage4 = stage(232, 464, blocks[2])
        self.conv5 = nn.Sequential(*pointwise(464, 1024))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage4(self.stage3(self.stage2(self.maxpool(self.conv1(x)))))
        x = torch.flatten(self.avgpool(self.conv5(x)), 1)
        return self.fc(x)


SPECS = (ModelSpec("shufflenet_v2_x1_0", ShuffleNetV2, IMAGENET, "Ma et al. 2018", num_classes=1000),)
