"""A strided convolution on few channels is a stride-1 convolution on the s x s pixels of a block as channels.

    y[i] = sum_u w[u] x[s i + u - p],   u - p = s e + b,  0 <= b < s   =   sum_e sum_b w[s e + b + p] X[i + e, b]

with X[j, b] = x[s j + b] (SpaceToDepth, channels ordered (row, column, channel)): taps e from floor(-p / s) to
floor((k - 1 - p) / s), weights zero where s e + b + p is no tap. 7x7 stride 2 on 3 channels becomes 4x4 stride 1 on
12. An image whose height or width is no multiple of s gets zeros below and to the right first, as a convolution pads.
Acts on stride 2 or 4, at most 4 channels and a kernel larger than the stride. Refused: groups, dilation, different
strides, sizes not fixed. Bound: the same products, added up in another order. Source: Ying et al. 2018, "Image
Classification at Supercomputer Scale", section 3.3. Test: tests/test_space_to_depth.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import Chain, Conv, convolutions, reshaped
from exporters.sizes import Sizes, fixed_sizes
from runtimes.base import Array

MOST_CHANNELS = 4
STRIDES = (2, 4)


def taps(kernel: int, stride: int, pad: int) -> tuple[int, int]:
    """First and last block (e) that a filter of `kernel` taps reads."""
    return -pad // stride, (kernel - 1 - pad) // stride


def in_blocks(weight: Array, stride: int, pads: tuple[int, int]) -> Array:
    """Weights (O, C, kh, kw) of stride s as (O, s s C, th, tw) of stride 1; `pads` are those in front (top, left)."""
    outputs, channels, *kernel = weight.shape
    (top, bottom), (left, right) = (taps(k, stride, p) for k, p in zip(kernel, pads, strict=True))
    found = np.zeros((outputs, stride, stride, channels, bottom - top + 1, right - left + 1), weight.dtype)
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            (row, y), (column, x) = divmod(u - pads[0], stride), divmod(v - pads[1], stride)
            found[:, y, x, :, row - top, column - left] = weight[:, :, u, v]
    return found.reshape(outputs, -1, *found.shape[4:])


def run(model: onnx.ModelProto) -> PassResult:
    """Rewrite every strided convolution with few input channels; those that cannot be are in `kept`."""
    graph = Graph(model)
    sizes = fixed_sizes(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for node, conv in convolutions(graph):
        if isinstance(conv, Conv) and (conv.inputs > MOST_CHANNELS or conv.strides == (1, 1)):
            continue
        seen, made = (sizes.get(tensor, ()) for tensor in (node.input[0], node.output[0]))
        reason = conv if isinstance(conv, str) else _why_not(conv, seen, made)
        if isinstance(conv, str) or reason:
            kept.append(Kept(label(node), reason))
        else:
            _write(graph, node, conv, seen, made)
            changes.append(Change(label(node), f"stride {conv.strides[0]} is SpaceToDepth", conv.bound))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _why_not(conv: Conv, given: Sizes, made: Sizes) -> str:
    if conv.group != 1 or conv.dilations != (1, 1):
        return "it has groups or is dilated"
    stride = conv.strides[0]
    if conv.strides[1] != stride or stride not in STRIDES or min(conv.kernel) <= stride:
        return f"a {conv.kernel[0]}x{conv.kernel[1]} kernel with strides {conv.strides} gains nothing"
    if len(given) != 4 or len(made) != 4 or None in given[1:] or None in made[1:]:
        return "its channels, height and width are not fixed"
    return ""


def _write(graph: Graph, node: onnx.NodeProto, conv: Conv, given: Sizes, made: Sizes) -> None:
    stride = conv.strides[0]
    channels, *image = (int(v or 0) for v in given[1:])
    blocks = [-(-size // stride) for size in image]
    firsts, lasts = zip(*(taps(k, stride, p) for k, p in zip(conv.kernel, conv.pads, strict=False)), strict=True)
    # block i + e for the last output i = made - 1 and the last tap: as many blocks are missing behind the image
    missing = [int(m or 0) - 1 + last - (b - 1) for m, last, b in zip(made[2:], lasts, blocks, strict=True)]
    chain = Chain(graph, node)
    x = _padded(chain, node.input[0], [b * stride - size for b, size in zip(blocks, image, strict=True)])
    x = chain.reshape(chain.nhwc(x), [-1, stride, blocks[1], stride * channels])  # (N blocks, dy, blocks, dx channels)
    x = chain.node("Transpose", [x], perm=[0, 2, 1, 3])
    x = chain.nchw(chain.reshape(x, [-1, blocks[0], blocks[1], stride * stride * channels]))
    x = _cropped(chain, x, missing)
    pads = (-firsts[0], -firsts[1], max(missing[0], 0), max(missing[1], 0))
    weight = in_blocks(conv.weight, stride, (conv.pads[0], conv.pads[1]))
    chain.conv(x, reshaped(conv, weight, conv.bias, strides=(1, 1), pads=pads), node.output[0])
    chain.write([node])


def _padded(chain: Chain, x: str, extra: list[int]) -> str:
    """`x` (N, C, H, W) with `extra` rows below and columns to the right, all zero."""
    if not any(extra):
        return x
    return chain.node("Pad", [x, chain.constant(np.asarray([0, 0, 0, 0, 0, 0, *extra], np.int64), "pads")])


def _cropped(chain: Chain, x: str, missing: list[int]) -> str:
    """`x` without the blocks behind the last that is read; only a convolution that leaves out pixels has them."""
    if min(missing) >= 0:
        return x
    ends = [np.iinfo(np.int64).max if m >= 0 else m for m in missing]
    bounds = [chain.constant(np.asarray(v, np.int64), "crop") for v in ([0, 0], ends, [2, 3])]
    return chain.node("Slice", [x, *bounds])
