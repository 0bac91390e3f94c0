"""R-FCN on ResNet-101: the second look at a region costs almost nothing, because no layer is left behind the pooling.

    image ── ResNet-101 up to layer3 ──┬── region proposal network ───────── 300 regions ──┐
                                       │                                                   │
                 layer4 (a trous) ── 1x1, 1024 ──┬── 1x1: 7x7 score maps a class ── position-sensitive pooling ── vote
                                                 └── 1x1: 7x7 maps of 4 ──────────── the same ───────────────── box

A network that is convolutional to its end forgets where in a region something is: it would give the same answer for
an object and for its half. Here each of 7x7 parts of a region reads maps of its own ("upper left of a cat"), and the
parts vote. layer4 keeps its resolution: its stride becomes a dilation of 2 of its 3x3 kernels. The box is the same for
all classes. Names up to layer4 are those of torchvision's resnet101.
Dai, Li, He, Sun 2016, R-FCN: object detection via region-based fully convolutional networks. Test: tests/test_rcnn.py.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.detection.boxes import VARIANCES
from edgecnn.detection.heads import Heads
from edgecnn.detection.proposals import PROPOSALS, RegionProposals, boxes_of_classes, per_image
from edgecnn.detection.ps_pool import ps_roi_pool
from edgecnn.detection.select import Detections, Selection, select
from edgecnn.models.faster_rcnn import BLOCKS, PICTURE, STRIDE, WIDTH, Raw, Trunk
from edgecnn.models.resnet import Blocks, Bottleneck
from edgecnn.networks.spec import ModelSpec

PARTS = 7


class RFCN(Trunk):
    """Images (N, 3, H, W) -> detections; in training the votes (R, 1 + classes) and codes (R, 4) of the regions."""

    def __init__(
        self, num_classes: int = 20, proposals: int = PROPOSALS, blocks: Blocks = BLOCKS, width: int = WIDTH
    ) -> None:
        super().__init__(blocks, width)
        atrous(self.layer4)
        self.rpn = RegionProposals(16 * width, stride=STRIDE, proposals=proposals)
        self.reduce = nn.Conv2d(32 * width, 16 * width, 1)
        self.rfcn_cls = nn.Conv2d(16 * width, PARTS**2 * (num_classes + 1), 1)
        self.rfcn_bbox = nn.Conv2d(16 * width, PARTS**2 * 4, 1)
        self.num_classes = num_classes
        self.how = Selection(low=0.05, iou=0.3, candidates=100, keep=100)

    def forward(self, x: torch.Tensor) -> Detections | Raw:
        size = (x.shape[2], x.shape[3])
        shared = self.trunk(x)
        regions, image = self.rpn(shared, size)
        deep = torch.relu(self.reduce(self.layer4(shared)))
        logits, code = (
            ps_roi_pool(maps, regions, image, PARTS, 1 / STRIDE).mean((2, 3))
            for maps in (self.rfcn_cls(deep), self.rfcn_bbox(deep))
        )
        if self.training:
            return logits, code, regions, image
        rows = torch.cat([torch.softmax(logits, -1)[:, 1:], code, regions], 1)
        table = per_image(rows, image, x.shape[0], self.rpn.proposals)
        scores, code, start = torch.split(table, [self.num_classes, 4, 4], 2)
        return select(boxes_of_classes(code, start, VARIANCES, size), scores.transpose(1, 2), self.how)

    def heads(self) -> Heads:
        # A vote is a mean of 49 parts of several pixels each: their spread shrinks on the way.
        return [
            [(self.rpn.cls_logits, 2.0), (self.rpn.bbox_pred, 0.2)],
            [(self.rfcn_cls, 6.0), (self.rfcn_bbox, 2.0)],
        ]


def atrous(layer: nn.Module) -> None:
    """Turn the stride of a ResNet stage into a dilation: the same weights see the same pixels at twice the density."""
    for block in layer.modules():
        if isinstance(block, Bottleneck):
            block.conv2.stride, block.conv2.dilation, block.conv2.padding = (1, 1), (2, 2), (2, 2)
            if isinstance(block.downsample, nn.Sequential) and isinstance(block.downsample[0], nn.Conv2d):
                block.downsample[0].stride = (1, 1)


SPECS = (ModelSpec("rfcn_resnet101", RFCN, PICTURE, "Dai et al. 2016", num_classes=20, task="detection"),)
