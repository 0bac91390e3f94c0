"""SSD: all boxes of all sizes in one pass, each map of the network answering for objects of its own scale.

    image ── base network ──┬── map 1 (fine) ──┬── 3x3 ── classes of the default boxes around each pixel
                            ├── map 2          ├── 3x3 ── shifts and sizes of the same boxes
                            ┊                  ┊
                            └── map 6 (coarse) ┴── decode ── suppression per class ── the best 200

No proposals and no second look: where a two-stage detector pools features for each region, SSD asks every pixel of
every map about a few default boxes. On 300x300 pixels these are 38^2 x 4 + 19^2 x 6 + 10^2 x 6 + 5^2 x 6 + 3^2 x 4
+ 1 x 4 = 8,732 boxes.

- ssd300_vgg16: VGG-16 up to conv4_3 (its map scaled to a learned length of 20 per pixel), pool5 without stride, fc6 as
  a dilated convolution, fc7 as a 1x1, four more blocks. Parameter names, default boxes and limits are torchvision's.
  `width`, 64 in the paper, makes it smaller.
- ssd_tiny: three maps of a small network for 64x64 pixels; not of the paper, made to be trained here in minutes.

`num_classes` counts the classes of objects; the head has one more, background, at 0. A checkpoint of torchvision for
91 "classes" is one of 90 here. Evaluation answers (boxes, scores, labels, image), training the raw maps for `loss`.
Liu et al. 2016, SSD: single shot multibox detector. Test: tests/test_ssd.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from edgecnn.detection.anchors import centred, default_sides
from edgecnn.detection.boxes import VARIANCES, clip, decode
from edgecnn.detection.heads import CODE_SPREAD, SCORE_SPREAD, Heads
from edgecnn.detection.loss import Targets, multibox_loss
from edgecnn.detection.select import Detections, Selection, select
from edgecnn.models.vgg import VGG16, features
from edgecnn.networks.spec import ModelSpec, unit_range
from runtimes.imaging.preprocess import Preprocess

Raw = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""logits (N, P, 1 + classes), code (N, P, 4), default boxes (P, 4) in pixels of the input."""


@dataclass(frozen=True)
class DefaultBoxes:
    """`scales`: side of each map's boxes as a share of the image, and one more after the last; `ratios` of each map.

    `steps`: pixels of the input from one box centre to the next; None: the image divided by the size of the map.
    `finest`: (width, height) of the first map's boxes as shares of the image, where they are others than its scale's.
    """

    scales: tuple[float, ...]
    ratios: tuple[tuple[float, ...], ...]
    steps: tuple[int, ...] | None = None
    finest: tuple[tuple[float, float], ...] = ()

    @property
    def per_place(self) -> list[int]:
        return [len(self.sides(k)) for k in range(len(self.ratios))]

    def sides(self, k: int) -> Sequence[tuple[float, float]]:
        """(width, height) of the boxes of map `k` as shares of the image."""
        if k == 0 and self.finest:
            return self.finest
        return default_sides(self.scales[k], self.scales[k + 1], self.ratios[k])

    def __call__(self, size: tuple[int, int], maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """(P, 4) corners in pixels for an image of `size` (height, width) and its maps (N, C, H, W)."""
        height, width = size
        found = []
        for k, values in enumerate(maps):
            rows, columns = values.shape[2:]
            step = (self.steps[k], self.steps[k]) if self.steps else (height / rows, width / columns)
            found.append(centred((rows, columns), step, [(w * width, h * height) for w, h in self.sides(k)]))
        return torch.cat(found)


class Scores(nn.Module):
    """One predictor for each map: maps (N, C_k, H_k, W_k) -> (N, P, columns), P over rows, columns, boxes, then maps.

    `predictor(channels, outputs)` makes a layer that keeps height and width.
    """

    def __init__(
        self,
        channels: Sequence[int],
        boxes: Sequence[int],
        columns: int,
        predictor: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.columns = columns
        self.module_list = nn.ModuleList(predictor(c, b * columns) for c, b in zip(channels, boxes, strict=True))

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        answers = [layer(x).permute(0, 2, 3, 1) for layer, x in zip(self.module_list, maps, strict=True)]
        return torch.cat([a.reshape(a.shape[0], -1, self.columns) for a in answers], 1)

    def last(self, spread: float) -> list[tuple[nn.Module, float]]:
        """The convolution that each map's predictor ends in, with the `spread` that its answers should have."""
        return [([m for m in layer.modules() if isinstance(m, nn.Conv2d)][-1], spread) for layer in self.module_list]


class Head(nn.Module):
    """Maps -> logits (N, P, 1 + classes) and code (N, P, 4)."""

    def __init__(
        self,
        channels: Sequence[int],
        boxes: Sequence[int],
        num_classes: int,
        predictor: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.classification_head = Scores(channels, boxes, num_classes + 1, predictor)
        self.regression_head = Scores(channels, boxes, 4, predictor)

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.classification_head(maps), self.regression_head(maps)


class SSD(nn.Module):
    """Images (N, 3, H, W) -> detections; in training the raw answers. `backbone` returns a list of maps."""

    def __init__(self, backbone: nn.Module, head: Head, boxes: DefaultBoxes, how: Selection) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.boxes, self.how = boxes, how
        self.num_classes = head.classification_head.columns - 1

    def forward(self, x: torch.Tensor) -> Detections | Raw:
        height, width = x.shape[2:]
        maps = self.backbone(x)
        logits, code = self.head(maps)
        anchors = self.boxes((height, width), maps).to(x)
        if self.training:
            return logits, code, anchors
        boxes = clip(decode(code, anchors), (height, width)).unsqueeze(1)
        scores = torch.softmax(logits, -1)[..., 1:].transpose(1, 2)
        return select(boxes, scores, self.how)

    def loss(self, raw: Raw, targets: Targets) -> torch.Tensor:
        """The multibox loss of a training answer for one `boxes`, `labels` target an image."""
        return multibox_loss(*raw, targets, VARIANCES)

    def heads(self) -> Heads:
        return [[*self.head.classification_head.last(SCORE_SPREAD), *self.head.regression_head.last(CODE_SPREAD)]]


class Chained(nn.Module):
    """Images (N, 3, H, W) -> maps, one behind every block of `features` and then of `extra`."""

    features: nn.Sequential
    extra: nn.ModuleList

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for block in (*self.features, *self.extra):
            x = block(x)
            maps.append(x)
        return maps


def conv3x3(channels: int, outputs: int) -> nn.Module:
    return nn.Conv2d(channels, outputs, 3, padding=1)


def xavier_init(module: nn.Module) -> None:
    """Uniform weights with variance 2 / (fan-in + fan-out), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


# --------------------------------------------------------------------------------------------------------------- SSD300
class VGGMaps(nn.Module):
    """Images (N, 3, 300, 300) -> six maps of 38, 19, 10, 5, 3 and 1 pixels with 512, 1024, 512, 256, 256, 256 channels.

    Smaller images leave nothing for the last two blocks, which do not pad. `width`: channels of the first convolution,
    64 in the paper and above; all others are multiples of it.
    """

    channels = (8, 16, 8, 4, 4, 4)
    """Of each map, in widths."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        vgg = list(features(tuple(tuple(n * width // 64 for n in stage) for stage in VGG16)))
        pool3, pool4, pool5 = (i for i, layer in enumerate(vgg) if isinstance(layer, nn.MaxPool2d) and i > 9)
        vgg[pool3] = nn.MaxPool2d(2, 2, ceil_mode=True)  # 75 -> 38 pixels, as in the paper's figure 2
        self.scale_weight = nn.Parameter(torch.full((8 * width,), 20.0))
        self.features = nn.Sequential(*vgg[:pool4])
        fc = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(8 * width, 16 * width, 3, padding=6, dilation=6), nn.ReLU(),  # fc6, every sixth of 19 x 19 pixels
            nn.Conv2d(16 * width, 16 * width, 1), nn.ReLU(),  # fc7
        )  # fmt: skip
        self.extra = nn.ModuleList(
            [
                nn.Sequential(*vgg[pool4:pool5], fc),
                extra_block(16 * width, 4 * width, stride=2, padding=1),
                extra_block(8 * width, 2 * width, stride=2, padding=1),
                extra_block(4 * width, 2 * width, stride=1, padding=0),
                extra_block(4 * width, 2 * width, stride=1, padding=0),
            ]
        )
        xavier_init(fc)
        xavier_init(self.extra[1:])  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.features(x)
        maps = [self.scale_weight.view(1, -1, 1, 1) * functional.normalize(x)]
        for block in self.extra:
            x = block(x)
            maps.append(x)
        return maps


def extra_block(channels: int, width: int, stride: int, padding: int) -> nn.Sequential:
    """1x1 to `width` channels, 3x3 to twice as many: the next coarser map."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 1), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride, padding), nn.ReLU(),
    )  # fmt: skip


SSD300_BOXES = DefaultBoxes(
    scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
    ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    steps=(8, 16, 32, 64, 100, 300),
)


def ssd300_vgg16(num_classes: int = 20, width: int = 64) -> SSD:
    head = Head([n * width for n in VGGMaps.channels], SSD300_BOXES.per_place, num_classes, conv3x3)
    xavier_init(head)
    return SSD(VGGMaps(width), head, SSD300_BOXES, Selection(low=0.01, iou=0.45, candidates=400, keep=200))


CAFFE = Preprocess((300, 300), mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255))
"""Stretched to 300x300, grey levels 0..255 less the channel means: what torchvision's weights expect."""


# ------------------------------------------------------------------------------------------------------------- ssd_tiny
def conv_bn(channels: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, BatchNorm, ReLU; keeps height and width at stride 1."""
    return nn.Sequential(
        nn.Conv2d(channels, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class TinyMaps(nn.Module):
    """Images (N, 3, H, W), H and W multiples of 16 (64 by default) -> maps of 1/4, 1/8 and 1/16 of the size."""

    channels = (32, 64, 64)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 16, stride=2), conv_bn(16, 32, stride=2), conv_bn(32, 32))
        self.middle = nn.Sequential(conv_bn(32, 64, stride=2), conv_bn(64, 64))
        self.deep = conv_bn(64, 64, stride=2)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        fine = self.stem(x)
        middle = self.middle(fine)
        return [fine, middle, self.deep(middle)]


TINY_BOXES = DefaultBoxes(scales=(0.15, 0.3, 0.55, 0.9), ratios=((2,), (2,), (2,)))


def ssd_tiny(num_classes: int = 3) -> SSD:
    head = Head(TinyMaps.channels, TINY_BOXES.per_place, num_classes, conv3x3)
    xavier_init(head)
    return SSD(TinyMaps(), head, TINY_BOXES, Selection(low=0.05, iou=0.45, candidates=100, keep=50))


SPECS = (
    ModelSpec("ssd300_vgg16", ssd300_vgg16, CAFFE, "Liu et al. 2016", num_classes=20, task="detection"),
    ModelSpec(
        "ssd_tiny",
        ssd_tiny,
        unit_range(64, 64),
        "after Liu et al. 2016",
        num_classes=3,
        task="detection",
        labels=("circle", "square", "triangle"),
        epochs=20,
    ),
)
