"""A graph with a region moved: its nodes on moved tensors, and what moves tensors around it no more than is needed.

Nodes that stay keep their names and metadata; tensors in another layout have other names. Test:
tests/test_move_transposes.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from exporters.graph import Graph, captured_names
from exporters.relayout.move import add_back, add_forth
from exporters.relayout.region import Border, Region
from exporters.searching.blocks import Chain
from exporters.shape_inference import Shape


def write(region: Region, shapes: dict[str, Shape]) -> None:
    """Move `region` in its graph; the shapes of new tensors are added to `shapes`."""
    graph, move = region.view.graph, region.view.move
    borders = list(region.borders())
    moved: dict[str, str] = {}
    gone: set[int] = set()
    new: list[onnx.NodeProto] = []
    names = {node.name for node in graph.proto.node}
    for border in borders:
        moved[border.name] = _moved_name(graph, border, gone)
        new += _crossing(region, border, moved[border.name], gone, names)
        if border.name in shapes:
            shapes[moved[border.name]] = move.shape(shapes[border.name])
    replaced = {node.output[0]: moved[b.name] for b in borders for node in b.forth if id(node) in gone}
    behind = [name for node, _ in region.nodes.values() for name in node.input]
    behind += [name for b in borders for node in (*b.forth, b.back) if node and id(node) in gone for name in node.input]
    for node, step in region.nodes.values():
        for i in step.reads:
            node.input[i] = moved[node.input[i]]
        if step.makes:
            node.output[:] = [moved.get(name, name) for name in node.output]
        step.edit(node)
    nodes = [node for node in graph.proto.node if id(node) not in gone] + new
    for node in nodes:
        for i, name in enumerate(node.input):
            if name in replaced:
                node.input[i] = replaced[name]
    graph.set_nodes(in_order(nodes))
    for name in (*moved, *replaced):
        if name not in graph.producer:
            graph.forget(name)
    graph.drop_unread(behind)


def _moved_name(graph: Graph, border: Border, gone: set[int]) -> str:
    """What the moved tensor is called; `gone` gets the nodes that need not make it any more."""
    if border.back is not None:
        gone.update(id(node) for node in border.forth)
        return str(border.back.input[0])
    gone.update(id(node) for node in (border.forth if border.inside else border.forth[1:]))
    return str(border.forth[0].output[0]) if border.forth else graph.fresh(f"{border.name}.moved")


def _crossing(region: Region, border: Border, moved: str, gone: set[int], names: set[str]) -> list[onnx.NodeProto]:
    """The node that moves the tensor at the border forth or back, if there has to be a new one; `names` are taken."""
    graph, move = region.view.graph, region.view.move
    if border.back is not None:
        if not border.needed:
            gone.add(id(border.back))
        return []
    if not border.inside and border.forth:
        return []
    if border.inside and not border.needed:
        return []
    like = graph.producer.get(border.name) or graph.consumers[border.name][0]
    chain = Chain(graph, like, names)
    (add_back if border.inside else add_forth)(
        chain, move, *((moved, border.name) if border.inside else (border.name, moved))
    )
    return chain.nodes


def in_order(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """`nodes` such that each comes behind those whose results it reads, else as they were."""
    waiting = list(nodes)
    maker = {name: node for node in waiting for name in node.output if name}
    done: dict[int, onnx.NodeProto] = {}
    stack = waiting[::-1]
    while stack:
        node = stack[-1]
        first = [maker[name] for name in (*node.input, *captured_names(node)) if name in maker]
        missing = [other for other in first if id(other) not in done and other is not node]
        if missing:
            stack += missing
            continue
        stack.pop()
        done.setdefault(id(node), node)
    return list(done.values())
