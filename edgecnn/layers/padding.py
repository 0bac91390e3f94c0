"""Convolution (correlation, as every network library means it) with padding that is named by what it gives.

    y[i] = b + sum_j x[i s - p + d j] w[j]              x is zero outside; d j for dilation, K = d (k - 1) + 1

    valid   p = 0                                       floor((n - K) / s) + 1 outputs: only where the kernel fits
    same    p + q = max((ceil(n/s) - 1) s + K - n, 0)   ceil(n / s): q, the end, takes the odd one; same_lower: p does
    full    p = q = K - 1                               floor((n + K - 2) / s) + 1: every pixel is seen k times

For an even kernel p and q differ; with a stride they follow from the size of the input, in the graph where it is open.
`same` is TensorFlow's and ONNX's SAME_UPPER; torch has it at stride 1 only. Where p = q the export is one Conv; the
others are a Pad in front of it, which simplifying makes part of the Conv.

Dumoulin, Visin 2016, A guide to convolution arithmetic; ONNX operator Conv, auto_pad. Test: tests/test_layers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from runtimes.base import BadInput

Mode = Literal["valid", "same", "same_lower", "full"]
MODES = ("valid", "same", "same_lower", "full")


def pads(size: int, kernel: int, stride: int, mode: Mode) -> tuple[int, int]:
    """Zeros before and after an axis of `size` pixels for a kernel that covers `kernel` of them; raises `BadInput`.

    >>> pads(5, 2, 1, "same"), pads(5, 2, 1, "same_lower"), pads(7, 4, 3, "same"), pads(5, 3, 1, "full")
    ((0, 1), (1, 0), (1, 2), (2, 2))
    """
    if mode not in MODES:
        raise BadInput(f"padding {mode}: is unknown; give one of {', '.join(MODES)}")
    if mode == "valid":
        return 0, 0
    if mode == "full":
        return kernel - 1, kernel - 1
    outputs = (size + stride - 1) // stride
    total: int = torch.sym_max((outputs - 1) * stride + kernel - size, 0)  # type: ignore[no-untyped-call]  # open size
    small, large = total // 2, total - total // 2
    return (small, large) if mode == "same" else (large, small)


def checked(mode: Mode) -> Mode:
    pads(1, 1, 1, mode)
    return mode


def covered(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Pixels from the first to the last tap, along every axis.

    >>> covered((3, 2), (1, 4))
    (3, 5)
    """
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))


def slide(layer: nn.modules.conv._ConvNd, x: torch.Tensor, weight: torch.Tensor, mode: Mode) -> torch.Tensor:
    """`x` (N, C, sizes...) correlated with `weight` (O, C/groups, kernel...) as `layer` says, padded by `mode`."""
    conv: Callable[..., torch.Tensor] = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
    reach = covered(layer.kernel_size, layer.dilation)
    sides = [pads(*axis, mode) for axis in zip(x.shape[2:], reach, layer.stride, strict=True)]
    if all(type(before) is int and before == after for before, after in sides):
        amount = tuple(before for before, _ in sides)
    else:
        x = F.pad(x, [n for side in reversed(sides) for n in side])  # F.pad counts the axes from the last
        amount = (0,) * len(sides)
    return conv(x, weight, layer.bias, layer.stride, amount, layer.dilation, layer.groups)


class _Slides(nn.modules.conv._ConvNd):
    """What they share: in front of one of torch's own in the order of bases. Raises `BadInput` for a `padding` that is
    unknown and for a `padding_mode` that is not zeros.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Mode = "same",
        **rest: Any,
    ) -> None:
        filled = rest.get("padding_mode", "zeros")
        if filled != "zeros":
            raise BadInput(f"padding_mode {filled}: these layers pad with zeros; take torch's own, or pad in front")
        super().__init__(in_channels, out_channels, kernel_size, stride, **rest)
        self.mode = checked(padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return slide(self, x, self.weight, self.mode)


class Conv1d(_Slides, nn.Conv1d):
    """`nn.Conv1d` but for `padding`: valid, same, same_lower or full. `rest`: dilation, groups, bias."""


class Conv2d(_Slides, nn.Conv2d):
    """`nn.Conv2d` but for `padding`: valid, same, same_lower or full. `rest`: dilation, groups, bias."""


class Conv3d(_Slides, nn.Conv3d):
    """`nn.Conv3d` but for `padding`: valid, same, same_lower or full. `rest`: dilation, groups, bias."""
