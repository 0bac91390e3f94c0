"""Activations that a grid stands for: an int8 graph has no ReLU or Clip where its integers cannot hold what that cuts.

    float    Conv ── c ── Relu ── r ── MaxPool               r = max(c, 0)
    int8     Conv ── p ── Q, zero point 0 ── DQ ── d         d = s clip(round(p / s), 0, 255): r, not c

Whatever name p has (a quantizer may give it that of r), it is never r. d is r where its grid lies within the ends of
the activation, up to half a step; else d is c, and a ReLU that was lost shows in what follows.
Test: tests/test_activations.py.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable

import onnx

from exporters.graph import Graph, is_standard
from exporters.layerwise.partial import Parts, is_layout
from exporters.quantization.input_range import grid_range
from exporters.quantization.kernels import cut

Names = tuple[str, str]


class Activations:
    """Moves pairs (tensor of `reference`, tensor of `candidate`) behind activations that only one of them has left."""

    def __init__(self, reference: Parts, candidate: Parts) -> None:
        self.reference, self.candidate = (Graph(parts.model, copied=False) for parts in (reference, candidate))

    def moved(self, pairs: Iterable[Names]) -> dict[Names, Names]:
        """Where each of `pairs` belongs. One that would meet another at the same tensor of the reference goes."""
        found = {pair: self._moved(*pair) for pair in pairs}
        theirs = collections.defaultdict(set)
        for ours, other in found.values():
            theirs[ours].add(other)
        return {a: b for a, b in found.items() if a == b or len(theirs[b[0]]) == 1}

    def behind(self, ours: str, theirs: str) -> Names | None:
        """The pair behind a right pair of tensors before an activation, of which the candidate has left the grid."""
        activated = self._activated(ours, theirs_behind := behind_grid(self.candidate, theirs))
        return None if activated == ours or theirs_behind == theirs else (activated, theirs_behind)

    def _moved(self, ours: str, theirs: str) -> Names:
        if is_activation(self.reference, ours) and not is_activation(self.candidate, theirs):
            return ours, behind_grid(self.candidate, theirs)
        activated = self._activated(ours, theirs)
        return self._rounded(ours, theirs) if activated == ours else (activated, theirs)

    def _rounded(self, ours: str, theirs: str) -> Names:
        """The pair behind the grid that one side has there, unless it may stand for an activation that follows."""
        behind = behind_grid(self.reference, ours), behind_grid(self.candidate, theirs)
        if (behind[0] == ours) == (behind[1] == theirs):
            return ours, theirs
        graph, name = (self.reference, ours) if behind[0] == ours else (self.candidate, theirs)
        return (ours, theirs) if any(cut(graph, reader) for reader in graph.consumers[name]) else behind

    def _activated(self, ours: str, theirs: str) -> str:
        """`ours`, or the output of the activation that alone reads it, where the grid before `theirs` stands for it."""
        reader = self.reference.only_consumer(ours)
        ends = None if reader is None else cut(self.reference, reader)
        if reader is None or ends is None or not stands_for(self.candidate, theirs, ends):
            return ours
        return str(reader.output[0])


def maker(graph: Graph, name: str) -> onnx.NodeProto | None:
    """The node that makes `name`, whatever a comparison laid out otherwise behind it."""
    node = graph.producer.get(name)
    while node is not None and is_layout(node):
        node = graph.producer.get(node.input[0])
    return node


def is_activation(graph: Graph, name: str) -> bool:
    node = maker(graph, name)
    return node is not None and cut(graph, node) is not None


def behind_grid(graph: Graph, name: str) -> str:
    """`name`, or what a DequantizeLinear makes of it where nothing but a QuantizeLinear reads it."""
    there = graph.only_consumer(name)
    if there is None or not is_standard(there, "QuantizeLinear"):
        return name
    back = graph.only_consumer(there.output[0])
    return str(back.output[0]) if back is not None and is_standard(back, "DequantizeLinear") else name


def stands_for(graph: Graph, name: str, ends: tuple[float, float]) -> bool:
    """Whether `name` comes from a grid that holds nothing outside of `ends`, up to half a step."""
    held = held_by(graph, name)
    if held is None:
        return False
    low, high, half = *held, (held[1] - held[0]) / 255 / 2
    return ends[0] - half <= low and high <= ends[1] + half


def held_by(graph: Graph, name: str) -> tuple[float, float] | None:
    """(lowest, highest) value of the grid that `name` was rounded to last; None for what comes from no such grid."""
    back = maker(graph, name)
    if back is None or not is_standard(back, "DequantizeLinear"):
        return None
    there = graph.producer.get(back.input[0])
    return _range(graph, back if there is None or not is_standard(there, "QuantizeLinear") else there)


def _range(graph: Graph, node: onnx.NodeProto) -> tuple[float, float] | None:
    values = [graph.constant(name) for name in node.input[1:3] if name]
    if any(value is None or value.size != 1 for value in values):
        return None
    return grid_range(*(value for value in values if value is not None))
