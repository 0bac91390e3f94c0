"""One PyTorch layer, as it ran, as a line of the layer table. Test: tests/test_layer_table.py."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.numbers.count import layer_macs
from edgecnn.numbers.layer_table import Part, Sizes

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
UPCONV = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MAX_POOL = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVERAGE_POOL = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE_MAX = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
ADAPTIVE_MEAN = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def part_of(layer: nn.Module, path: str, given: torch.Tensor, made: torch.Tensor) -> Part | None:
    """`layer`, called `path`, turned `given` into `made`; None for a layer that has no line."""
    output, macs = tuple(made.shape), layer_macs(layer, given, made)
    if isinstance(layer, CONV + UPCONV):
        kind = "conv" if isinstance(layer, CONV) else "upconv"
        window = tuple(layer.kernel_size)
        return Part(kind, path, window, layer.in_channels, layer.out_channels, layer.groups, output, macs)
    if isinstance(layer, nn.Linear):
        return Part("fc", path, (), layer.in_features, layer.out_features, 1, output, macs)
    if isinstance(layer, MAX_POOL + AVERAGE_POOL):
        size = layer.kernel_size
        window = (size,) * (made.dim() - 2) if isinstance(size, int) else tuple(size)
        return Part("pool" if isinstance(layer, MAX_POOL) else "avgpool", path, window, output=output)
    if isinstance(layer, ADAPTIVE_MAX + ADAPTIVE_MEAN):
        return _adaptive(isinstance(layer, ADAPTIVE_MAX), path, tuple(given.shape), output)
    return None


def _adaptive(maximum: bool, path: str, given: Sizes, output: Sizes) -> Part | None:
    """Pooling to a size: no line where it changes nothing, or where its windows differ from place to place."""
    if given == output or any(a % b for a, b in zip(given[2:], output[2:], strict=True)):
        return None
    if not maximum and all(n == 1 for n in output[2:]):
        return Part("globalpool", path, output=output)
    window = tuple(a // b for a, b in zip(given[2:], output[2:], strict=True))
    return Part("pool" if maximum else "avgpool", path, window, output=output)
