"""A 1x1 convolution with few outputs does f pixels at once: block-diagonal weights on f pixels as channels.

    Y (P, O) = X (P, C) W^T           (P / f, f O) = (P / f, f C) diag(W, ..., W)^T       P = H W pixels

Both reshapes are free on channels-last tensors. Integer kernels compute output channels in tiles of 16 and more, so
that 2 outputs cost as much as 16: 292 us become 89 us on 32 -> 2 channels, for f times the products. Acts on ungrouped
1x1 convolutions of stride 1 with fewer than 16 outputs, or up to 32 that are no multiple of 4; f is the smallest of
2, 4, 8, 16 that divides the pixels and makes at least 16 outputs in fours, else the largest that divides them.
Refused: sizes not fixed, no such f. Bound: zero products are added. Test: tests/test_fold_pixels.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import Chain, Conv, activation_behind, convolutions, reshaped, write_all
from exporters.sizes import Sizes, fixed_sizes
from runtimes.base import Array

FEW, TILE, UNEVEN = 16, 4, 32
FOLDS = (2, 4, 8, 16)


def block_diagonal(weight: Array, times: int) -> Array:
    """(times O, times C, 1, 1) with `times` copies of `weight` (O, C, 1, 1) on the diagonal."""
    return np.kron(np.eye(times, dtype=weight.dtype), weight[:, :, 0, 0])[:, :, None, None]


def serves(outputs: int) -> bool:
    """Whether the fast integer kernel takes that many outputs."""
    return outputs >= FEW and outputs % TILE == 0


def wanted(outputs: int) -> bool:
    """Whether an integer kernel wastes most of its work on that many outputs."""
    return outputs < FEW or (outputs < UNEVEN and outputs % TILE != 0)


def fold_of(outputs: int, pixels: int) -> int:
    """Pixels to fold: the smallest that serves; 1 when none divides."""
    possible = [f for f in FOLDS if pixels % f == 0]
    return next((f for f in possible if serves(f * outputs)), max(possible, default=1))


def run(model: onnx.ModelProto) -> PassResult:
    """Fold the pixels of every narrow 1x1 convolution; those that cannot be are in `kept` with the reason."""
    graph = Graph(model)
    sizes = fixed_sizes(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    chains: list[tuple[Chain, list[onnx.NodeProto]]] = []
    names = {node.name for node in graph.proto.node}
    for node, conv in convolutions(graph):
        if isinstance(conv, str) or not conv.pointwise or conv.strides != (1, 1) or not wanted(conv.outputs):
            continue
        given = sizes.get(node.input[0], ())
        fold = 1 if len(given) != 4 or None in given[2:] else fold_of(conv.outputs, _pixels(given))
        if fold == 1:
            kept.append(Kept(label(node), "the number of its pixels is not fixed, odd or too small"))
        else:
            chains.append(_folded(Chain(graph, node, names), node, conv, given, fold))
            changes.append(Change(label(node), f"{fold} pixels at once", conv.bound))
    if chains:
        write_all(graph, chains)
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _pixels(given: Sizes) -> int:
    """Height times width; none for one pixel, which a convolution behind a global pool has."""
    return int(given[2] or 0) * int(given[3] or 0)


def _folded(
    chain: Chain, node: onnx.NodeProto, conv: Conv, given: Sizes, fold: int
) -> tuple[Chain, list[onnx.NodeProto]]:
    """(`chain`, with what stands for `node` and its activation; these)."""
    height, width = int(given[2] or 0), int(given[3] or 0)
    act = activation_behind(chain.graph, node.output[0])
    x = chain.reshape(chain.nhwc(node.input[0]), [-1, 1, height * width // fold, fold * conv.inputs])
    x = chain.conv(chain.nchw(x), reshaped(conv, block_diagonal(conv.weight, fold), conv.tiled(fold)))
    x = chain.reshape(chain.nhwc(chain.activation(x, act)), [-1, height, width, conv.outputs])
    chain.nchw(x, (act or node).output[0])
    return chain, [node] if act is None else [node, act]
