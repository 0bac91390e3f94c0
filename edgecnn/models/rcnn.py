"""R-CNN and Fast R-CNN: propose regions, then classify each with a convolutional network.

    R-CNN        image ── regions ── each warped to 227x227 ── AlexNet ── fc7 ── one linear SVM a class
                                                                  └── pool5 ── one box regression a class
    Fast R-CNN   image ── VGG-16 ── features ── RoI max-pooling of each region to 7x7 ── fc6 fc7 ──┬── softmax
                                                                                                   └── boxes
    deck 001     50 s an image                    2 s: one pass over the image, not one over each region

Both papers take 2,000 regions from Selective Search, a program of its own. What is deployed here is one graph from the
image to boxes, so the regions are a dense grid of windows instead: `levels` sizes, three shapes, half of a window from
one to the next. Weights that were trained on other regions work on these, only less exactly.

- R-CNN's SVM gives a margin without bounds; its score is the logistic of it, which keeps the order. The 16 pixels of
  context around a region (appendix A) that fall outside of the image are 0, the mean colour, as in the paper.
- A region is warped by RoIAlign with one sample a pixel, which is bilinear resizing.

Names follow torchvision's alexnet and vgg16 as far as they go; the last layers are the papers' own.
Girshick, Donahue, Darrell, Malik 2014, Rich feature hierarchies; Girshick 2015, Fast R-CNN. Test: tests/test_rcnn.py.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.detection.anchors import windows
from edgecnn.detection.boxes import PLAIN, VARIANCES, to_centres, to_corners
from edgecnn.detection.heads import CODE_SPREAD, SCORE_SPREAD, Heads
from edgecnn.detection.ops import max_roi_pool, roi_align
from edgecnn.detection.proposals import boxes_of_classes, on_every_image
from edgecnn.detection.select import Detections, Selection, select
from edgecnn.models.alexnet import AlexNet
from edgecnn.models.vgg import VGG16, features
from edgecnn.models.vgg import init as vgg_init
from edgecnn.networks.spec import IMAGENET, ModelSpec
from runtimes.imaging.preprocess import Preprocess

SHARES = (1.0, 0.5, 0.3)
RATIOS = (0.5, 1.0, 2.0)
WARPED, CONTEXT = 227, 16
ONE_SIZE = "its grid of windows is laid out for it"
Raw = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""scores of each region before the last function, its code, the regions (P, 4)."""


def grid(x: torch.Tensor, levels: int) -> torch.Tensor:
    """(P, 4) windows on the images x (N, C, H, W)."""
    height, width = x.shape[2:]
    return windows((height, width), SHARES[:levels], RATIOS, 0.5)


class RCNN(nn.Module):
    """Images (N, 3, H, W) -> detections; in training margins (N, P, classes), code (N, P, 4 classes), windows."""

    one_size = ONE_SIZE

    def __init__(self, num_classes: int = 20, hidden: int = 4096, levels: int = 3) -> None:
        super().__init__()
        alexnet = AlexNet(num_classes=1, hidden=hidden)
        self.features, self.avgpool = alexnet.features, alexnet.avgpool
        self.classifier = alexnet.classifier[:6]  # up to fc7
        self.svm = nn.Linear(hidden, num_classes)
        self.bbox = nn.Linear(256 * 6 * 6, 4 * num_classes)
        self.num_classes, self.levels = num_classes, levels
        self.how = Selection(low=0.05, iou=0.3, candidates=100, keep=100)
        for layer in self.modules():  # torch's own values shrink from layer to layer
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> Detections | Raw:
        regions = grid(x, self.levels)
        boxes, image = on_every_image(regions, x)
        warped = roi_align(x, with_context(boxes), image, [WARPED, WARPED], 1.0, 1)
        pool5 = self.avgpool(self.features(warped)).flatten(1)
        margins = self.svm(self.classifier(pool5)).reshape(x.shape[0], -1, self.num_classes)
        code = self.bbox(pool5).reshape(x.shape[0], -1, 4 * self.num_classes)
        if self.training:
            return margins, code, regions
        start = boxes.reshape(x.shape[0], -1, 4)
        found = boxes_of_classes(code, start, PLAIN, (x.shape[2], x.shape[3]))
        return select(found, margins.sigmoid().transpose(1, 2), self.how)

    def heads(self) -> Heads:
        return [[(self.svm, SCORE_SPREAD), (self.bbox, 0.1)]]


def with_context(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes (R, 4) enlarged so that 16 of the 227 warped pixels on each side lie outside of the box."""
    centres = to_centres(boxes)
    grown = centres[:, 2:] * (WARPED / (WARPED - 2 * CONTEXT))
    return to_corners(torch.cat([centres[:, :2], grown], 1))


class FastRCNN(nn.Module):
    """Images (N, 3, H, W) -> detections; in training logits (N, P, 1 + classes), code (N, P, 4 (1 + classes)), windows.

    Class 0 of the logits is background; it has a code too, as in the paper's program, that nobody reads.
    """

    one_size = ONE_SIZE

    def __init__(self, num_classes: int = 20, hidden: int = 4096, levels: int = 3) -> None:
        super().__init__()
        self.features = features(VGG16)[:-1]  # RoI pooling takes the place of pool5
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(),
        )  # fmt: skip
        self.cls_score = nn.Linear(hidden, num_classes + 1)
        self.bbox_pred = nn.Linear(hidden, 4 * (num_classes + 1))
        self.num_classes, self.levels = num_classes, levels
        self.how = Selection(low=0.05, iou=0.3, candidates=100, keep=100)
        vgg_init(self)

    def forward(self, x: torch.Tensor) -> Detections | Raw:
        regions = grid(x, self.levels)
        boxes, image = on_every_image(regions, x)
        rows = torch.cat([image.unsqueeze(1).to(x), boxes], 1)
        pooled = max_roi_pool(self.features(x), rows, [7, 7], 1 / 16)
        hidden = self.classifier(pooled.flatten(1))
        logits = self.cls_score(hidden).reshape(x.shape[0], -1, self.num_classes + 1)
        code = self.bbox_pred(hidden).reshape(x.shape[0], -1, 4 * (self.num_classes + 1))
        if self.training:
            return logits, code, regions
        start = boxes.reshape(x.shape[0], -1, 4)
        found = boxes_of_classes(code[..., 4:], start, VARIANCES, (x.shape[2], x.shape[3]))
        return select(found, torch.softmax(logits, -1)[..., 1:].transpose(1, 2), self.how)

    def heads(self) -> Heads:
        return [[(self.cls_score, SCORE_SPREAD), (self.bbox_pred, CODE_SPREAD)]]


PICTURE = Preprocess((375, 500), mean=IMAGENET.mean, std=IMAGENET.std)
"""The usual size of a Pascal VOC picture, stretched to it."""

SPECS = (
    ModelSpec("rcnn_alexnet", RCNN, PICTURE, "Girshick et al. 2014", num_classes=20, task="detection"),
    ModelSpec("fast_rcnn_vgg16", FastRCNN, PICTURE, "Girshick 2015", num_classes=20, task="detection"),
)
