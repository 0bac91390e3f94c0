"""Quantization-aware fine-tuning: train on with the grids of the int8 graph in the forward pass, for users with labels.

    forward    w^ = fake_quant(w)     x^ = fake_quant(x)     y = w^ * x^ + b      fake_quant(v) = s clamp(round(v / s))
    backward   d fake_quant(v) / dv = 1 inside the range, 0 outside               (straight-through estimator)

The grids are those of `exporters.quantization.affine`: int8 weights, symmetric, one scale per output channel, read
off the weights in every step; uint8 inputs of every convolution and fully connected layer, whose ends follow the
batches as an exponential moving average. BatchNorms keep the statistics that they came with, as in the deployed
graph, where they are folded. They need not be folded here: a folded weight is the raw one times a factor per output
channel, its grid is the raw grid times the same factor, and so the integers are the same. What remains is an ordinary
module with other weights, which `edgecnn quantize` rounds as it was trained to be. Not simulated: the grids of Add,
Concat and pools, and of transposed convolutions; a BatchNorm in front of a convolution that is folded forward moves
that grid; a layer that is called several times in a pass has one input grid here, and one per call in the graph.
Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3; Bengio et al. 2013, "Estimating or Propagating Gradients Through
Stochastic Neurons".
Test: tests/test_qat.py (oracles: onnx grids, torch autograd, the integer graph in ONNX Runtime).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize

from exporters.quantization.affine import activation_grid
from runtimes.base import BadInput

DECAY = 0.99
"""Of the moving average of a batch's ends: a hundred batches of memory."""
COMPUTE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)

R = TypeVar("R")


def fine_tune(module: nn.Module, batches: Iterable[torch.Tensor], fit: Callable[[nn.Module], R]) -> R:
    """Train `module` in place by `fit`, with int8 simulated; ranges start from `batches` (n, C, ...).

    Returns what `fit` returns. The module has float weights and its own structure again afterwards, also when `fit`
    raises. Raises `BadInput` for no batches and for a module without a convolution or fully connected layer.
    """
    with simulated_int8(module, batches):
        return fit(module)


@contextlib.contextmanager
def simulated_int8(module: nn.Module, batches: Iterable[torch.Tensor]) -> Iterator[None]:
    """Inside, `module` computes, and learns, as its int8 graph would; its BatchNorms stay in evaluation mode."""
    layers = [m for m in module.modules() if isinstance(m, COMPUTE)]
    if not layers:
        raise BadInput("quantization-aware training: the network has no convolution and no fully connected layer")
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_weight_on_grid(layer))
        inputs = [stack.enter_context(_input_on_grid(layer)) for layer in layers]
        stack.enter_context(_frozen_norms(module))
        _warm_up(module, batches)
        for grid in inputs:
            grid.active = True
        yield


def _warm_up(module: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Show the float network `batches`, so that every input grid has ends to start from."""
    training = module.training
    module.eval()
    count = 0
    with torch.no_grad():
        for batch in batches:
            module(batch)
            count += 1
    module.train(training)
    if not count:
        raise BadInput("quantization-aware training: no images to start the ranges from; give at least one batch")


# -------------------------------------------------------------------------------------------------------- the grids
class WeightGrid(nn.Module):
    """Weight (O, ...) -> the same on its int8 grid, one symmetric scale per output channel."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        peak = weight.detach().abs().flatten(1).amax(dim=1)
        scale = torch.where(peak > torch.finfo(torch.float32).tiny, peak / 127.0, torch.ones_like(peak))
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -127, 127)


class InputGrid:
    """A forward-pre-hook that puts a layer's input on its uint8 grid, whose ends follow the batches.

    Until `active` it only watches: the ends are the extremes of all that passed. Then they move with the average.
    """

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.active = False

    def __call__(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0]
        low, high = (float(end) for end in torch.aminmax(x.detach()))
        if not self.active:
            self.low, self.high = min(self.low, low), max(self.high, high)
            return args
        if layer.training:
            self.low = DECAY * self.low + (1 - DECAY) * min(low, 0.0)
            self.high = DECAY * self.high + (1 - DECAY) * max(high, 0.0)
        if not all(map(math.isfinite, (low, high, self.low, self.high))):
            return args  # it has diverged, and the loss says so
        grid = activation_grid(self.low, self.high)
        on_grid = torch.fake_quantize_per_tensor_affine(x, float(grid.scale), int(grid.zero_point), 0, 255)
        return (on_grid, *args[1:])


@contextlib.contextmanager
def _weight_on_grid(layer: nn.Module) -> Iterator[None]:
    order = list(layer._parameters)
    parametrize.register_parametrization(layer, "weight", WeightGrid())
    try:
        yield
    finally:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        for name in order:  # it comes back behind the bias, and a state dict has an order
            layer._parameters[name] = layer._parameters.pop(name)


@contextlib.contextmanager
def _input_on_grid(layer: nn.Module) -> Iterator[InputGrid]:
    grid = InputGrid()
    handle = layer.register_forward_pre_hook(grid)
    try:
        yield grid
    finally:
        handle.remove()


@contextlib.contextmanager
def _frozen_norms(module: nn.Module) -> Iterator[None]:
    """BatchNorms that stay in evaluation mode whatever `module.train()` says: a trainer calls it."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.training for norm in norms]
    for norm in norms:
        norm.eval()
        norm.train = lambda mode=True, norm=norm: norm  # type: ignore[method-assign, misc]
    try:
        yield
    finally:
        for norm, training in zip(norms, before, strict=True):
            del norm.train
            norm.train(training)
