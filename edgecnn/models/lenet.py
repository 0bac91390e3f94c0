"""LeNet-5, the first convolutional network that went to work (it read the amounts on cheques).

    1x32x32 -conv 5x5-> 6x28x28 -pool-> 6x14x14 -conv 5x5-> 16x10x10 -pool-> 16x5x5 -fc-> 120 -> 84 -> classes

Parameters, weights + biases, for ten classes:

    conv1   6 (  1 * 5*5 + 1) =    156
    conv2  16 (  6 * 5*5 + 1) =  2,416      every map sees all six maps below; the paper's table of 60 links saves 900
    fc1   120 ( 16 * 5*5 + 1) = 48,120      the paper's C3 -> C5: a 5x5 convolution on a 5x5 map is fully connected
    fc2    84 (      120 + 1) = 10,164
    fc3    10 (       84 + 1) =    850      sum 61,706

Where it differs from 1998: ReLU for the scaled tanh, max-pooling for the trained average, logits for distances.
LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition.
Test: tests/test_models.py.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.networks.spec import ModelSpec, unit_range


class LeNet5(nn.Module):
    """Grey images (N, 1, 32, 32) -> logits (N, num_classes)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = self.relu(self.fc1(x))
        x = self.relu(self.fc2(x))
        return self.fc3(x)


SPECS = (ModelSpec("lenet5", LeNet5, unit_range(32, 32, channels=1), "LeCun et al. 1998", num_classes=10, epochs=10),)
