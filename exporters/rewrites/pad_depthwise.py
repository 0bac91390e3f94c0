"""Depthwise convolutions get channels in sixteens: zero channels made in front of them and ignored behind them.

    Conv (C outputs) -> act -> depthwise (C) -> act [x gate (C)] -> Conv (C inputs)     C = 72 -> 80
         + zero filters        + zero filters                            + zero weights

ONNX Runtime's integer depthwise kernel wants C % 16 == 0 and runs at a quarter of its speed otherwise. From each such
convolution the region of tensors that must grow with it is followed both ways (`tied`), up to the ungrouped
convolutions that make its channels (zero filters, zero bias) and to those that read them (zero weights). Where a Concat
or Split is on the way, each of its pieces is filled up by itself: GhostNet's halves of 20 become halves of 32, with
zeros between them. What a zero channel becomes on the way is finite, and is multiplied by zero in the end.
Refused: what `tied` refuses, and pieces so small that the region would more than double. Bound: the sums have more
zeros in them, which may change their order. Test: tests/test_pad_depthwise.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import convolutions
from exporters.searching.tied import Layout, Region, follow, layout
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
        layouts = {} if isinstance(region, str) else {t: layout(ends, MULTIPLE) for t, ends in region.ends.items()}
        reason = region if isinstance(region, str) else _why_not(region, layouts)
        if isinstance(region, str) or reason:
            kept.append(Kept(label(node), reason))
            continue
        size = layouts[node.output[0]].size
        _grow(graph, region, layouts)
        wider |= set(layouts)
        changes.append(Change(label(node), f"{conv.outputs} channels are {size}", conv.bound))
    _rename(graph, wider)
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _why_not(region: Region, layouts: Mapping[str, Layout]) -> str:
    old, new = (sum(sizes) for sizes in zip(*((len(one.places), one.size) for one in layouts.values()), strict=True))
    if any(len(ends) > 1 for ends in region.ends.values()) and new > MOST_GROWTH * old:
        return f"its channels are in small pieces: {old} of them would become {new}"
    return ""


def _rename(graph: Graph, tensors: set[str]) -> None:
    """Give `tensors` new names: a tensor that keeps its name keeps its value."""
    names = {name: graph.fresh(f"{name}.padded") for name in sorted(tensors)}
    for node in graph.proto.node:
        for ends in (node.input, node.output):
            for i, name in enumerate(ends):
                ends[i] = names.get(name, name)
    graph.reindex()


def _grow(graph: Graph, region: Region, layouts: Mapping[str, Layout]) -> None:
    for name in sorted(region.makers | region.depthwise):
        _spread(graph, name, 1, 0, layouts[name])
        _spread(graph, name, 2, 0, layouts[name])
    for name in sorted(region.depthwise):
        group = next(a for a in graph.producer[name].attribute if a.name == "group")
        group.i = layouts[name].size
    for name in sorted(region.readers):
        _spread(graph, name, 1, 1, layouts[graph.producer[name].input[0]])
    for name in sorted(region.splits):
        _resize(graph, graph.producer[name], layouts)
    for name in layouts:
        graph.forget(name)


def _spread(graph: Graph, name: str, index: int, axis: int, places: Layout) -> None:
    """Input `index` of the node that makes `name`, with zeros on `axis`; a bias that is not there stays away."""
    node = graph.producer[name]
    if index < len(node.input) and node.input[index]:
        value = graph.constant(node.input[index])
        assert value is not None
        graph.set_constant(node, index, places.spread(value, axis), f"{name}.spread")


def _resize(graph: Graph, split: onnx.NodeProto, layouts: Mapping[str, Layout]) -> None:
    """The Split says how many channels each of its parts has now."""
    kept = [a for a in split.attribute if a.name != "num_outputs"]
    del split.attribute[:]
    split.attribute.extend(kept)
    sizes = np.asarray([layouts[name].size for name in split.output], np.int64)
    graph.set_constant(split, 1, sizes, f"{split.output[0]}.sizes")
