"""VGG: depth from one kind of layer, the 3x3 convolution.

    image ── 64 64 pool ── 128 128 pool ── 256 .. pool ── 512 .. pool ── 512 .. pool ── 4096 ── 4096 ── classes
             224x224       112x112         56x56          28x28          14x14     7x7

Two 3x3 convolutions see 5x5 pixels and three see 7x7, with 2 * 9 and 3 * 9 weights per pair of channels for 25 and 49,
and with a ReLU after each. The price stands at the end: of VGG-16's 138 M parameters 103 M are the first fully
connected layer, 7x7x512 -> 4096.

Columns of the paper's table 1: D is vgg16, E is vgg19; `_bn` puts a BatchNorm (younger than the paper) after every
convolution. Parameter names and initial values are torchvision's; 138,357,544 parameters and 15.47 G multiply-adds for
VGG-16 (15.35 G of them in the convolutions, which is where a quoted 15.3 comes from).
Simonyan, Zisserman 2014, Very deep convolutional networks for large-scale image recognition.
Test: tests/test_models.py.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from edgecnn.networks.spec import IMAGENET, ModelSpec

Stages = tuple[tuple[int, ...], ...]
"""Channels of the convolutions of each stage; a 2x2 max-pooling ends every stage."""

VGG16: Stages = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
VGG19: Stages = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)


def features(stages: Stages, batch_norm: bool = False, in_channels: int = 3) -> nn.Sequential:
    """The convolutions: (N, in_channels, H, W) -> (N, 512, H/32, W/32) for five stages; each pooling halves and floors.

    Modules are numbered through, so a checkpoint's `features.28.weight` is VGG-16's last convolution.
    """
    layers: list[nn.Module] = []
    for stage in stages:
        for channels in stage:
            layers.append(nn.Conv2d(in_channels, channels, kernel_size=3, padding=1))
            layers.extend([nn.BatchNorm2d(channels)] if batch_norm else [])
            layers.append(nn.ReLU())
            in_channels = channels
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """Images (N, 3, H, W), H and W at least 32 (224 in the paper) -> logits (N, num_classes).

    `hidden`: neurons of the two fully connected layers; fewer make a network for small machines and quick tests.
    """

    def __init__(self, stages: Stages, batch_norm: bool, num_classes: int = 1000, hidden: int = 4096) -> None:
        super().__init__()
        self.features = features(stages, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))  # does nothing at 224x224
        self.classifier = nn.Sequential(
            nn.Linear(stages[-1][-1] * 7 * 7, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        init(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier(x)


def init(network: nn.Module) -> None:
    """Convolutions with variance 2 / fan-out (He et al. 2015): with a deviation of 0.01 depth starves."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)


VARIANTS = {
    "vgg16": (VGG16, False),
    "vgg19": (VGG19, False),
    "vgg16_bn": (VGG16, True),
    "vgg19_bn": (VGG19, True),
}

SPECS = tuple(
    ModelSpec(
        name, partial(VGG, stages=stages, batch_norm=norm), IMAGENET, "Simonyan, Zisserman 2014", num_classes=1000
    )
    for name, (stages, norm) in VARIANTS.items()
)
