"""One PyTorch layer, as it ran, as lines of the layer table. Test: tests/test_layer_table.py."""

from __future__ import annotations

import math

import torch
from torch import nn

from edgecnn.layers.local import LocalConv1d, LocalConv2d
from edgecnn.layers.tiled import TiledConv1d, TiledConv2d
from edgecnn.numbers.layer_table import Part, Sizes, local_part, pooled_to, recurrent_part

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
UPCONV = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MAX_POOL = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVERAGE_POOL = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE_MAX = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
ADAPTIVE_MEAN = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
LOCAL, TILED = (LocalConv1d, LocalConv2d), (TiledConv1d, TiledConv2d)


def parts_of(layer: nn.Module, path: str, given: torch.Tensor, made: torch.Tensor, macs: int) -> list[Part] | None:
    """`layer`, called `path`, turned `given` into `made`; [] for one that has no line, None for one unknown here."""
    output = tuple(made.shape)
    if isinstance(layer, CONV + UPCONV):
        kind = "conv" if isinstance(layer, CONV) else "upconv"
        window = tuple(layer.kernel_size)
        return [Part(kind, path, window, layer.in_channels, layer.out_channels, layer.groups, output, macs)]
    if isinstance(layer, nn.Linear):
        return [Part("fc", path, (), layer.in_features, layer.out_features, 1, output, macs)]
    if isinstance(layer, MAX_POOL + AVERAGE_POOL):
        size = layer.kernel_size
        window = (size,) * (made.dim() - 2) if isinstance(size, int) else tuple(size)
        return [Part("pool" if isinstance(layer, MAX_POOL) else "avgpool", path, window, output=output)]
    if isinstance(layer, ADAPTIVE_MAX + ADAPTIVE_MEAN):
        part = pooled_to(path, isinstance(layer, ADAPTIVE_MAX), tuple(given.shape), output)
        return [] if part is None else [part]
    if isinstance(layer, LOCAL + TILED):
        return [_unshared(layer, path, output, macs)]
    return _recurrent(layer, path, given, macs) if isinstance(layer, nn.RNNBase) else None


def _unshared(layer: nn.Module, path: str, output: Sizes, macs: int) -> Part:
    if isinstance(layer, LOCAL):
        positions, taps, outputs = layer.weight.shape
        inputs = taps // math.prod(layer.kernel)
        return local_part(path, positions, layer.kernel, inputs, outputs, output, macs)
    assert isinstance(layer, TILED)
    turns, outputs, inputs, *kernel = layer.weight.shape
    said = (f"{turns}x({'x'.join(map(str, (*kernel, inputs)))})x{outputs}", layer.weight.numel())
    return Part("tiled", path, tuple(kernel), inputs, outputs, 1, output, macs, said)


def _recurrent(layer: nn.RNNBase, path: str, given: torch.Tensor, macs: int) -> list[Part]:
    """A line for each layer of it, as ONNX has a node for each; their shares are those of their matrices."""
    directions = 2 if layer.bidirectional else 1
    steps, batch = given.shape[:2] if given.dim() == 3 else (given.shape[0], 1)
    steps, batch = (batch, steps) if layer.batch_first and given.dim() == 3 else (steps, batch)
    state = layer.proj_size or layer.hidden_size
    kind = {"RNN_TANH": "rnn", "RNN_RELU": "rnn"}.get(layer.mode, layer.mode.lower())
    sizes = [
        sum(value.numel() for name, value in layer.named_parameters() if f"_l{i}" in name and "weight" in name)
        for i in range(layer.num_layers)
    ]
    parts = []
    for i, size in enumerate(sizes):
        inputs, rows = layer.input_size if i == 0 else directions * state, getattr(layer, f"weight_ih_l{i}").shape[0]
        part = recurrent_part(kind, path, directions, rows, inputs, state, (batch, directions * state, steps),
                              macs * size // sum(sizes))  # fmt: skip
        parts.append(part)
    return parts
