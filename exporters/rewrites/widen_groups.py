"""Neighbouring groups of a convolution become one of at least 16 outputs: zeros between them, but a wide product.

    W (O, I/g, kh, kw), g groups   ->   W' (O, k I/g, kh, kw), g/k groups       W' is block diagonal: k blocks and zeros

ONNX Runtime multiplies the groups of an integer convolution one after the other, and a product of 4 or 8 columns takes
about as long as one of 16: 1,487 us become 559 us for 128 channels in groups of 4 (ResNeXt) on an AVX2 CPU, 378 become
259 us for 256 in groups of 8 (RegNet), though k times as much is multiplied.
Acts where the groups are narrower and a divisor k of g makes them 16 to 32 wide, or nearly so; depthwise convolutions
have kernels of their own. Exact: what is added is products of zeros. Test: tests/test_widen_groups.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import Chain, Conv, convolutions, reshaped
from runtimes.base import Array

WIDE, MOST = 16, 32
"""Outputs of a group from which on nothing is gained, and beyond which the zeros cost more than the kernel gains."""


def run(model: onnx.ModelProto) -> PassResult:
    """Widen the narrow groups of every convolution; those that cannot be are in `kept` with the reason."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for node, conv in convolutions(graph):
        if isinstance(conv, str) or not _is_narrow(conv):
            continue
        times = factor(conv.group, conv.outputs // conv.group)
        if times == 1:
            kept.append(Kept(label(node), f"no divisor of its {conv.group} groups makes them {WIDE} to {MOST} wide"))
            continue
        chain = Chain(graph, node)
        weight = widened(conv.weight, conv.group, times)
        chain.conv(node.input[0], reshaped(conv, weight, conv.bias, group=conv.group // times), node.output[0])
        chain.write([node])
        changes.append(Change(label(node), f"{conv.group} groups are {conv.group // times}", conv.bound))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _is_narrow(conv: Conv) -> bool:
    return conv.group > 1 and conv.weight.shape[1] > 1 and conv.outputs // conv.group < WIDE


def factor(groups: int, width: int) -> int:
    """How many of `groups` groups of `width` outputs become one: the least that makes them wide, else the most; or 1.

    >>> factor(32, 4), factor(46, 8), factor(19, 8), factor(22, 6)
    (4, 2, 1, 2)
    """
    divisors = [k for k in range(1, groups + 1) if groups % k == 0 and k * width <= MOST]
    return next((k for k in divisors if k * width >= WIDE), max(divisors, default=1))


def widened(weight: Array, groups: int, times: int) -> Array:
    """(O, times I/g, kh, kw) of `weight` (O, I/g, kh, kw): an output's inputs lie behind those of earlier groups."""
    outputs, inputs = weight.shape[:2]
    place = np.arange(outputs) // (outputs // groups) % times
    wide = np.zeros((outputs, times, *weight.shape[1:]), weight.dtype)
    wide[np.arange(outputs), place] = weight
    return wide.reshape(outputs, times * inputs, *weight.shape[2:])
