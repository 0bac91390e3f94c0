"""SSD on MobileNet: SSD300 for phones, with a quarter of its weights and a twenty-fifth of its work.

    300 x 300 ── MobileNet ──┬── its 12th layer, 19 x 19, 512 channels ── 1x1 ── 3 boxes a place
                             ├── its last layer, 10 x 10, 1024         ── 1x1 ── 6
                             └── 1x1, 3x3 stride 2: 5 x 5, 512 ── 3 x 3, 256 ── 2 x 2, 256 ── 1 x 1, 128, 6 each

19^2 x 3 + (10^2 + 5^2 + 3^2 + 2^2 + 1) x 6 = 1,917 boxes. Predictors are 1x1 convolutions where SSD300 has 3x3, every
layer has a BatchNorm, and the finest map has fewer boxes, one of them half as large as its scale asks for. The paper's
table 13: 6.8 million parameters, 1.2 billion multiply-adds for COCO's 90 classes. It names neither the extra maps nor
the boxes; they are those of the published model that MLPerf Inference measures edge machines with.
Howard et al. 2017, MobileNets, section 4.6; Liu et al. 2016, SSD. Test: tests/test_ssd.py.
"""

from __future__ import annotations

import math

from torch import nn

from edgecnn.detection.select import Selection
from edgecnn.models.mobilenet_v1 import MobileNetV1, conv_bn_relu
from edgecnn.models.ssd import SSD, Chained, DefaultBoxes, Head, xavier_init
from edgecnn.networks.spec import ModelSpec, unit_range

FINEST = 12
"""Layers of MobileNet up to the last one at 1/16."""


class MobileNetMaps(Chained):
    """Images (N, 3, H, W), 300 x 300 by default -> six maps from 1/16 to 1/512 of the size."""

    channels = (512, 1024, 512, 256, 256, 128)

    def __init__(self) -> None:
        super().__init__()
        layers = list(MobileNetV1(num_classes=1).features)
        self.features = nn.Sequential(nn.Sequential(*layers[:FINEST]), nn.Sequential(*layers[FINEST:]))
        sizes = zip(self.channels[1:], self.channels[2:], strict=False)
        self.extra = nn.ModuleList(extra_block(channels, outputs) for channels, outputs in sizes)
        xavier_init(self.extra)


def extra_block(channels: int, outputs: int) -> nn.Sequential:
    """1x1 to half of the outputs, 3x3 with stride 2 to all of them: the next coarser map."""
    return nn.Sequential(conv_bn_relu(channels, outputs // 2, 1), conv_bn_relu(outputs // 2, outputs, 3, 2))


def conv1x1(channels: int, outputs: int) -> nn.Module:
    return nn.Conv2d(channels, outputs, 1)


SCALES = tuple(0.2 + 0.15 * k for k in range(6))
WIDE = (SCALES[0] * math.sqrt(2), SCALES[0] / math.sqrt(2))
BOXES = DefaultBoxes(
    scales=(*SCALES, 1.0), ratios=((2, 3),) * 6, finest=((SCALES[0] / 2, SCALES[0] / 2), WIDE, (WIDE[1], WIDE[0]))
)


def ssd_mobilenet_v1(num_classes: int = 90) -> SSD:
    head = Head(MobileNetMaps.channels, BOXES.per_place, num_classes, conv1x1)
    xavier_init(head)
    return SSD(MobileNetMaps(), head, BOXES, Selection(low=0.01, iou=0.6, candidates=100, keep=100))


SPECS = (
    ModelSpec(
        "ssd_mobilenet_v1",
        ssd_mobilenet_v1,
        unit_range(300, 300),
        "Howard et al. 2017",
        num_classes=90,
        task="detection",
    ),
)
