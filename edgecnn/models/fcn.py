"""Fully convolutional networks: a classifier that slides, its coarse answer brought back to the size of the picture.

    VGG-16's fully connected layers are 7x7 and 1x1 convolutions of the same weights, so any size goes in:

    image ── stages 1 2 3 ── pool3 ── stage 4 ── pool4 ── stage 5 ── pool5 ── fc6 7x7 ── fc7 1x1 ── score
                               │                   │                                                 │ x2
                               │                   └── score_pool4 ── crop ────────────────────────►(+)     FCN-16s: x16
                               │                                                                     │ x2
                               └── score_pool3 ── crop ────────────────────────────────────────────►(+)     FCN-8s:  x8

Up-sampling is an up-convolution that starts as bilinear interpolation. Which pixel of the input a score stands for is
a matter of arithmetic, and the network here is the authors' Caffe net to the pixel: the first convolution pads by 100,
pooling rounds up, fc6 does not pad, and each crop has the offset that lines the maps up (5, 9; then 19, 27 or 31).
Later forms pad fc6 instead and save the border's work, but shift the answer by some pixels.

fcn_resnet50 is torchvision's: a ResNet-50 whose last two stages keep their size (stride 1, dilation 2 and 4), a head of
two convolutions, bilinear interpolation to the size of the input. Parameter names are torchvision's; the auxiliary head
of its checkpoints is for training, is not deployed, and is left out when one is loaded.

Long, Shelhamer, Darrell 2015, Fully convolutional networks for semantic segmentation. Test: tests/test_fcn.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from edgecnn.models.resnet import Blocks, Bottleneck, ResNet
from edgecnn.models.vgg import VGG16, Stages, features
from edgecnn.models.vgg import init as vgg_init
from edgecnn.networks.spec import IMAGENET, ModelSpec
from runtimes.imaging.preprocess import Preprocess

BORDER = 100
"""Zeros around the image: fc6 sees 7x7 maps at stride 32, so the smallest image still gives it one."""
CROPS = {32: 19, 16: 27, 8: 31}
"""First row and column of the last up-sampled map that stands for the image, by its stride."""
POOL4_CROP, POOL3_CROP = 5, 9


def bilinear(factor: int) -> torch.Tensor:
    """float32 (2 factor, 2 factor): the kernel with which an up-convolution of stride `factor` interpolates.

    >>> bilinear(2)[0]
    tensor([0.0625, 0.1875, 0.1875, 0.0625])
    """
    at = torch.arange(2 * factor)
    ramp = 1 - (at - (factor - 0.5)).abs() / factor
    return ramp[:, None] * ramp[None, :]


def upscore(classes: int, factor: int) -> nn.ConvTranspose2d:
    """(N, classes, h, w) -> (N, classes, factor (h + 1), factor (w + 1)); starts as interpolation, class by class."""
    layer = nn.ConvTranspose2d(classes, classes, 2 * factor, stride=factor, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(classes), range(classes)] = bilinear(factor).to(layer.weight)
    return layer


def cropped(x: torch.Tensor, offset: int, like: torch.Tensor) -> torch.Tensor:
    """The part of `x` that begins at row and column `offset` and is as high and wide as `like`."""
    return x[:, :, offset : offset + like.shape[2], offset : offset + like.shape[3]]


class FCN(nn.Module):
    """Images (N, 3, H, W) of any size -> logits (N, num_classes, H, W). `stride` of the finest map used: 32, 16 or 8.

    `hidden`: channels of fc6 and fc7. `stages`: VGG-16's; narrower ones make a network for quick tests.
    """

    def __init__(self, stride: int, num_classes: int = 21, hidden: int = 4096, stages: Stages = VGG16) -> None:
        super().__init__()
        self.stride = stride
        self.features = features(stages)
        first = self.features[0]
        assert isinstance(first, nn.Conv2d)
        first.padding = (BORDER, BORDER)
        pools = {i: layer for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)}
        for pool in pools.values():
            pool.ceil_mode = True
        self.pool3, self.pool4 = list(pools)[2:4]
        self.fc6 = nn.Conv2d(stages[4][-1], hidden, 7)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.relu, self.dropout = nn.ReLU(), nn.Dropout2d()
        self.score_fr = nn.Conv2d(hidden, num_classes, 1)
        if stride < 32:
            self.upscore2, self.score_pool4 = upscore(num_classes, 2), nn.Conv2d(stages[3][-1], num_classes, 1)
        if stride < 16:
            self.upscore_pool4, self.score_pool3 = upscore(num_classes, 2), nn.Conv2d(stages[2][-1], num_classes, 1)
        self.upscore = upscore(num_classes, stride)
        vgg_init(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: dict[int, torch.Tensor] = {}
        y = x
        for i, layer in enumerate(self.features):
            y = kept[i] = layer(y)
        y = self.dropout(self.relu(self.fc6(y)))
        y = self.score_fr(self.dropout(self.relu(self.fc7(y))))
        if self.stride < 32:
            y = self.upscore2(y)
            y = y + cropped(self.score_pool4(kept[self.pool4]), POOL4_CROP, y)
        if self.stride < 16:
            y = self.upscore_pool4(y)
            y = y + cropped(self.score_pool3(kept[self.pool3]), POOL3_CROP, y)
        return cropped(self.upscore(y), CROPS[self.stride], x)


def convolutional(vgg: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a VGG-16's state dict gives an FCN: its features, and fc6 and fc7 from the fully connected layers.

    (hidden, 512 * 7 * 7) becomes (hidden, 512, 7, 7): flattening runs over channels first, then rows, then columns.
    """
    state = {key: value for key, value in vgg.items() if key.startswith("features.")}
    for name, place, kernel in (("fc6", "classifier.0", 7), ("fc7", "classifier.3", 1)):
        weight = vgg[f"{place}.weight"]
        state[f"{name}.weight"] = weight.reshape(len(weight), -1, kernel, kernel)
        state[f"{name}.bias"] = vgg[f"{place}.bias"]
    return state


# --------------------------------------------------------------------------------------------------------- fcn_resnet50
def dilate(stage: Sequence[nn.Module] | nn.Sequential, first: int, rest: int) -> None:
    """Take the stride out of `stage` and spread its 3x3 kernels instead: the same weights see the same pixels.

    The first block still works on the map of the stage before, whose dilation `first` it keeps.
    """
    for i, block in enumerate(stage):
        assert isinstance(block, Bottleneck)
        spread = first if i == 0 else rest
        block.conv2.stride, block.conv2.dilation, block.conv2.padding = (1, 1), (spread, spread), (spread, spread)
        for layer in _convolutions(block.downsample):
            layer.stride = (1, 1)


def _convolutions(module: nn.Module | None) -> Iterator[nn.Conv2d]:
    return (layer for layer in (module.modules() if module is not None else ()) if isinstance(layer, nn.Conv2d))


class Backbone(nn.Module):
    """Images (N, 3, H, W) -> (N, 32 width, H/8, W/8), sizes rounded up."""

    def __init__(self, blocks: Blocks, width: int) -> None:
        super().__init__()
        whole = ResNet(Bottleneck, blocks, width=width)
        self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = whole.layer1, whole.layer2, whole.layer3, whole.layer4
        dilate(self.layer3, 1, 2)
        dilate(self.layer4, 2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class FCNResNet50(nn.Module):
    """Images (N, 3, H, W) of any size -> logits (N, num_classes, H, W)."""

    def __init__(self, num_classes: int = 21, blocks: Blocks = (3, 4, 6, 3), width: int = 64) -> None:
        super().__init__()
        self.backbone = Backbone(blocks, width)
        self.classifier = nn.Sequential(
            nn.Conv2d(32 * width, 8 * width, 3, padding=1, bias=False), nn.BatchNorm2d(8 * width), nn.ReLU(),
            nn.Dropout(0.1), nn.Conv2d(8 * width, num_classes, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.classifier(self.backbone(x))
        return F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)

    def adapt_state_dict(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A published checkpoint without its auxiliary head."""
        return {key: value for key, value in state.items() if not key.startswith("aux_classifier.")}


VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The classes of PASCAL VOC in their order there; everything else is background."""


def whole_picture(side: int) -> Preprocess:
    """The whole picture stretched to side x side, in ImageNet's units: a mask of its middle would be half an answer."""
    return replace(IMAGENET, size=(side, side), resize=None)


PIXELS = whole_picture(256)
SPECS = (
    *(
        ModelSpec(f"fcn{stride}s_vgg16", partial(FCN, stride), PIXELS, "Long et al. 2015", 21, "segmentation", VOC)
        for stride in (32, 16, 8)
    ),
    ModelSpec(
        "fcn_resnet50", FCNResNet50, PIXELS, "Long et al. 2015, as torchvision builds it", 21, "segmentation", VOC
    ),
)
