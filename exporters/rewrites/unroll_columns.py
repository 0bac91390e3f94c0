"""A k x k convolution with few outputs makes u neighbouring columns at once, as u times as many outputs.

    y[o, u b + j] = sum_v w[o, v] x[u b + j + v - p]          W[(j, o), j + v] = w[o, v],  kernel k + u - 1, stride u

The (u, O) channels are columns again by a free Reshape on the channels-last output. Integer kernels pay for each tap
of each position besides the products, and fill tiles of 16 outputs and more: fewer positions with more outputs are
cheaper, for (k + u - 1) / k times the products. Acts on ungrouped convolutions with a kernel at least 3 wide, stride 1
and at most 16 outputs; u = 4. Refused: an output width that is no multiple of 4, dilation, sizes not fixed. Bound:
zero products are added. Test: tests/test_unroll_columns.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import Chain, Conv, activation_behind, convolutions, reshaped
from exporters.sizes import Sizes, fixed_sizes
from runtimes.base import Array

UNROLL = 4
MOST_OUTPUTS, FEWEST_INPUTS, WIDEST = 16, 4, 7


def unrolled(weight: Array, times: int) -> Array:
    """Weights (O, C, kh, kw) as (times O, C, kh, kw + times - 1): copy j is shifted by j columns."""
    outputs, channels, rows, width = weight.shape
    found = np.zeros((times, outputs, channels, rows, width + times - 1), weight.dtype)
    for j in range(times):
        found[j, ..., j : j + width] = weight
    return found.reshape(times * outputs, channels, rows, -1)


def run(model: onnx.ModelProto) -> PassResult:
    """Unroll every narrow convolution of stride 1; those that cannot be are in `kept` with the reason."""
    graph = Graph(model)
    sizes = fixed_sizes(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for node, conv in convolutions(graph):
        if isinstance(conv, str) or not _narrow(conv):
            continue
        made = sizes.get(node.output[0], ())
        if len(made) != 4 or None in made[1:] or int(made[3] or 1) % UNROLL or conv.dilations[1] != 1:
            kept.append(Kept(label(node), f"its width is not fixed or no multiple of {UNROLL}, or it is dilated"))
        else:
            _write(graph, node, conv, made)
            changes.append(Change(label(node), f"{UNROLL} columns at once", conv.bound))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _narrow(conv: Conv) -> bool:
    few = conv.outputs <= MOST_OUTPUTS and conv.inputs >= FEWEST_INPUTS
    return few and conv.group == 1 and conv.strides == (1, 1) and 3 <= conv.kernel[1] <= WIDEST


def _write(graph: Graph, node: onnx.NodeProto, conv: Conv, made: Sizes) -> None:
    rows, columns = int(made[2] or 0), int(made[3] or 0)
    weight, bias = unrolled(conv.weight, UNROLL), conv.tiled(UNROLL)
    act = activation_behind(graph, node.output[0])
    chain = Chain(graph, node)
    x = chain.conv(node.input[0], reshaped(conv, weight, bias, strides=(1, UNROLL)))
    x = chain.reshape(chain.nhwc(chain.activation(x, act)), [-1, rows, columns, conv.outputs])
    chain.nchw(x, (act or node).output[0])
    chain.write([node] if act is None else [node, act])
