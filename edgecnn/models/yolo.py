"""YOLO: one network, one look: every cell of a grid says at once what is in it and where its edges are.

    v1        448 x 448 ── 24 convolutions ── two fully connected layers ── 7 x 7 cells x (2 boxes x 5 + 20 classes)
                 box: x, y in the cell (0..1); square roots of width and height in images; confidence
                 score of a class = class probability of the cell x confidence of the box
    v3-tiny   416 x 416 ── 7 convolutions with pooling ──┬── 13 x 13 cells x 3 anchors x (5 + classes)
                                       finer features ───┴── 26 x 26 cells x 3 anchors x (5 + classes)
                 box: sigma(x), sigma(y) in the cell; anchor x exp(w), exp(h); score = sigma(objectness) sigma(class)

Version 1 has two boxes for a cell and one class: small things in groups are out of its reach. Version 3 asks for each
class apart, starts from anchors, and looks at two resolutions.

- yolov1: the paper's layers, 271,703,550 parameters, three quarters of them in one fully connected layer. `grid`,
  `hidden` and `width` make it smaller. Its numbers have no bound, so that scores are cut to 0..1.
- yolov3_tiny: 8,852,366 parameters for 80 classes. The stride-1 pooling looks right and down, as in Darknet.

Images are stretched to the square; Darknet pads them. The weights of Darknet's files are in another order of names.
Redmon, Divvala, Girshick, Farhadi 2016, You only look once; Redmon, Farhadi 2018, YOLOv3. Test: tests/test_yolo.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from edgecnn.detection.boxes import LARGEST_LOG, clip, to_corners
from edgecnn.detection.heads import Heads
from edgecnn.detection.select import Detections, Selection, select
from edgecnn.networks.spec import ModelSpec
from runtimes.imaging.preprocess import Preprocess

HOW = Selection(low=0.05, iou=0.45, candidates=100, keep=100)


def leaky_init(network: nn.Module) -> None:
    """Weights with variance 2 / (1.01 fan-in), which a leaky ReLU of slope 0.1 keeps from layer to layer."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0.1, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def cells(rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
    """(rows * columns, 1, 2): column and row of each cell."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([column, row], -1).reshape(-1, 1, 2).to(like)


# ---------------------------------------------------------------------------------------------------------- version 1
STAGES: tuple[tuple[tuple[int, int], ...], ...] = (
    # (kernel, channels) of the convolutions between two poolings (figure 3 of the paper); the first has stride 2
    ((7, 64),),
    ((3, 192),),
    ((1, 128), (3, 256), (1, 256), (3, 512)),
    (*((1, 256), (3, 512)) * 4, (1, 512), (3, 1024)),
    (*((1, 512), (3, 1024)) * 2, (3, 1024)),
)
LAST = ((3, 1024), (3, 1024), (3, 1024))
"""The first of these has stride 2: a pooling less, a grid of 1/64."""
BOXES = 2


def conv_leaky(channels: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, outputs, kernel, stride, padding=kernel // 2), nn.LeakyReLU(0.1)]


class YOLOv1(nn.Module):
    """Images (N, 3, 64 grid, 64 grid) -> detections; in training the cells (N, grid, grid, 2 * 5 + classes)."""

    def __init__(self, num_classes: int = 20, hidden: int = 4096, grid: int = 7, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for i, stage in enumerate(STAGES):
            for kernel, outputs in stage:
                layers += conv_leaky(channels, outputs * width // 64, kernel, stride=2 if i == 0 else 1)
                channels = outputs * width // 64
            layers += [nn.MaxPool2d(2)] if i < 4 else []
        for i, (kernel, outputs) in enumerate(LAST):
            layers += conv_leaky(channels, outputs * width // 64, kernel, stride=2 if i == 0 else 1)
            channels = outputs * width // 64
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * grid**2, hidden), nn.LeakyReLU(0.1), nn.Dropout(),
            nn.Linear(hidden, grid**2 * (BOXES * 5 + num_classes)),
        )  # fmt: skip
        self.num_classes, self.grid = num_classes, grid
        leaky_init(self)

    def forward(self, x: torch.Tensor) -> Detections | torch.Tensor:
        answers = self.classifier(self.features(x).flatten(1))
        answers = answers.reshape(x.shape[0], self.grid, self.grid, -1)
        if self.training:
            return answers
        flat = answers.reshape(x.shape[0], self.grid**2, -1)
        boxes = flat[..., : BOXES * 5].reshape(x.shape[0], -1, BOXES, 5)
        size = torch.tensor([x.shape[3], x.shape[2]]).to(x)
        centre = (boxes[..., :2] + cells(self.grid, self.grid, x)) / self.grid * size
        found = clip(to_corners(torch.cat([centre, boxes[..., 2:4] ** 2 * size], -1)), (x.shape[2], x.shape[3]))
        scores = flat[..., BOXES * 5 :].unsqueeze(2) * boxes[..., 4:]
        scores = scores.reshape(x.shape[0], -1, self.num_classes).clamp(0, 1).transpose(1, 2)
        return select(found.reshape(x.shape[0], 1, -1, 4), scores, HOW)

    def heads(self) -> Heads:
        return [[(self.classifier[-1], 0.5)]]


# ----------------------------------------------------------------------------------------------------- version 3, tiny
COARSE = ((81, 82), (135, 169), (344, 319))
FINE = ((10, 14), (23, 27), (37, 58))
"""Width and height of the anchors in pixels, clustered from COCO."""


def conv_bn_leaky(channels: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1),
    )


class PoolRightAndDown(nn.Module):
    """Maximum over 2x2 pixels with stride 1, of each pixel and those right and below: the size stays.

    Padding on all sides gives one row and column too many, the first: a MaxPool pads with minus infinity.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, stride=1, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(x)[:, :, 1:, 1:]


class YOLOv3Tiny(nn.Module):
    """Images (N, 3, H, W), multiples of 32 -> detections; in training two maps (N, 3 (5 + classes), H/32 and H/16)."""

    def __init__(self, num_classes: int = 80) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 128, 256)
        fine: list[nn.Module] = []
        for channels, outputs in pairwise(widths):
            fine += [conv_bn_leaky(channels, outputs, 3), nn.MaxPool2d(2)]
        self.fine = nn.Sequential(*fine[:-1])
        self.coarse = nn.Sequential(
            nn.MaxPool2d(2), conv_bn_leaky(256, 512, 3), PoolRightAndDown(),
            conv_bn_leaky(512, 1024, 3), conv_bn_leaky(1024, 256, 1),
        )  # fmt: skip
        self.up = nn.Sequential(conv_bn_leaky(256, 128, 1), nn.Upsample(scale_factor=2))
        answers = len(COARSE) * (5 + num_classes)
        self.head_coarse = nn.Sequential(conv_bn_leaky(256, 512, 3), nn.Conv2d(512, answers, 1))
        self.head_fine = nn.Sequential(conv_bn_leaky(128 + 256, 256, 3), nn.Conv2d(256, answers, 1))
        self.num_classes = num_classes
        leaky_init(self)

    def forward(self, x: torch.Tensor) -> Detections | tuple[torch.Tensor, torch.Tensor]:
        fine = self.fine(x)
        coarse = self.coarse(fine)
        raw = self.head_coarse(coarse), self.head_fine(torch.cat([self.up(coarse), fine], 1))
        if self.training:
            return raw
        size = (x.shape[2], x.shape[3])
        parts = [self.decode(r, anchors, size) for r, anchors in zip(raw, (COARSE, FINE), strict=True)]
        boxes, scores = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        return select(clip(boxes, size).unsqueeze(1), scores.transpose(1, 2), HOW)

    def decode(
        self, raw: torch.Tensor, anchors: Sequence[tuple[int, int]], size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(boxes (N, P, 4) in pixels, scores (N, P, classes)) of one map (N, 3 (5 + classes), H, W)."""
        images, _, rows, columns = raw.shape
        answers = raw.permute(0, 2, 3, 1).reshape(images, rows * columns, len(anchors), -1)
        step = torch.tensor([size[1] / columns, size[0] / rows]).to(raw)
        centre = (answers[..., :2].sigmoid() + cells(rows, columns, raw)) * step
        sides = torch.tensor(anchors).to(raw) * answers[..., 2:4].clamp(max=LARGEST_LOG).exp()
        scores = answers[..., 4:5].sigmoid() * answers[..., 5:].sigmoid()
        boxes = to_corners(torch.cat([centre, sides], -1))
        return boxes.reshape(images, -1, 4), scores.reshape(images, -1, self.num_classes)

    def heads(self) -> Heads:
        return [[(self.head_coarse[-1], 1.0), (self.head_fine[-1], 1.0)]]


SPECS = (
    ModelSpec("yolov1", YOLOv1, Preprocess((448, 448)), "Redmon et al. 2016", num_classes=20, task="detection"),
    ModelSpec(
        "yolov3_tiny", YOLOv3Tiny, Preprocess((416, 416)), "Redmon, Farhadi 2018", num_classes=80, task="detection"
    ),
)
