"""Faster R-CNN on ResNet-101: the network proposes its regions itself, from the features that it classifies them with.

    image ── conv1 .. layer3 ── features (1/16) ──┬── region proposal network ── 300 regions
                                                  │                                   │
                                                  └──────────── RoIAlign 14x14 ───────┘
                                                                    │
                                            layer4 (7x7) ── mean ──┬── softmax over classes
                                                                   └── a box for each class
    deck 001     0.2 s an image; Fast R-CNN's 2 s went into the proposals

The split at layer3 is that of the ResNet paper's appendix A: everything up to there runs once an image, layer4 once a
region. RoIAlign with 2x2 samples a bin takes the place of rounding regions to pixels (He et al. 2017). torchvision's
network of this name is another one (a feature pyramid); names up to layer4 are those of its resnet101.
Evaluation answers (boxes, scores, labels, image), training what the two stages say.
Ren, He, Girshick, Sun 2015, Faster R-CNN; He et al. 2016, appendix A. Test: tests/test_rcnn.py.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.detection.boxes import VARIANCES
from edgecnn.detection.heads import CODE_SPREAD, SCORE_SPREAD, Heads
from edgecnn.detection.ops import roi_align
from edgecnn.detection.proposals import PROPOSALS, RegionProposals, boxes_of_classes, per_image
from edgecnn.detection.select import Detections, Selection, select
from edgecnn.models.resnet import Blocks, Bottleneck, ResNet
from edgecnn.networks.spec import IMAGENET, ModelSpec
from runtimes.imaging.preprocess import Preprocess

BLOCKS, WIDTH = (3, 4, 23, 3), 64
STRIDE = 16
BRANCH = 0.2
"""Gain of a residual branch at first: at full strength a hundred random layers double every rounding error often."""
Raw = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""logits (R, 1 + classes), code (R, 4 (1 + classes)), regions (R, 4), the image of each (R,)."""


class Trunk(nn.Module):
    """ResNet-101 without its last two layers; a detector adds `layer4` where it needs it. `width`: of its stem."""

    def __init__(self, blocks: Blocks, width: int) -> None:
        super().__init__()
        resnet = ResNet(Bottleneck, blocks, num_classes=1, width=width)
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2, self.layer3 = resnet.layer1, resnet.layer2, resnet.layer3
        self.layer4 = resnet.layer4
        for block in self.modules():
            if isinstance(block, Bottleneck):
                nn.init.constant_(block.bn3.weight, BRANCH)

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) -> features (N, 1024, H/16, W/16)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer3(self.layer2(self.layer1(x)))


class FasterRCNN(Trunk):
    """Images (N, 3, H, W) -> detections; in training the second stage's answers. `proposals` an image at most."""

    def __init__(
        self, num_classes: int = 20, proposals: int = PROPOSALS, blocks: Blocks = BLOCKS, width: int = WIDTH
    ) -> None:
        super().__init__(blocks, width)
        self.rpn = RegionProposals(16 * width, stride=STRIDE, proposals=proposals)
        self.cls_score = nn.Linear(32 * width, num_classes + 1)
        self.bbox_pred = nn.Linear(32 * width, 4 * (num_classes + 1))
        self.num_classes = num_classes
        self.how = Selection(low=0.05, iou=0.3, candidates=100, keep=100)

    def forward(self, x: torch.Tensor) -> Detections | Raw:
        size = (x.shape[2], x.shape[3])
        shared = self.trunk(x)
        regions, image = self.rpn(shared, size)
        pooled = roi_align(shared, regions, image, [14, 14], 1 / STRIDE, 2)
        each = self.layer4(pooled).mean((2, 3))
        logits, code = self.cls_score(each), self.bbox_pred(each)
        if self.training:
            return logits, code, regions, image
        scores = torch.softmax(logits, -1)[:, 1:]
        rows = torch.cat([scores, code[:, 4:], regions], 1)
        table = per_image(rows, image, x.shape[0], self.rpn.proposals)
        scores, code, start = torch.split(table, [self.num_classes, 4 * self.num_classes, 4], 2)
        return select(boxes_of_classes(code, start, VARIANCES, size), scores.transpose(1, 2), self.how)

    def heads(self) -> Heads:
        first = [(self.rpn.cls_logits, SCORE_SPREAD), (self.rpn.bbox_pred, 0.2)]
        return [first, [(self.cls_score, SCORE_SPREAD), (self.bbox_pred, CODE_SPREAD)]]


PICTURE = Preprocess((600, 800), mean=IMAGENET.mean, std=IMAGENET.std)
"""A shorter side of 600 pixels, as in the paper; stretched, because a graph has one size."""

SPECS = (ModelSpec("faster_rcnn_resnet101", FasterRCNN, PICTURE, "Ren et al. 2015", num_classes=20, task="detection"),)
