"""U-Net: down to what is in the picture, up again to where it is, with a skip at every size.

    64 ──────────────── skip ───────────────► 128 64 ── classes          each number: two 3x3 convolutions of that width
     └ 128 ───────────── skip ──────────► 256 128 ┘                      └ 2x2 max-pooling
        └ 256 ────────── skip ─────► 512 256 ┘                           ┘ 2x2 up-convolution, which halves the channels
            └ 512 ─────► 1024 512 ┘
                └ 1024 ┘

Pooling loses the place of things; the skip puts the fine map of the way down beside the coarse one of the way up.

- Padded: the paper's convolutions are unpadded, so that 572x572 pixels give 388x388 answers and the skips are cropped.
  Here each keeps its size, and so does the network: a class for every pixel.
- Any size: where pooling dropped an odd row or column, the up-convolution's map gets one of zeros at the end.
- unet has the paper's widths and no BatchNorm, which is younger; unet_w8 is an eighth as wide, with BatchNorm (and so
  no bias before it), for small pictures and small machines.

Ronneberger, Fischer, Brox 2015, U-Net: convolutional networks for biomedical image segmentation.
Test: tests/test_unet.py.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from edgecnn.networks.spec import ModelSpec, unit_range

DEPTH = 4


def double_conv(in_channels: int, out_channels: int, batch_norm: bool) -> nn.Sequential:
    """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=not batch_norm))
        layers.extend([nn.BatchNorm2d(out_channels)] if batch_norm else [])
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def grown_to(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`x` (N, C, h, w) with zeros below and to the right up to the height and width of `like`."""
    rows, columns = like.shape[2] - x.shape[2], like.shape[3] - x.shape[3]
    if type(rows) is int and type(columns) is int and rows == columns == 0:  # symbols where the size is open
        return x
    return F.pad(x, [0, columns, 0, rows])


class UNet(nn.Module):
    """Images (N, in_channels, H, W), H and W at least 16 -> logits (N, num_classes, H, W)."""

    def __init__(self, num_classes: int = 2, width: int = 64, batch_norm: bool = False, in_channels: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(DEPTH + 1)]
        self.down = nn.ModuleList(
            double_conv(before, after, batch_norm)
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.5)  # at the end of the way down
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(double_conv(2 * w, w, batch_norm) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the paper: a normal distribution of variance 2 / inputs
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        x = self.dropout(skips.pop())
        for up, merge in zip(self.up, self.merge, strict=True):
            skip = skips.pop()
            x = merge(torch.cat([skip, grown_to(up(x), skip)], 1))
        return self.head(x)


SHAPES = ("background", "circle", "square", "triangle")
PAPER = "Ronneberger et al. 2015"
SPECS = (
    ModelSpec("unet", UNet, unit_range(256, 256), PAPER, num_classes=2, task="segmentation"),
    ModelSpec(
        "unet_w8",
        partial(UNet, width=8, batch_norm=True),
        unit_range(64, 64),
        f"{PAPER}, an eighth as wide",
        num_classes=4,
        task="segmentation",
        labels=SHAPES,
        epochs=15,
    ),
)
