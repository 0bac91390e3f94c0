"""What the zoo knows about a network: how to build it, what it eats, what it answers, and the paper it comes from.

A file in `edgecnn/models` ends in a tuple of these records (its variants as data). Nothing here imports torch, so that
the command line can talk about networks without paying for it. Test: tests/test_models.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtimes.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]
"""(channels, height, width) of one input image."""

IMAGENET = Preprocess(size=(224, 224), resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Shorter side to 256 pixels, centre crop of 224, channel statistics of ImageNet: what torchvision's weights expect."""


def unit_range(height: int, width: int, channels: int = 3) -> Preprocess:
    """Resize to height x width and map grey levels 0..255 to -1..1: the neutral choice for a network trained here."""
    return Preprocess(size=(height, width), channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)


@dataclass(frozen=True)
class ModelSpec:
    """One network of the zoo. `build(num_classes=n)` returns it with fresh weights drawn from torch's generator."""

    name: str
    build: Callable[..., nn.Module]
    preprocess: Preprocess
    paper: str
    num_classes: int
    task: str = "classification"
    labels: tuple[str, ...] = ()

    @property
    def input_shape(self) -> Shape:
        return (self.preprocess.channels, *self.preprocess.size)
