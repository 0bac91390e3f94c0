"""Which grid integers are on where the nodes around them do not agree: most of them say it.

    Q(s) ── MaxPool ── DQ(s) ── f          integers that are only moved have one grid from Q to DQ: s
    Q(t) ── MaxPool ── DQ(s) ── Conv       t or s: the Conv's bias was rounded to s times the step of its weights

A grid that is outvoted is the fault. On even votes nobody knows which it is, and what float the integers stand for.
Test: tests/test_agreed_grids.py.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import onnx

from exporters.graph import Graph, is_standard
from exporters.quantization.kernels import CARRIERS, carried_outputs

Grid = tuple[str, str]
"""Names of scale and zero point."""
MOVERS = (*CARRIERS, "Concat")
WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")
NEAR = 0.01
"""Scales that differ by less are one: a product of two float32 scales was rounded once more."""


def moves(node: onnx.NodeProto) -> bool:
    """Whether `node` only moves integers, so that what it makes is on the grid of what it reads."""
    return any(is_standard(node, op) for op in MOVERS)


def agreed(graph: Graph) -> dict[str, Grid | None]:
    """What a QuantizeLinear makes and nodes move -> the grid that most around it say; None on even votes."""
    group = _groups(graph)
    votes: dict[str, list[Grid]] = collections.defaultdict(list)
    steps: dict[str, list[float]] = collections.defaultdict(list)
    rounded: dict[str, str] = {}
    for node in graph.proto.node:
        grid, rounds = _grid(graph, node), is_standard(node, "QuantizeLinear")
        if grid is None or not (rounds or is_standard(node, "DequantizeLinear")):
            continue
        root = group(node.output[0] if rounds else node.input[0])
        if root is not None:
            votes[root].append(grid)
            rounded |= {node.output[0]: root} if rounds else {}
            steps[root] += [] if rounds else _steps(graph, node.output[0])
    return {name: _winner(graph, votes[root], steps[root]) for name, root in rounded.items()}


def _groups(graph: Graph) -> Callable[[str], str | None]:
    """What tells of a tensor the name of those that nodes move into one another; None of one that no node moves."""
    above: dict[str, str] = {}

    def root(name: str) -> str:
        while above[name] != name:
            name = above[name]
        return name

    for node in graph.proto.node:
        made = graph.producer.get(node.input[0]) if moves(node) else None
        if made is None or not (is_standard(made, "QuantizeLinear") or node.input[0] in above):
            continue
        parts = list(node.input) if node.op_type == "Concat" else [node.input[0]]
        for name in (*parts, *carried_outputs(node)):
            above.setdefault(name, name)
            above[root(name)] = root(node.input[0])
    return lambda name: root(name) if name in above else None


def _grid(graph: Graph, node: onnx.NodeProto) -> Grid | None:
    """The grid of a node that rounds or reads integers, where it is one number and nobody can change it."""
    if len(node.input) != 3 or not all(name in graph.initializers for name in node.input[1:]):
        return None
    values = [graph.constant(name) for name in node.input[1:]]
    return (node.input[1], node.input[2]) if all(v is not None and v.size == 1 for v in values) else None


def _value(graph: Graph, grid: Grid) -> tuple[float, int]:
    scale, zero = (graph.constant(name) for name in grid)
    assert scale is not None
    assert zero is not None
    return float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0])


def _winner(graph: Graph, votes: Iterable[Grid], steps: Iterable[float]) -> Grid | None:
    """The grid with most votes; None where two have as many. `steps` vote for each grid that has them."""
    names = {_value(graph, grid): grid for grid in votes}
    count = collections.Counter(_value(graph, grid) for grid in votes)
    count.update(value for step in steps for value in names if math.isclose(value[0], step, rel_tol=NEAR))
    ranked = count.most_common(2)
    return None if len(ranked) == 2 and ranked[0][1] == ranked[1][1] else names[ranked[0][0]]


def _steps(graph: Graph, name: str) -> Iterator[float]:
    """The step of `name` by each layer that reads it: that of its bias over that of its weights."""
    for reader in graph.consumers[name]:
        if not any(is_standard(reader, op) for op in WITH_BIAS) or len(reader.input) < 3 or reader.input[0] != name:
            continue
        made = [graph.producer.get(part) for part in reader.input[1:3]]
        scales = [graph.constant(node.input[1]) for node in made if node and is_standard(node, "DequantizeLinear")]
        known = [scale for scale in scales if scale is not None]
        if len(known) == 2 and all(np.all(scale > 0) for scale in known):
            yield float(np.median(known[1].reshape(-1) / known[0].reshape(-1)))
