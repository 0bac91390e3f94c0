"""Modules as timm makes them: what their configuration says is understood. The package is not needed."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from edgecnn.networks import of_timm
from edgecnn.networks.sources import resolve

CFG = {
    "input_size": (3, 40, 40),
    "crop_pct": 0.8,
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
    "num_classes": 1000,
}


class Pool(nn.Module):
    def __init__(self, pool_type: str) -> None:
        super().__init__()
        self.pool_type = pool_type

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if self.pool_type else x


class ResNet(nn.Module):
    """As theirs are: the configuration of the weights, and how many classes there are now."""

    __module__ = "timm.models.resnet"

    def __init__(self, num_classes: int = 4, in_chans: int = 3, pool_type: str = "avg", **cfg: Any) -> None:
        super().__init__()
        self.num_classes, self.pretrained_cfg = num_classes, {**CFG, **cfg}
        self.conv, self.pool = nn.Conv2d(in_chans, num_classes or 16, 3, 2), Pool(pool_type)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.conv(x))


class Pair(ResNet):
    input_shapes: ClassVar = {"left": (3, 8, 8), "right": (3, 8, 8)}

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.pool(self.conv(left + right))


class Foreign(nn.Sequential):
    pretrained_cfg = CFG


def test_the_configuration_says_size_and_pixels() -> None:
    network = resolve(ResNet())
    assert (network.task, network.classes, network.input_shape) == ("classification", 4, (3, 40, 40))
    assert network.preprocess is not None
    assert (network.preprocess.resize, network.preprocess.mean) == (50, (0.5, 0.5, 0.5))
    assert network.preprocess.interpolation == "bicubic"
    assert network.assumption() == ""


def test_pixels_of_other_channels_are_assumed() -> None:
    network = resolve(ResNet(in_chans=1))
    assert network.input_shape == (1, 40, 40)
    assert "does not say its preprocessing" in network.assumption()


@pytest.mark.parametrize(
    ("made", "task"),
    [
        ({"num_classes": 0}, "embedding"),
        ({"num_classes": 0, "pool_type": ""}, None),
        ({"num_classes": 1}, None),
    ],
)
def test_without_classes_it_embeds(made: dict[str, Any], task: str | None) -> None:
    assert of_timm.said(ResNet(**made)).get("task") == task


def test_the_size_of_the_user_counts() -> None:
    network = resolve(ResNet(), input_shape="3,24,24")
    assert network.preprocess is not None
    assert (network.input_shape, network.preprocess.mean) == ((3, 24, 24), (0.5, 0.5, 0.5))


def test_several_inputs_are_fed_as_they_are() -> None:
    network = resolve(Pair())
    assert network.several is not None
    assert network.preprocess is None


@pytest.mark.parametrize(
    "module",
    [Foreign(nn.Conv2d(3, 3, 3)), ResNet(input_size=None), ResNet(mean=None), ResNet(std=(0.0, 0.0, 0.0))],
)
def test_what_is_no_such_configuration_says_nothing(module: nn.Module) -> None:
    assert of_timm.said(module) == {}
