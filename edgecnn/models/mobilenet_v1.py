"""MobileNet: a 3x3 convolution split into a depthwise 3x3 (space) and a 1x1 (channels), thirteen times.

    k x k, c -> c'    k k c c' multiply-adds a pixel
    split             k k c  +  c c'                      k = 3: 8 to 9 times less

Two knobs make a family of it: the width multiplier thins every layer (work falls with its square) and the resolution
multiplier is a smaller image. `mobilenet_v1_025` turns both, for images of 64x64 and machines without a fan: the same
layers with a quarter of the channels.

4,231,976 parameters at width 1 and 470,072 at width 0.25, both for 1000 classes. ReLU as in the paper (later releases
clip it at 6). Howard et al. 2017, MobileNets: efficient convolutional neural networks for mobile vision applications.
Test: tests/test_models.py.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from edgecnn.models.resnet import he_init
from edgecnn.networks.spec import IMAGENET, ModelSpec, unit_range

LAYERS = (
    # channels c, stride s of each depthwise separable convolution (table 1 of the paper)
    (64, 1),
    (128, 2), (128, 1),
    (256, 2), (256, 1),
    (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; keeps height and width at stride 1."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """(N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride): depthwise 3x3, then 1x1."""
    return nn.Sequential(
        conv_bn_relu(in_channels, in_channels, 3, stride, groups=in_channels),
        conv_bn_relu(in_channels, out_channels, 1),
    )


class MobileNetV1(nn.Module):
    """Images (N, 3, H, W), H and W at least 32 (224 in the paper) -> logits (N, num_classes)."""

    def __init__(
        self, width: float = 1.0, num_classes: int = 1000, layers: tuple[tuple[int, int], ...] = LAYERS
    ) -> None:
        super().__init__()
        channels = int(32 * width)
        blocks = [conv_bn_relu(3, channels, 3, stride=2)]
        for wide, stride in layers:
            blocks.append(separable(channels, int(wide * width), stride))
            channels = int(wide * width)
        self.features = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.001), nn.Linear(channels, num_classes))
        he_init(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier(x)


SPECS = (
    ModelSpec("mobilenet_v1", MobileNetV1, IMAGENET, "Howard et al. 2017", num_classes=1000),
    ModelSpec("mobilenet_v1_025", partial(MobileNetV1, 0.25), unit_range(64, 64), "Howard et al. 2017, width 0.25", 10),
)
