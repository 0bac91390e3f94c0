"""A ConvTranspose is a convolution that makes s x s pixels at once, then a change of layout; int8 has the former only.

    y[t] = sum over s j + a = t + p of x[j] w[a]        (one axis; stride s, kernel k, pads p, K = ceil(k / s) taps)
    t = s m + r,  t + p = s (m + c) + r',  c = (r + p) // s:
    y[s m + r] = sum_d x[m + c - d] w[s d + r']         d = 0 .. K - 1, w zero beyond k

For each of the s phases r that is a stride-1 convolution with taps m + c_min - (K - 1) .. m + c_max. The phases of
both axes become output channels (row phase, column phase, channel), which NHWC Reshape and Transpose put in place;
kernel = stride needs one tap. An output that is no multiple of s is cropped. An activation behind goes before the
pixels move. Refused: groups, dilation, sizes not fixed, padding that reaches beyond the kernel. Bound: the same
products are added up in another order. Source: Shi et al. 2016, "Is the deconvolution layer the same as a
convolutional layer?". Test: tests/test_transposed_conv.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, label
from exporters.searching.blocks import Chain, Conv, Pads, activation_behind, nodes_of, read_conv
from exporters.sizes import Sizes, fixed_sizes
from runtimes.base import Array


@dataclass(frozen=True)
class Axis:
    """One axis of a transposed convolution: `phases` filters of the first kernel axis, pads, blocks and length out."""

    kernel: int
    stride: int
    begin: int
    size: int
    out: int

    @property
    def taps(self) -> int:
        return -(-self.kernel // self.stride)

    @property
    def shifts(self) -> tuple[int, int]:
        """Smallest and largest c = (r + p) // s."""
        return self.begin // self.stride, (self.stride - 1 + self.begin) // self.stride

    @property
    def blocks(self) -> int:
        return -(-self.out // self.stride)

    @property
    def pads(self) -> tuple[int, int]:
        low, high = self.shifts
        return self.taps - 1 - low, high + self.blocks - self.size


def split_phases(weight: Array, axis: Axis, dim: int) -> Array:
    """`weight` with axis `dim` (k taps) replaced by two: (s phases, taps of the convolution), zero where none falls."""
    low, high = axis.shifts
    kernel = np.moveaxis(weight, dim, 0)
    found = np.zeros((axis.stride, axis.taps + high - low, *kernel.shape[1:]), weight.dtype)
    for r in range(axis.stride):
        c, phase = divmod(r + axis.begin, axis.stride)
        for d in range(axis.taps):
            tap = axis.stride * d + phase
            if tap < axis.kernel:  # x[m + c - d] is tap c - d + (K - 1) - c_min of the convolution
                found[r, c - d + axis.taps - 1 - low] = kernel[tap]
    return np.moveaxis(found, (0, 1), (dim, dim + 1))


def as_conv(weight: Array, rows: Axis, columns: Axis) -> Array:
    """Weights (I, O, kh, kw) of a ConvTranspose as those of a Conv: (sh sw O, I, taps, taps), outputs (dy, dx, O)."""
    phases = split_phases(split_phases(weight, columns, 3), rows, 2)  # (I, O, sh, th, sw, tw)
    taps = phases.shape[3], phases.shape[5]
    return np.ascontiguousarray(phases.transpose(2, 4, 1, 0, 3, 5).reshape(-1, weight.shape[0], *taps))


def run(model: onnx.ModelProto) -> PassResult:
    """Replace every ConvTranspose that meets the conditions; the others are in `kept` with the reason."""
    graph = Graph(model)
    names = nodes_of(graph, "ConvTranspose")
    sizes = fixed_sizes(model) if names else {}
    changes: list[Change] = []
    kept: list[Kept] = []
    for name in names:
        node = graph.producer[name]
        conv = read_conv(graph, node)
        axes = conv if isinstance(conv, str) else _axes(node, conv, sizes)
        if isinstance(conv, str) or isinstance(axes, str):
            kept.append(Kept(label(node), str(axes)))
        else:
            _write(graph, node, conv, *axes)
            changes.append(Change(label(node), "ConvTranspose is a Conv and a change of layout", conv.bound))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _axes(node: onnx.NodeProto, conv: Conv, sizes: dict[str, Sizes]) -> tuple[Axis, Axis] | str:
    given, made = sizes.get(node.input[0], ()), sizes.get(node.output[0], ())
    if conv.group != 1 or conv.dilations != (1, 1):
        return f"it has {conv.group} groups and dilation {conv.dilations[0]}; one of each is needed"
    if "output_shape" in attributes(node):
        return "its padding follows from an output shape"
    axes = []
    for i in (0, 1):
        size, out = given[2 + i] if len(given) == 4 else None, made[2 + i] if len(made) == 4 else None
        if size is None or out is None:
            return "its height and width are not fixed"
        axis = Axis(conv.kernel[i], conv.strides[i], conv.pads[i], size, out)
        if min(axis.pads) < 0:
            return "its padding reaches beyond its kernel"
        axes.append(axis)
    return axes[0], axes[1]


def _write(graph: Graph, node: onnx.NodeProto, conv: Conv, rows: Axis, columns: Axis) -> None:
    sh, sw = conv.strides
    channels = int(conv.weight.shape[1])
    pads: Pads = (rows.pads[0], columns.pads[0], rows.pads[1], columns.pads[1])
    act = activation_behind(graph, node.output[0])
    out = (act or node).output[0]
    chain = Chain(graph, node)
    x = chain.conv(node.input[0], Conv(as_conv(conv.weight, rows, columns), conv.tiled(sh * sw), pads=pads))
    x = chain.nhwc(chain.activation(x, act))
    x = chain.reshape(x, [-1, columns.blocks, sh, sw * channels])  # (N blocks, blocks, dy, dx channels)
    x = chain.node("Transpose", [x], perm=[0, 2, 1, 3])
    x = chain.reshape(x, [-1, sh * rows.blocks, sw * columns.blocks, channels])
    if (rows.out, columns.out) != (sh * rows.blocks, sw * columns.blocks):
        ends = [chain.constant(np.asarray(v, np.int64), "crop") for v in ([0, 0], [rows.out, columns.out], [1, 2])]
        x = chain.node("Slice", [x, *ends])
    chain.nchw(x, out)
    chain.write([node] if act is None else [node, act])
