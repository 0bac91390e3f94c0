"""DenseNet-121: every layer sees the outputs of all layers before it in its block.

    x0 ──┬── layer ── x1 ──┬── layer ── x2 ──┬─ ...      layer: norm relu 1x1 (4k channels) norm relu 3x3 (k channels)
         └─────────────────┴── concat ───────┴─ ...      k = 32, the growth rate

A layer adds only k channels, because nothing that was found before must be carried along; gradients reach every layer
directly. Between blocks a transition halves channels (1x1) and resolution (mean of 2x2).
The BatchNorms stand *before* their convolutions, behind a ReLU and a concat: half of them cannot be folded away.

Parameter names and initial values are torchvision's; 7,978,856 parameters. Old checkpoints spell `denselayer1.norm.1`
for `denselayer1.norm1`; they load too.
Huang, Liu, van der Maaten, Weinberger 2017, Densely connected convolutional networks. Test: tests/test_models.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from edgecnn.networks.spec import IMAGENET, ModelSpec

GROWTH = 32
BLOCKS = (6, 12, 24, 16)
OLD_KEY = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.)")


class DenseLayer(nn.Module):
    """(N, in_channels, H, W) -> (N, GROWTH, H, W): what this layer adds."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * GROWTH)
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(self.relu(self.norm1(x)))
        return self.conv2(self.relu(self.norm2(x)))


class DenseBlock(nn.Module):
    """(N, in_channels, H, W) -> (N, in_channels + layers * GROWTH, H, W)."""

    def __init__(self, in_channels: int, layers: int) -> None:
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(in_channels + i * GROWTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class Transition(nn.Sequential):
    """(N, channels, H, W) -> (N, channels / 2, H / 2, W / 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2)


class DenseNet(nn.Module):
    """Images (N, 3, H, W), H and W at least 29 (224 in the paper) -> logits (N, num_classes)."""

    def __init__(self, num_classes: int = 1000, blocks: tuple[int, ...] = BLOCKS) -> None:
        super().__init__()
        channels = 2 * GROWTH
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(channels))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, stride=2, padding=1))
        for i, layers in enumerate(blocks, 1):
            self.features.add_module(f"denseblock{i}", DenseBlock(channels, layers))
            channels += layers * GROWTH
            if i < len(blocks):
                self.features.add_module(f"transition{i}", Transition(channels))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.features(x))
        return self.classifier(torch.flatten(self.avgpool(x), 1))

    def adapt_state_dict(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A published checkpoint in today's spelling: dots are no longer allowed in a module's name."""
        return {OLD_KEY.sub(r"\1\2", key): value for key, value in state.items()}


SPECS = (ModelSpec("densenet121", DenseNet, IMAGENET, "Huang et al. 2017", num_classes=1000),)
