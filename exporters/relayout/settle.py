"""Regions move one after the other until none is better off moved. Test: tests/test_move_transposes.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx

from exporters.base import Change, PassResult
from exporters.graph import Graph, is_standard, label, opset
from exporters.relayout.move import Move
from exporters.relayout.region import Region, grow
from exporters.relayout.rules import OLDEST_OPSET, Rule, View
from exporters.relayout.write import write
from exporters.searching.blocks import nodes_of
from exporters.shape_inference import Shape, shape_of, tensor_types

ROUNDS = 20
"""More than any network needs: each round moves every region once."""


@dataclass
class Pane:
    """A graph that is being edited, with the shapes of its tensors."""

    graph: Graph
    shapes: dict[str, Shape] = field(default_factory=dict)


LAYERS = ("Conv", "ConvTranspose")
Seeds = Callable[[Pane, onnx.NodeProto], Iterator[tuple[Move, str]]]


def settle(
    model: onnx.ModelProto, op: str, seeds: Seeds, rules: Mapping[str, Rule], worth: Callable[[Region], bool]
) -> PassResult:
    """Move what lies around every `op`, as its `seeds` say, wherever that is `worth` it."""
    pane = Pane(Graph(model))
    if not nodes_of(pane.graph, op) or opset(model) < OLDEST_OPSET:
        return PassResult(pane.graph.model)
    for name, kind in tensor_types(model).items():
        shape = shape_of(kind)
        if shape is not None:
            pane.shapes[name] = shape
    changes: list[Change] = []
    for _ in range(ROUNDS):
        moved = _round(pane, op, seeds, rules, worth)
        changes += moved
        if not moved:
            break
    return PassResult(pane.graph.model, tuple(changes))


def follows_layers(region: Region) -> bool:
    """Whether all that comes into `region` are results of convolutions, which it would follow at once once moved."""
    graph = region.view.graph
    backs = [border.back for border in region.borders() if not border.inside]
    makers = [graph.producer.get(back.input[0]) if back is not None else None for back in backs]
    return bool(makers) and all(maker is not None and is_layer(maker) for maker in makers)


def is_layer(node: onnx.NodeProto) -> bool:
    return any(is_standard(node, op) for op in LAYERS)


def _round(
    pane: Pane, op: str, seeds: Seeds, rules: Mapping[str, Rule], worth: Callable[[Region], bool]
) -> list[Change]:
    changes: list[Change] = []
    seen: set[tuple[Move, str]] = set()
    for name in nodes_of(pane.graph, op):
        node = pane.graph.producer.get(name)
        if node is None or not is_standard(node, op):
            continue
        for move, seed in list(seeds(pane, node)):
            if (move, seed) in seen:
                continue
            region = grow(View(pane.graph, pane.shapes, move), rules, seed)
            seen |= {(move, tensor) for tensor in region.tensors}
            if region.nodes and not region.is_knotted() and worth(region):
                before, after = (cost.nodes for cost in region.costs())
                what = f"{len(region.nodes)} nodes in another layout: {before} times {op} become {after}"
                changes.append(Change(label(node), what))
                write(region, pane.shapes)
                break
    return changes
