"""A Concat that puts the parts of one tensor back together reads that tensor.

    Concat(T[0:a], T[a:], U)  =  Concat(T, U)          Concat(T[0:a], T[a:])  =  T

The parts come from Split or Slice on the axis of the Concat. YOLO's blocks split a tensor, work on one half and join
both halves with the result: the copy of what was never apart goes. Bit-exact.
Left alone: parts out of order or not all of it, steps other than 1, bounds that are not constant, sizes not fixed.
Test: tests/test_concat_of_parts.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import onnx

from exporters.base import Change, PassResult
from exporters.graph import Graph, attributes, copy_node, is_standard, label
from exporters.searching.blocks import nodes_of
from exporters.sizes import Sizes, fixed_sizes


@dataclass(frozen=True)
class Part:
    """Indices `start` to `stop` of tensor `whole` (of `size`) on the axis in question."""

    whole: str
    start: int
    stop: int
    size: int


def run(model: onnx.ModelProto) -> PassResult:
    """Undo every Concat of neighbouring parts whose whole is read; nodes that nobody needs any more go."""
    graph = Graph(model)
    sizes = fixed_sizes(model)
    changes: list[Change] = []
    for name in nodes_of(graph, "Concat"):
        node = graph.producer[name]
        found = _joined(graph, node, sizes)
        if len(found) < len(node.input):
            changes.append(Change(label(node), f"{len(node.input)} parts are {len(found)}"))
            _write(graph, node, found)
    return PassResult(graph.model, tuple(changes))


def _joined(graph: Graph, node: onnx.NodeProto, sizes: dict[str, Sizes]) -> list[str]:
    """The inputs of the Concat `node` with runs that cover a whole tensor replaced by that tensor."""
    rank = len(sizes.get(node.output[0], ()))
    if not rank:
        return list(node.input)
    axis = attributes(node)["axis"] % rank
    parts = [_part(graph, name, axis, sizes) for name in node.input]
    found: list[str] = []
    for whole, run_of in groupby(zip(node.input, parts, strict=True), lambda p: p[1].whole if p[1] else None):
        names, run = zip(*run_of, strict=True)
        found += [whole] if whole is not None and _covers(run) else names
    return found


def _covers(parts: tuple[Part, ...]) -> bool:
    """Whether `parts` of one tensor are, in their order, all of it and nothing else."""
    starts, stops = [p.start for p in parts], [p.stop for p in parts]
    return len(parts) > 1 and starts == [0, *stops[:-1]] and stops[-1] == parts[0].size


def _part(graph: Graph, name: str, axis: int, sizes: dict[str, Sizes]) -> Part | None:
    node = graph.producer.get(name)
    if node is None or not (is_standard(node, "Split") or is_standard(node, "Slice")):
        return None
    whole = sizes.get(node.input[0], ())
    size = whole[axis] if axis < len(whole) else None
    if size is None:
        return None
    if node.op_type == "Slice":
        return _slice(graph, node, axis, len(whole), size)
    lengths = [sizes.get(out, ())[axis : axis + 1] for out in node.output]
    if attributes(node).get("axis", 0) % len(whole) != axis or any(len(n) != 1 or n[0] is None for n in lengths):
        return None
    ends = np.cumsum([int(n[0] or 0) for n in lengths])
    at = list(node.output).index(name)
    return Part(node.input[0], int(ends[at - 1]) if at else 0, int(ends[at]), size)


def _slice(graph: Graph, node: onnx.NodeProto, axis: int, rank: int, size: int) -> Part | None:
    """A Slice of one axis with step 1 and constant bounds (operands since opset 10); without axes it is the first."""
    given = dict(zip(("start", "stop", "axis", "step"), node.input[1:], strict=False))
    values = {what: graph.constant(name) for what, name in given.items() if name}
    if "stop" not in values or any(value is None or value.size != 1 for value in values.values()):
        return None
    numbers = {"axis": 0, "step": 1} | {what: int(v.reshape(())) for what, v in values.items() if v is not None}
    if numbers["axis"] % rank != axis or numbers["step"] != 1:
        return None
    start, stop, _ = slice(numbers["start"], numbers["stop"]).indices(size)
    return Part(node.input[0], start, stop, size)


def _write(graph: Graph, node: onnx.NodeProto, names: list[str]) -> None:
    target = node.output[0]
    after = (
        [] if len(names) == 1 and target not in graph.outputs and target not in graph.captured else [copy_node(node)]
    )
    if after:
        del after[0].input[:]
        after[0].input.extend(names)
    graph.replace([node], after)
    if not after:
        graph.redirect(target, names[0])
        graph.forget(target)
    graph.prune()
