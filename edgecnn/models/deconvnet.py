"""DeconvNet: VGG-16, and then VGG-16 backwards, the unpooling led by where the maxima were.

    conv 1 ─ pool ─ ... ─ conv 5 ─ pool ─ fc6 7x7 ─ fc7 1x1 ─ deconv 7x7 ─ unpool ─ deconv 5 ─ ... ─ unpool ─ deconv 1
              │                     └───── places of the maxima ──────────────┘                       │
              └──────────────────────────── places of the maxima ─────────────────────────────────────┘

An up-sampled score map has lost every detail below 32 pixels. Unpooling puts each value back where its maximum was,
which draws the outline of the object; the deconvolutions fill it. Each is followed by BatchNorm and ReLU, without
which the paper's 29 layers did not train. Unpooling knows the size that was pooled, so every image is answered at its
own size; 224x224 is the smallest, where fc6 sees 7x7.

Widths of the paper's table 1; about 252 M parameters, four fifths of them in the two 7x7 layers. `hidden`, `stages` and
`fc_kernel` make smaller ones.

Noh, Hong, Han 2015, Learning deconvolution network for semantic segmentation. Test: tests/test_deconvnet.py.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.layers.unpooling import MaxPoolIndices2d, MaxUnpool2d
from edgecnn.models.fcn import VOC, whole_picture
from edgecnn.models.vgg import VGG16, Stages
from edgecnn.networks.spec import ModelSpec


def block(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """The layer, BatchNorm, ReLU."""
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU())


def conv(in_channels: int, out_channels: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    return block(nn.Conv2d(in_channels, out_channels, kernel, padding=padding, bias=False))


def deconv(in_channels: int, out_channels: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    return block(nn.ConvTranspose2d(in_channels, out_channels, kernel, padding=padding, bias=False))


class DeconvNet(nn.Module):
    """Images (N, 3, H, W), H and W at least 32 fc_kernel -> logits (N, num_classes, H, W)."""

    def __init__(self, num_classes: int = 21, hidden: int = 4096, stages: Stages = VGG16, fc_kernel: int = 7) -> None:
        super().__init__()
        self.pool, self.unpool = MaxPoolIndices2d(2), MaxUnpool2d(2)
        self.conv, self.deconv = nn.ModuleList(), nn.ModuleList()
        channels = 3
        for widths in stages:
            before = [channels, *widths[:-1]]
            self.conv.append(nn.Sequential(*(conv(a, b) for a, b in zip(before, widths, strict=True))))
            back = [*reversed(widths[:-1]), widths[0] if channels == 3 else channels]
            self.deconv.insert(0, nn.Sequential(*(deconv(a, b) for a, b in zip(reversed(widths), back, strict=True))))
            channels = widths[-1]
        self.fc6, self.fc7 = conv(channels, hidden, fc_kernel, 0), conv(hidden, hidden, 1, 0)
        self.deconv_fc6 = deconv(hidden, channels, fc_kernel, 0)
        self.head = nn.Conv2d(stages[0][0], num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = []
        for stage in self.conv:
            x = stage(x)
            size = (x.shape[2], x.shape[3])
            x, places = self.pool(x)
            pooled.append((places, size))
        x = self.deconv_fc6(self.fc7(self.fc6(x)))
        for stage in self.deconv:
            x = stage(self.unpool(x, *pooled.pop()))
        return self.head(x)


SPECS = (ModelSpec("deconvnet", DeconvNet, whole_picture(224), "Noh et al. 2015", 21, "segmentation", VOC),)
