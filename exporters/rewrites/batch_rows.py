"""The images of a batch lie below each other, so that a 1x1 convolution on small images is one large product.

    (N, H, W, C) = (1, N H, W, C)          a 1x1 convolution does not look at its neighbours

The Reshape is free on channels-last tensors. ONNX Runtime runs a convolution image by image, and a 7x7 image does not
fill the tiles of an integer kernel: 344 become 455 billion operations a second. Exact, the same sums.
Acts on ungrouped 1x1 convolutions of stride 1 on at most 64 pixels. Refused: a batch fixed at 1, sizes not fixed.
Test: tests/test_batch_rows.py.
"""

from __future__ import annotations

import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, is_standard, label
from exporters.searching.blocks import Chain, Conv, activation_behind, convolutions
from exporters.sizes import Sizes, fixed_sizes

MOST_PIXELS = 64


def run(model: onnx.ModelProto) -> PassResult:
    """Lay out the batch as rows around every 1x1 convolution on small images; refusals are in `kept`."""
    graph = Graph(model)
    sizes = fixed_sizes(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for node, conv in convolutions(graph):
        if isinstance(conv, str) or not conv.pointwise or conv.strides != (1, 1) or _done(graph, node):
            continue
        given = sizes.get(node.input[0], ())
        if len(given) != 4 or None in given[2:] or given[0] == 1:
            kept.append(Kept(label(node), "its batch is one image, or its sizes are not fixed"))
        elif 1 < int(given[2] or 0) * int(given[3] or 0) <= MOST_PIXELS:
            _write(graph, node, conv, given)
            changes.append(Change(label(node), "the batch lies in its rows"))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _done(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether the batch is one image of many rows already: what this rewrite writes in front of a convolution."""
    maker = graph.producer.get(node.input[0])
    before = graph.producer.get(maker.input[0]) if maker is not None and is_standard(maker, "Transpose") else None
    target = graph.constant(before.input[1]) if before is not None and is_standard(before, "Reshape") else None
    return target is not None and target.size == 4 and target[0] == 1


def _write(graph: Graph, node: onnx.NodeProto, conv: Conv, given: Sizes) -> None:
    height, width = int(given[2] or 0), int(given[3] or 0)
    act = activation_behind(graph, node.output[0])
    chain = Chain(graph, node)
    x = chain.nchw(chain.reshape(chain.nhwc(node.input[0]), [1, -1, width, conv.inputs]))
    x = chain.nhwc(chain.activation(chain.conv(x, conv), act))
    chain.nchw(chain.reshape(x, [-1, height, width, conv.outputs]), (act or node).output[0])
    chain.write([node] if act is None else [node, act])
