"""GoogLeNet (Inception v1): four widths of view side by side in every module, and hardly any fully connected weights.

    inception module       ┌── 1x1 ───────────────┐
    x ─────────────────────┼── 1x1 ── 3x3 ────────┼── concat
                           ├── 1x1 ── "5x5" ──────┤
                           └── 3x3 max-pool ── 1x1┘      the 1x1 in front make it affordable

- The "5x5" branch convolves 3x3: so do the weights in circulation, and so does torchvision.
- The paper hangs two auxiliary classifiers on modules 4a and 4d to push gradients into the depth. They take no part in
  the answer and are not deployed: a checkpoint that has them (`aux1.`, `aux2.`) loads, without them.
- Published weights expect pixels in -1..1 (torchvision rescales inside the network, we say it in the preprocessing).

Parameter names and initial values are torchvision's; 6,624,904 parameters without the auxiliary heads.
Szegedy et al. 2015, Going deeper with convolutions (BatchNorm: Ioffe, Szegedy 2015). Test: tests/test_models.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from edgecnn.networks.spec import IMAGENET, ModelSpec

UNIT_RANGE = replace(IMAGENET, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class BasicConv2d(nn.Module):
    """Convolution, BatchNorm, ReLU; keeps height and width at stride 1."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """(N, in_channels, H, W) -> (N, c1 + c3 + c5 + pooled, H, W); `c3_reduce`, `c5_reduce`: the 1x1 in front."""

    def __init__(
        self, in_channels: int, c1: int, c3_reduce: int, c3: int, c5_reduce: int, c5: int, pooled: int
    ) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, c1, 1)
        self.branch2 = nn.Sequential(BasicConv2d(in_channels, c3_reduce, 1), BasicConv2d(c3_reduce, c3, 3))
        self.branch3 = nn.Sequential(BasicConv2d(in_channels, c5_reduce, 1), BasicConv2d(c5_reduce, c5, 3))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), BasicConv2d(in_channels, pooled, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    """Images (N, 3, H, W), H and W at least 15 (224 in the paper) -> logits (N, num_classes)."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = BasicConv2d(3, 64, 7, stride=2)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, 1)
        self.conv3 = BasicConv2d(64, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(1024, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-2, b=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.inception4d(self.inception4c(self.inception4b(self.inception4a(x))))
        x = self.maxpool4(self.inception4e(x))
        x = self.inception5b(self.inception5a(x))
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(self.dropout(x))

    def adapt_state_dict(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A published checkpoint without its auxiliary heads."""
        return {key: value for key, value in state.items() if not key.startswith(("aux1.", "aux2."))}


SPECS = (ModelSpec("googlenet", GoogLeNet, UNIT_RANGE, "Szegedy et al. 2015", num_classes=1000),)
