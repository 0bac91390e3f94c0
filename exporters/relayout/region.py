"""All tensors that move together, and how many Transposes (Squeezes, Unsqueezes) stand around them before and after.

    T -> Mul -> Add -> T        x ──T── Relu ── Reshape        the region lies between; a T around it that is its
                                                                move, or undoes it, falls away, where there is none
                                                                one is needed

Test: tests/test_move_transposes.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx

from exporters.relayout.move import is_back, is_forth
from exporters.relayout.rules import Rule, Step, View, is_known
from exporters.shape_inference import Shape

OPEN_SIZE = 16
"""What an open size counts as, where layouts are weighed."""


@dataclass(frozen=True)
class Cost:
    """How many nodes move tensors, and how many elements those have."""

    nodes: int = 0
    elements: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.nodes + other.nodes, self.elements + other.elements)

    def less(self, other: Cost) -> bool:
        """Less of one and not more of the other."""
        return self != other and self.nodes <= other.nodes and self.elements <= other.elements


@dataclass(frozen=True)
class Border:
    """A tensor of a region: what stands around it."""

    name: str
    back: onnx.NodeProto | None
    """makes it out of the moved tensor"""
    inside: bool
    """whether a node that moves makes it, and it can be made moved"""
    forth: tuple[onnx.NodeProto, ...]
    """make the moved tensor out of it"""
    needed: bool
    """whether somebody reads it as it is"""


@dataclass
class Region:
    """`nodes`, by the id of each, with what moves of them, and the tensors that move."""

    view: View
    nodes: dict[int, tuple[onnx.NodeProto, Step]] = field(default_factory=dict)
    tensors: dict[str, None] = field(default_factory=dict)

    def borders(self) -> Iterator[Border]:
        for name in self.tensors:
            yield self.border(name)

    def border(self, name: str) -> Border:
        graph, move = self.view.graph, self.view.move
        maker = graph.producer.get(name)
        back = maker is not None and is_back(graph, maker, move, self.view.shapes.get(maker.input[0]))
        inside = maker is not None and id(maker) in self.nodes and self.nodes[id(maker)][1].makes
        forth: list[onnx.NodeProto] = []
        needed = name in graph.outputs or name in graph.captured
        for reader in {id(node): node for node in graph.consumers[name]}.values():
            if is_forth(graph, reader, move) and not _seen(self.view, reader.output[0], inside and not forth):
                forth.append(reader)
            else:
                needed |= not self._moves_all(reader, name)
        return Border(name, maker if back else None, inside, tuple(forth), needed)

    def _moves_all(self, reader: onnx.NodeProto, name: str) -> bool:
        """Whether `reader` reads tensor `name` in the new layout only."""
        step = self.nodes.get(id(reader))
        return step is not None and all(other != name or i in step[1].reads for i, other in enumerate(reader.input))

    def is_knotted(self) -> bool:
        """Whether a node both moves one of the tensors and makes another: x + transpose(x), say."""
        borders = list(self.borders())
        backs = {id(border.back) for border in borders if border.back is not None}
        forths = [node for border in borders for node in border.forth]
        return any(id(node) in backs or node.output[0] in self.tensors for node in forths)

    def costs(self) -> tuple[Cost, Cost]:
        """What moves tensors around the region: now, and when it has moved."""
        before, after = Cost(), Cost()
        for border in self.borders():
            each = Cost(1, _elements(self.view.shapes.get(border.name)))
            for _ in border.forth:
                before += each
            if border.back is not None:
                before += each
            entry = border.back is None and not border.inside
            if entry or border.needed:
                after += each
        return before, after


def _seen(view: View, name: str, can_be_made: bool) -> bool:
    """Whether tensor `name` has to be there under its name, and what moves cannot make it so."""
    return not can_be_made and (name in view.graph.outputs or name in view.graph.captured)


def _elements(shape: Shape | None) -> int:
    return math.prod(OPEN_SIZE if size is None else size for size in shape or ())


def grow(view: View, rules: Mapping[str, Rule], seed: str) -> Region:
    """The region of tensor `seed`: what cannot move without it, nor it without that."""
    region, todo = Region(view), [seed]
    while todo:
        name = todo.pop()
        if name in region.tensors:
            continue
        region.tensors[name] = None
        maker = view.graph.producer.get(name)
        for node in [*([maker] if maker is not None else []), *view.graph.consumers[name]]:
            if id(node) in region.nodes or not is_known(node, rules) or _crosses(view, node, name):
                continue
            step = rules[node.op_type](view, node)
            if step is None or not (step.makes if node is maker else name in [node.input[i] for i in step.reads]):
                continue
            region.nodes[id(node)] = (node, step)
            todo += [node.input[i] for i in step.reads]
            todo += [output for output in node.output if output] if step.makes else []
    return region


def _crosses(view: View, node: onnx.NodeProto, name: str) -> bool:
    """Whether `node` is where tensor `name` is moved, forth or back."""
    if name in node.output:
        return is_back(view.graph, node, view.move, view.shapes.get(node.input[0]))
    return is_forth(view.graph, node, view.move)
