"""A PyTorch network that is ready to export: the module, what it takes, what it answers, and what nobody said of that.

Test: tests/test_sources.py, tests/test_forward.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from edgecnn.data.fingerprint import DataSet
from edgecnn.data.samples import Ready
from edgecnn.data.textures import textures
from edgecnn.networks.assumptions import NOTHING, Assumed, Size, sentence
from edgecnn.networks.spec import Shape, planes_of, preprocess_for
from exporters.torch_export import Shapes, applied
from runtimes.base import Array, Tensors
from runtimes.execution.feeds import TensorInfo
from runtimes.imaging.preprocess import Preprocess, layout_of
from runtimes.imaging.several import Several

INPUT_NAME = "input"
"""What the only input of a network is called in its graph."""


@dataclass(frozen=True)
class Network:
    """A module in evaluation mode and what there is to know about it.

    `weights`: the file they came from, or None. `classes`: how many it answers with; None for any other answer.
    `assumed`: what nobody said of its input. `source`: how the user called it. `input_shape`: of its one input, or of
    the first picture among `several`.
    """

    name: str
    module: nn.Module
    input_shape: Shape
    preprocess: Preprocess | None
    task: str = "classification"
    labels: tuple[str, ...] = ()
    weights: str | None = None
    seeded: bool = False
    classes: int | None = None
    assumed: Assumed = NOTHING
    source: str = ""
    maps: int | None = None
    """How many channels its one answer has, where that is as large as the picture and no task is said."""
    ending: str = ""
    """The operator that its one answer comes out of, where that says what it means."""
    tasked: bool = True
    """Its task is known, and not assumed."""
    several: Several | None = None
    """What it is fed, where it has several inputs."""
    said: str = ""
    """The line about outputs that were left out, or a task that is not used."""
    trained_on: tuple[DataSet, ...] = ()
    """What its weights say that they have learned from."""
    prefix: str = ""
    """What stood before every key of the file of weights, and was left out."""

    @property
    def ready(self) -> Ready | Several:
        """How a sample is made ready for it; its shape alone, or that of each input, where it takes no pictures."""
        return self.several or self.preprocess or self.input_shape

    @property
    def channels_last(self) -> bool:
        """Whether it takes (H, W, C), as its preprocessing says, else as its sizes do."""
        said = self.preprocess
        return layout_of(self.input_shape) == "NHWC" if said is None else said.channels_last

    @property
    def planes(self) -> Shape:
        """(C, H, W) of its picture, wherever it has its channels; of anything else the shape as it is."""
        return planes_of(self.input_shape, self.channels_last)

    @property
    def values(self) -> str:
        """Where its weights are from, as a bundle says it: a file, a seed, or the code that made it."""
        if self.weights is not None:
            return os.path.basename(self.weights)
        return "random, seed 0" if self.seeded else f"those that {os.path.basename(self.source or self.name)} has"

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        one = (TensorInfo(INPUT_NAME, "float32", ("batch", *self.input_shape)),)
        return one if self.several is None else self.several.inputs

    @property
    def shapes(self) -> Shapes:
        """Of a sample of its one input, or of each of several by name."""
        return self.input_shape if self.several is None else self.several.shapes

    def made(self, count: int, rng: np.random.Generator) -> dict[str, Array]:
        """A batch of `count` seeded samples for each input: textures for pictures, else noise."""
        if self.several is None:
            return {INPUT_NAME: textures(self.preprocess or self.input_shape, count, rng)}
        shapes = self.several.shapes.items()
        return {name: textures(preprocess_for(shape) or shape, count, rng) for name, shape in shapes}

    def answer(self, feeds: Tensors) -> Any:
        """What the module gives for a batch, without gradients."""
        given = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
        with torch.no_grad():
            return pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, applied(self.module, given))

    def assumption(self, seen: Size | None = None) -> str:
        """The line about what was assumed; `seen` is the size of all its pictures. Empty where all was said."""
        return sentence(self.source or self.name, self.planes, self.preprocess, self.assumed, seen)
