"""AlexNet: the network that made convolution win (ImageNet 2012), in two forms.

    alexnet_original   3x227x227      alexnet   3x224x224
    conv 11x11 /4   55x55x96          conv 11x11 /4, pad 2   55x55x64
    pool 3x3 /2     27x27x96          pool                   27x27x64
    conv 5x5        27x27x256         conv 5x5               27x27x192
    pool            13x13x256         pool                   13x13x192
    conv 3x3        13x13x384         conv 3x3               13x13x384
    conv 3x3        13x13x384         conv 3x3               13x13x256
    conv 3x3        13x13x256         conv 3x3               13x13x256
    pool            6x6x256           pool                   6x6x256
    fully connected 4096, 4096, classes, each after a dropout of one half but the last

What was new: ReLU instead of tanh, dropout, augmentation, and two graphics cards.

- alexnet_original: the table of the 2012 paper as it is taught. Two choices: every convolution sees all maps (the
  paper's second, fourth and fifth see the half that its card holds: 60,965,224 parameters for our 62,378,344), and no
  local response normalization (Simonyan and Zisserman 2014 measured that it helps nothing).
- alexnet: the one-column form of Krizhevsky 2014, "One weird trick", with torchvision's parameter names and initial
  values; 61,100,840 parameters.

Krizhevsky, Sutskever, Hinton 2012, ImageNet classification with deep convolutional neural networks.
Test: tests/test_models.py.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from edgecnn.networks.spec import IMAGENET, ModelSpec


def fully_connected(in_features: int, hidden: int, num_classes: int) -> nn.Sequential:
    """Two hidden layers, each behind a dropout, then the logits."""
    return nn.Sequential(
        nn.Dropout(), nn.Linear(in_features, hidden), nn.ReLU(),
        nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, num_classes),
    )  # fmt: skip


class AlexNetOriginal(nn.Module):
    """Images (N, 3, 227, 227) -> logits (N, num_classes). `hidden`: neurons of the fully connected layers."""

    def __init__(self, num_classes: int = 1000, hidden: int = 4096) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, kernel_size=11, stride=4), nn.ReLU(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(96, 256, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(256, 384, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 384, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))  # does nothing at 227x227
        self.classifier = fully_connected(256 * 6 * 6, hidden, num_classes)
        for module in self.modules():  # the paper's deviation of 0.01 needs its weeks of training to come to life
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier(x)


class AlexNet(nn.Module):
    """Images (N, 3, H, W), H and W at least 63 (224 in the paper) -> logits (N, num_classes)."""

    def __init__(self, num_classes: int = 1000, hidden: int = 4096) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))  # does nothing at 224x224
        self.classifier = fully_connected(256 * 6 * 6, hidden, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier(x)


SPECS = (
    ModelSpec(
        "alexnet_original",
        AlexNetOriginal,
        replace(IMAGENET, size=(227, 227)),
        "Krizhevsky, Sutskever, Hinton 2012",
        num_classes=1000,
    ),
    ModelSpec("alexnet", AlexNet, IMAGENET, "Krizhevsky 2014", num_classes=1000),
)
