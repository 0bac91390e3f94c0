"""Neighbouring pixels of a row become channels of the first convolution: blocks of f columns take the place of pixels.

    one row, f = 4:   rrrr|rrrr ...  gggg|gggg ...  bbbb|bbbb ...   ->   rrrr gggg bbbb | rrrr gggg bbbb | ...
    output column i = q b + j, q = f / s, reads input columns s i + v - p = f b + (s j + v - p), v = 0 .. k - 1

Block b of the output holds q columns. Column j of it is a filter over whole blocks: tap v falls into block
e = (s j + v - p) // f, place (s j + v - p) % f. So q O outputs on C f inputs, with taps e_min .. e_max and stride 1 in
the row, compute the same products; the other weights are zero. The output's (q, O) channels are its columns again, by a
Reshape of the channels-last output that moves nothing. The input is laid out in pieces of f bytes, for half of what
ONNX Runtime spends on laying it out in single ones. Its integer convolution wants input channels in fours and pays for
each tap besides its products. An image whose width is no multiple of f gets columns of zeros on the right, as a
convolution pads; columns that come out besides those asked for are sliced off. Acts on convolutions of at most 4 input
channels. Refused: f no multiple of the stride, groups, dilation, sizes not fixed. Bound: the same products, added up in
another order. Test: tests/test_fold_columns.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import Chain, Conv, activation_behind, convolutions, reshaped
from exporters.sizes import Sizes, fixed_sizes
from runtimes.base import Array

FOLD = 4
MOST_CHANNELS = 4


def folded(weight: Array, stride: int, pad: int, fold: int) -> tuple[Array, int, int]:
    """Weights (O, C, kh, kw) over single columns as (q O, C f, kh, taps) over blocks of `fold`, and (e_min, e_max)."""
    outputs, channels, rows, width = weight.shape
    q = fold // stride
    low, high = -pad // fold, (stride * (q - 1) + width - 1 - pad) // fold
    found = np.zeros((q, outputs, channels, fold, rows, high - low + 1), weight.dtype)
    for j in range(q):
        for v in range(width):
            block, place = divmod(stride * j + v - pad, fold)
            found[j, :, :, place, :, block - low] = weight[:, :, :, v]
    return found.reshape(q * outputs, channels * fold, rows, -1), low, high


def run(model: onnx.ModelProto) -> PassResult:
    """Fold the columns of every convolution with few input channels; those that cannot be are in `kept`."""
    graph = Graph(model)
    sizes = fixed_sizes(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for node, conv in convolutions(graph):
        if isinstance(conv, Conv) and conv.inputs > MOST_CHANNELS:
            continue
        seen, made = (sizes.get(tensor, ()) for tensor in (node.input[0], node.output[0]))
        reason = conv if isinstance(conv, str) else _why_not(conv, seen, made)
        if isinstance(conv, str) or reason:
            kept.append(Kept(label(node), reason))
        else:
            _write(graph, node, conv, seen, made)
            changes.append(Change(label(node), f"{FOLD} columns are channels", conv.bound))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _why_not(conv: Conv, given: Sizes, made: Sizes) -> str:
    if conv.group != 1 or conv.dilations[1] != 1:
        return "it has groups or is dilated"
    if len(given) != 4 or len(made) != 4 or None in given[1:] or None in made[1:]:
        return "its channels, height and width are not fixed"
    if FOLD % conv.strides[1]:
        return f"a stride of {conv.strides[1]} does not go into blocks of {FOLD} columns"
    return "" if conv.kernel != (1, 1) or conv.strides[1] != 1 else "a 1x1 convolution gains nothing"


def blocks(width: int, columns: int, per_block: int, high: int) -> tuple[int, int, int]:
    """(blocks of the image, blocks of zeros behind it, blocks that come out) for at least `columns` columns out."""
    inside = -(-width // FOLD)
    behind = max(0, -(-columns // per_block) - 1 + high - (inside - 1))
    return inside, behind, inside + behind - high


def _write(graph: Graph, node: onnx.NodeProto, conv: Conv, given: Sizes, made: Sizes) -> None:
    channels, height, width = (int(v or 0) for v in given[1:])
    outputs, rows, columns = (int(v or 0) for v in made[1:])
    weight, low, high = folded(conv.weight, conv.strides[1], conv.pads[1], FOLD)
    per_block = FOLD // conv.strides[1]
    inside, behind, out = blocks(width, columns, per_block, high)
    act = activation_behind(graph, node.output[0])
    chain = Chain(graph, node)
    x = _padded(chain, node.input[0], inside * FOLD - width)
    x = chain.reshape(x, [-1, channels, height, inside, FOLD])
    x = chain.node("Transpose", [x], perm=[0, 2, 3, 1, 4])
    x = chain.nchw(chain.reshape(x, [-1, height, inside, channels * FOLD]))
    pads = (conv.pads[0], -low, conv.pads[2], behind)
    x = chain.conv(x, reshaped(conv, weight, conv.tiled(per_block), strides=(conv.strides[0], 1), pads=pads))
    x = chain.reshape(chain.nhwc(chain.activation(x, act)), [-1, rows, out * per_block, outputs])
    if out * per_block != columns:
        bounds = [chain.constant(np.asarray([v], np.int64), "columns") for v in (0, columns, 2)]
        x = chain.node("Slice", [x, *bounds])
    chain.nchw(x, (act or node).output[0])
    chain.write([node] if act is None else [node, act])


def _padded(chain: Chain, x: str, extra: int) -> str:
    """`x` (N, C, H, W) with `extra` columns of zeros on the right, as a convolution pads."""
    if not extra:
        return x
    return chain.node("Pad", [x, chain.constant(np.asarray([0] * 7 + [extra], np.int64), "pads")])
