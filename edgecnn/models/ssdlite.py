"""SSDLite on MobileNetV2: SSD whose predictors are depthwise too, for phones.

    320 x 320 ── MobileNetV2 ──┬── the 576 channels inside of its 14th block, 1/16 ── 3x3 depthwise ── 1x1 ── classes
                               ├── its last layer, 1/32                           ── 3x3 depthwise ── 1x1 ── boxes
                               └── 1x1, 3x3 depthwise stride 2, 1x1: 1/64 ── 1/128 ── 1/256 ── 1/512

SSD's 3x3 convolutions from 1280 channels to 546 answers would cost more than the whole network in front of them; split
into a depthwise and a 1x1 convolution they are an eighth of that. The finest map is read behind the expansion of a
block, where it has most channels. Structure and parameter names are those of torchvision's ssdlite320 (which puts it on
MobileNetV3), with this network's blocks; BatchNorm's epsilon 0.001 and all limits are also from there.
Sandler et al. 2018, MobileNetV2, section 6.2; Liu et al. 2016, SSD. Test: tests/test_ssd.py.
"""

from __future__ import annotations

from torch import nn

from edgecnn.detection.select import Selection
from edgecnn.models.mobilenet import InvertedResidual, MobileNetV2, conv_bn_relu6
from edgecnn.models.ssd import SSD, Chained, DefaultBoxes, Head
from edgecnn.networks.spec import ModelSpec, unit_range

FINEST = 14
"""Index of the first block at 1/32; its expansion is the last layer at 1/16."""


class MobileNetMaps(Chained):
    """Images (N, 3, H, W), 320 x 320 by default -> six maps from 1/16 to 1/512 of the size."""

    channels = (576, 1280, 512, 256, 256, 128)

    def __init__(self) -> None:
        super().__init__()
        layers = list(MobileNetV2(num_classes=1).features)
        block = layers[FINEST]
        assert isinstance(block, InvertedResidual)
        self.features = nn.Sequential(
            nn.Sequential(*layers[:FINEST], block.conv[0]),
            nn.Sequential(block.conv[1:], *layers[FINEST + 1 :]),
        )
        sizes = zip(self.channels[1:], self.channels[2:], strict=False)
        self.extra = nn.ModuleList(extra_block(channels, outputs) for channels, outputs in sizes)


def extra_block(channels: int, outputs: int) -> nn.Sequential:
    """1x1 to half of the outputs, 3x3 depthwise with stride 2, 1x1: the next coarser map."""
    half = outputs // 2
    return nn.Sequential(
        conv_bn_relu6(channels, half, 1), conv_bn_relu6(half, half, 3, 2, groups=half), conv_bn_relu6(half, outputs, 1)
    )


def predictor(channels: int, outputs: int) -> nn.Module:
    """3x3 depthwise, then 1x1 to the answers."""
    return nn.Sequential(conv_bn_relu6(channels, channels, 3, groups=channels), nn.Conv2d(channels, outputs, 1))


SCALES = tuple(0.2 + 0.15 * k for k in range(6))
BOXES = DefaultBoxes(scales=(*SCALES, 1.0), ratios=((2, 3),) * 6)


def ssdlite_mobilenet_v2(num_classes: int = 80) -> SSD:
    backbone, head = MobileNetMaps(), Head(MobileNetMaps.channels, BOXES.per_place, num_classes, predictor)
    for layer in (*backbone.modules(), *head.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps, layer.momentum = 0.001, 0.03
    for layer in (*backbone.extra.modules(), *head.modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.03)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return SSD(backbone, head, BOXES, Selection(low=0.001, iou=0.55, candidates=300, keep=300))


SPECS = (
    ModelSpec(
        "ssdlite_mobilenet_v2",
        ssdlite_mobilenet_v2,
        unit_range(320, 320),
        "Sandler et al. 2018",
        num_classes=80,
        task="detection",
    ),
)
