"""Depthwise convolutions get channels in sixteens: zero channels made in front of them and ignored behind them.

    Conv (C outputs) -> act -> depthwise (C) -> act [x gate (C)] -> Conv (C inputs)     C = 72 -> 80
         + zero filters        + zero filters                            + zero weights

ONNX Runtime's integer depthwise kernel wants C % 16 == 0 and runs at a quarter of its speed otherwise. From each such
convolution the region of tensors that must grow with it is followed both ways (`tied`), up to the ungrouped
convolutions that make its channels (zero filters, zero bias) and to those that read them (zero weights). Where a
Concat, Split or Slice is on the way, each of its pieces is filled up by itself: GhostNet's halves of 20 become halves
of 32, with zeros between them. What a zero channel becomes on the way is finite, and is multiplied by zero in the end.
Refused: what `tied` refuses, and pieces so small that the region would more than double. Bound: the sums have more
zeros in them, which may change their order. Test: tests/test_pad_depthwise.py.
"""

from __future__ import annotations

import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import convolutions
from exporters.searching.tied import follow, grow, rename
from exporters.sizes import fixed_sizes

MULTIPLE = 16
MOST_GROWTH = 2.0
"""How many times as many channels the tensors of a region of pieces may have."""


def run(model: onnx.ModelProto) -> PassResult:
    """Pad every depthwise convolution whose channels do not come in sixteens; the others are in `kept`."""
    graph = Graph(model)
    sizes = fixed_sizes(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    wider: set[str] = set()
    for node, conv in convolutions(graph):
        if isinstance(conv, str) or not conv.depthwise or conv.outputs % MULTIPLE == 0:
            continue
        region = follow(graph, node.output[0], sizes)
        layouts = region if isinstance(region, str) else region.layouts(MULTIPLE, MOST_GROWTH)
        if isinstance(region, str) or isinstance(layouts, str):
            kept.append(Kept(label(node), str(layouts)))
            continue
        size = layouts[node.output[0]].size
        grow(graph, region, layouts)
        wider |= set(layouts)
        changes.append(Change(label(node), f"{conv.outputs} channels are {size}", conv.bound))
    rename(graph, wider)
    return PassResult(graph.model, tuple(changes), tuple(kept))
