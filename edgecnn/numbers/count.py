"""Parameters and multiply-adds of a PyTorch module, counted layer by layer while one image runs through it.

    convolution       output elements x (input channels / groups) x kernel elements
    transposed        input elements x (output channels / groups) x kernel elements
    fully connected   output elements x input features
    any other         output elements x its attribute `taps`, where it has one: edgecnn/layers

One fused multiply-add is one MAC. Biases, norms, activations, pooling and additions count nothing, as is usual; what a
network does through functionals is not seen. Oracle in tests/test_count.py: torch.utils.flop_counter (2 FLOPs = 1 MAC).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from exporters.torch_export import Shapes, applied, zeros


@dataclass(frozen=True)
class Count:
    """`params`: trainable scalars (running statistics are not parameters). `macs`: multiply-adds for one image."""

    params: int
    macs: int


def layer_macs(layer: nn.Module, given: torch.Tensor, made: torch.Tensor) -> int:
    """Multiply-adds of one call of `layer` that turned `given` (N, ...) into `made` (N, ...)."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return made.numel() * (layer.in_channels // layer.groups) * math.prod(layer.kernel_size)
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return given.numel() * (layer.out_channels // layer.groups) * math.prod(layer.kernel_size)
    if isinstance(layer, nn.Linear):
        return made.numel() * layer.in_features
    taps = getattr(layer, "taps", 0)
    return made.numel() * taps if isinstance(taps, int) else 0


def count(module: nn.Module, input_shape: Shapes) -> Count:
    """Parameters of `module` and its multiply-adds for one sample, as an image (C, H, W); leaves it as it was."""
    macs = 0

    def add(layer: nn.Module, args: tuple[Any, ...], made: Any) -> None:
        nonlocal macs
        macs += layer_macs(layer, args[0], made)

    leaves = [layer for layer in module.modules() if not any(True for _ in layer.children())]
    hooks = [layer.register_forward_hook(add) for layer in leaves if _counts(layer)]
    training = module.training
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            applied(module.eval(), {name: value.to(device) for name, value in zeros(input_shape).items()})
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return Count(sum(p.numel() for p in module.parameters()), macs)


def _counts(layer: nn.Module) -> bool:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
    return isinstance(layer, kinds) or hasattr(layer, "taps")
