"""Channels between convolutions come in fours: zero channels made in front and ignored behind.

    Conv (C outputs) -> act -> ... -> Conv (C inputs)     C = 27 -> 28
         + zero filters                   + zero weights

ONNX Runtime's fast integer convolution takes inputs and outputs in fours only: 263 us become 140 us for 27 -> 162
channels at 56x56 (ReXNet), 162 become 109 us for a 3x3 of 18 channels (HRNet-W18), on a CPU with VNNI. From each tensor
that does not come in fours the region that must grow with it is followed (`tied`), through sums and pieces; a zero
channel is finite on the way and is multiplied by zero in the end. `pad_outputs` makes the channels alone and drops
them again, for what this one refuses: regions that reach an input or output of the model or an operator that mixes
channels, and images of under 8 positions, where there is nothing to gain. Bound: the sums have more zeros in them.
Test: tests/test_pad_channels.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import convolutions
from exporters.searching.tied import follow, grow, rename
from exporters.sizes import Sizes, fixed_sizes

MULTIPLE = 4
FEWEST_PIXELS = 8
MOST_GROWTH = 1.5
"""How many times as many channels the tensors of a region of pieces may have."""


def run(model: onnx.ModelProto) -> PassResult:
    """Pad the outputs of every ungrouped convolution that do not come in fours; those that stay are in `kept`."""
    graph = Graph(model)
    sizes = fixed_sizes(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    wider: dict[str, int] = {}
    for node, conv in convolutions(graph):
        if isinstance(conv, str) or conv.group != 1 or node.output[0] in wider or conv.outputs % MULTIPLE == 0:
            continue
        if not _large(sizes, node.output[0]):
            continue
        region = follow(graph, node.output[0], sizes)
        layouts = region if isinstance(region, str) else region.layouts(MULTIPLE, MOST_GROWTH)
        if isinstance(region, str) or isinstance(layouts, str):
            kept.append(Kept(label(node), str(layouts)))
            continue
        grow(graph, region, layouts)
        wider |= {name: one.size for name, one in layouts.items()}
        changes.append(Change(label(node), f"{conv.outputs} channels are {wider[node.output[0]]}", conv.bound))
    rename(graph, wider)
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _large(sizes: Mapping[str, Sizes], name: str) -> bool:
    """Whether an image of tensor `name` has enough positions, or an open number of them."""
    image = sizes.get(name, ())[2:]
    return None in image or int(np.prod([size or 0 for size in image])) >= FEWEST_PIXELS
