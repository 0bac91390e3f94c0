"""SqueezeNet 1.1: AlexNet's accuracy with fifty times fewer parameters, by squeezing before every 3x3.

    fire module                ┌── 1x1 ── e ──┐
    x ── 1x1, squeeze ── s ────┤              ├── concat ── 2e channels,  s = e/4
                               └── 3x3 ── e ──┘

Three strategies of the paper: 1x1 in place of half of the 3x3 (nine times fewer weights), few channels into the 3x3
that remain, and pooling late so that activations stay large. No fully connected layer: a 1x1 convolution gives a map
for each class, and its mean is the logit. Version 1.1 of the authors pools earlier than 1.0: 2.4 times less work.

Parameter names and initial values are torchvision's; 1,235,496 parameters.
Iandola et al. 2016, SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size.
Test: tests/test_models.py.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.networks.spec import IMAGENET, ModelSpec


class Fire(nn.Module):
    """(N, in_channels, H, W) -> (N, 2 expand, H, W)."""

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, kernel_size=1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, kernel_size=1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, kernel_size=3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], 1)


def pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)


class SqueezeNet(nn.Module):
    """Images (N, 3, H, W), H and W at least 17 (224 in the paper) -> logits (N, num_classes), none below zero."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=3, stride=2), nn.ReLU(), pool(),
            Fire(64, 16, 64), Fire(128, 16, 64), pool(),
            Fire(128, 32, 128), Fire(256, 32, 128), pool(),
            Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
        )  # fmt: skip
        # The ReLU on the class maps is in the authors' network: a class can be absent, not negative.
        last = nn.Conv2d(512, num_classes, kernel_size=1)
        self.classifier = nn.Sequential(nn.Dropout(0.5), last, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module is last:
                    nn.init.normal_(module.weight, 0.0, 0.01)
                else:
                    nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


SPECS = (ModelSpec("squeezenet1_1", SqueezeNet, IMAGENET, "Iandola et al. 2016", num_classes=1000),)
