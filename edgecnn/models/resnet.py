"""Residual networks: a block learns only what to add to its input, y = relu(F(x) + shortcut(x)).

    basic block                          bottleneck block
    x ── 3x3 ── 3x3 ──(+)── relu         x ── 1x1 ── 3x3 ── 1x1 (4x wider) ──(+)── relu
     └────────────────┘                   └──────────────────────────────────┘

The shortcut is the identity where the shape stays, a strided 1x1 convolution where it changes. With identity
shortcuts the gradient reaches every block undiminished, which is why a hundred layers train as well as ten.

- resnet18 ... resnet152: ImageNet. The stride of a bottleneck sits on its 3x3 ("ResNet v1.5": 4.1 G multiply-adds for
  ResNet-50; on the first 1x1, as in the paper, 3.8 G). Parameter names and initial values are torchvision's.
- resnet8: the CIFAR-10 network of MLPerf Tiny, 16-32-64 channels, and resnet8_w32, the same with 32-64-128. Two choices
  against the Keras original: convolutions in front of a BatchNorm have no bias (the norm subtracts it again: 77,946 for
  its 78,186 trainable parameters), and stride-2 convolutions pad by 1 on both sides, not only right and below.

He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition (init: He et al. 2015, Delving deep into
rectifiers); Banbury et al. 2021, MLPerf Tiny benchmark. Test: tests/test_models.py.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from edgecnn.networks.spec import IMAGENET, ModelSpec, unit_range


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps height and width at stride 1; no bias, because a BatchNorm follows."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """(N, in_channels, H, W) -> (N, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + shortcut)


class Bottleneck(nn.Module):
    """(N, in_channels, H, W) -> (N, 4 width, H/stride, W/stride); the 3x3 works on `width` channels only."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + shortcut)


Block = type[BasicBlock] | type[Bottleneck]
Blocks = tuple[int, int, int, int]


def stage(block: Block, in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """`blocks` blocks at one resolution; where the first changes the shape its shortcut is a 1x1 with BatchNorm."""
    out_channels = width * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))
    first = block(in_channels, width, stride, downsample)
    return nn.Sequential(first, *(block(out_channels, width) for _ in range(blocks - 1)))


def he_init(network: nn.Module) -> None:
    """Draw convolution weights with variance 2 / fan-out, so that gradients keep their size through the ReLUs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ResNet(nn.Module):
    """Images (N, 3, H, W), H and W at least 32 (224 in the paper) -> logits (N, num_classes).

    `blocks` of each of the four stages, whose `width` doubles from one to the next.
    """

    def __init__(self, block: Block, blocks: Blocks, num_classes: int = 1000, width: int = 64) -> None:
        super().__init__()
        self.conv1 = conv(3, width, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(block, width, width, blocks[0], stride=1)
        self.layer2 = stage(block, width * block.expansion, 2 * width, blocks[1], stride=2)
        self.layer3 = stage(block, 2 * width * block.expansion, 4 * width, blocks[2], stride=2)
        self.layer4 = stage(block, 4 * width * block.expansion, 8 * width, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width * block.expansion, num_classes)
        he_init(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x)


class ResNet8(nn.Module):
    """Images (N, 3, 32, 32) -> logits (N, num_classes): a 3x3 stem and three basic blocks of width, 2 and 4 width."""

    def __init__(self, width: int = 16, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = conv(3, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = BasicBlock(width, width)
        # MLPerf Tiny's shortcuts are bare convolutions (with bias, without BatchNorm), unlike those of the paper.
        self.layer2 = BasicBlock(width, 2 * width, 2, nn.Conv2d(width, 2 * width, 1, stride=2))
        self.layer3 = BasicBlock(2 * width, 4 * width, 2, nn.Conv2d(2 * width, 4 * width, 1, stride=2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        he_init(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x)


VARIANTS: dict[str, tuple[Block, Blocks]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}

SPECS = (
    ModelSpec("resnet8", ResNet8, unit_range(32, 32), "Banbury et al. 2021 (MLPerf Tiny)", num_classes=10, epochs=5),
    ModelSpec("resnet8_w32", partial(ResNet8, 32), unit_range(32, 32), "resnet8, twice as wide", 10, epochs=4),
    *(
        ModelSpec(name, partial(ResNet, block=block, blocks=blocks), IMAGENET, "He et al. 2016", num_classes=1000)
        for name, (block, blocks) in VARIANTS.items()
    ),
)
