"""Residual networks with pre-activation: the norm and the ReLU stand before each convolution, the sum stays untouched.

    ResNet        x ── conv norm relu conv norm ──(+)── relu ── y
    pre-active    x ── norm relu conv norm relu conv ──(+)── y        y = x + F(x), all the way from input to output

Nothing lies on the path of the sum, so signal and gradient pass it unchanged: a thousand layers train.
What it means for folding: the first norm of a block reads the sum and feeds a ReLU, so no convolution can take it in;
the second follows a convolution and disappears. Where the resolution changes, the shortcut is a bare 1x1 convolution
that reads the activated input. The first block starts without norm and ReLU, because the stem ends with them; the last
sum gets a norm and a ReLU of its own (both as in the authors' code).

11,687,720 parameters: 1,792 fewer than ResNet-18's, all of them in norms. Names as in torchvision's ResNet.
He, Zhang, Ren, Sun 2016, Identity mappings in deep residual networks. Test: tests/test_models.py.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.models.resnet import conv, he_init
from edgecnn.networks.spec import IMAGENET, ModelSpec


class PreActBlock(nn.Module):
    """(N, in_channels, H, W) -> (N, width, H/stride, W/stride); the `first` block's input is normed and active."""

    def __init__(self, in_channels: int, width: int, stride: int = 1, first: bool = False) -> None:
        super().__init__()
        self.bn1 = None if first else nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.relu = nn.ReLU()
        self.downsample = conv(in_channels, width, 1, stride) if stride != 1 or in_channels != width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = x if self.bn1 is None else self.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(active)
        y = self.relu(self.bn2(self.conv1(active)))
        return shortcut + self.conv2(y)


def stage(in_channels: int, width: int, stride: int, first: bool = False) -> nn.Sequential:
    """Two blocks at one resolution."""
    return nn.Sequential(PreActBlock(in_channels, width, stride, first), PreActBlock(width, width))


class PreActResNet18(nn.Module):
    """Images (N, 3, H, W), H and W at least 32 (224 in the paper) -> logits (N, num_classes)."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = conv(3, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(64, 64, 1, first=True)
        self.layer2 = stage(64, 128, 2)
        self.layer3 = stage(128, 256, 2)
        self.layer4 = stage(256, 512, 2)
        self.bn2 = nn.BatchNorm2d(512)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, num_classes)
        he_init(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = torch.flatten(self.avgpool(self.relu(self.bn2(x))), 1)
        return self.fc(x)


SPECS = (ModelSpec("preact_resnet18", PreActResNet18, IMAGENET, "He et al. 2016 (identity mappings)", 1000),)
