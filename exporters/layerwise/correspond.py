"""Which tensor of one graph is which tensor of another, so that both can be compared there and nowhere else.

    by name        what passes keep: a folded Conv makes the BatchNorm's tensor, a quantized one the float tensor
    by node        QLinearConv conv1_quant is Conv conv1, as ONNX Runtime's quantizer names its operators
    by module      the k-th Conv of module layer1.0.conv1, where the names are others
    by structure   the longest common sequence of (operator, shape), where nothing else tells

A layer's tensor is the one behind what may be folded into it: a Conv that a BatchNormalization follows is compared
behind that, a quantized layer behind its DequantizeLinear, and behind the ReLU that its grid stands for (see
`activations`). What has no counterpart is no point of comparison.
Test: tests/test_correspond.py.
"""

from __future__ import annotations

import collections
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from exporters.graph import is_standard
from exporters.layerwise.activations import Activations
from exporters.layerwise.integer_ops import float_op
from exporters.layerwise.origin import last_module
from exporters.layerwise.partial import CARRIERS, Parts, is_layout
from exporters.shape_inference import Shape, shape_of
from runtimes.base import BadInput

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "QGemm")
BEHIND_LINEAR = ("BatchNormalization",)
BEHIND_ALL = ("QuantizeLinear", "DequantizeLinear", "Identity", "Dropout")
STEPS = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
INTEGER_NAME = "_quant"
SAME_LINEAGE = 0.8
"""Two graphs where so many of the shared names stand for one operator are one graph, edited."""


@dataclass(frozen=True)
class Pair:
    """Two tensors that stand for one thing, and what says so: `name`, `node`, `module`, `structure` or `output`."""

    reference: str
    candidate: str
    by: str


@dataclass(frozen=True)
class Unit:
    """A layer: its operator, its module, the tensor it is compared at, and its node's name."""

    op: str
    module: str
    output: str
    node: str = ""


def correspond(reference: Parts, candidate: Parts) -> tuple[Pair, ...]:
    """The pairs, in the order of the candidate's graph, its outputs last where several stand for one tensor."""
    shapes = known_shapes(reference), known_shapes(candidate)
    shared = [name for name in candidate.place if name in reference.place]
    related = _related(reference, candidate, shared)
    found = {name: Pair(name, name, "name") for name in shared if related or _same(reference, candidate, name, shapes)}
    left, right = (_free_units(parts, found) for parts in (reference, candidate))
    more = [Pair(a.output, b.output, "node") for a, b in by_node(left, right)]
    left, right = _left_over(left, more), _left_over(right, more)
    more += [Pair(a.output, b.output, "module") for a, b in by_module(left, right)]
    if not related:
        left, right = _left_over(left, more), _left_over(right, more)
        more += [Pair(a.output, b.output, "structure") for a, b in by_structure(left, right, *shapes)]
    left_steps, right_steps = steps_of(reference), steps_of(candidate)
    more = [pair for pair in more if (pair.reference in left_steps) == (pair.candidate in right_steps)]
    found |= {pair.candidate: pair for pair in more}
    found = _activated(Activations(reference, candidate), found)
    found |= {b: Pair(a, b, "output") for a, b in outputs_of(reference, candidate) if _elsewhere(found.get(b), a)}
    return tuple(sorted(found.values(), key=lambda pair: candidate.place.get(pair.candidate, -1)))


def _elsewhere(pair: Pair | None, reference: str) -> bool:
    """Whether an output has another counterpart than the output `reference`: a layer that a factor was folded into."""
    return pair is None or pair.reference != reference


def _activated(activations: Activations, pairs: Mapping[str, Pair]) -> dict[str, Pair]:
    """`pairs`, those of which one side is behind a ReLU or Clip and the other before it moved to where they agree."""
    moved = activations.moved((pair.reference, pair.candidate) for pair in pairs.values())
    kept = [pair for pair in pairs.values() if (pair.reference, pair.candidate) in moved]
    found = {}
    for pair in kept:
        ours, theirs = moved[pair.reference, pair.candidate]
        found[theirs] = Pair(ours, theirs, pair.by)
    taken = {pair.reference for pair in found.values()}
    for pair in list(found.values()):
        more = activations.behind(pair.reference, pair.candidate)
        if more is not None and more[0] not in taken and more[1] not in found:
            found[more[1]] = Pair(*more, pair.by)
    return found


def outputs_of(reference: Parts, candidate: Parts) -> Iterator[tuple[str, str]]:
    """The graphs' outputs: of one name, else of one place."""
    if set(reference.outputs) == set(candidate.outputs):
        return zip(candidate.outputs, candidate.outputs, strict=True)
    if len(reference.outputs) != len(candidate.outputs):
        raise BadInput(f"outputs: {len(reference.outputs)} against {len(candidate.outputs)}; the models are no pair")
    return zip(reference.outputs, candidate.outputs, strict=True)


def known_shapes(parts: Parts) -> Mapping[str, Shape | None]:
    try:
        return {name: shape_of(kind) for name, kind in parts.types().items()}
    except BadInput:  # a graph whose shapes contradict each other is one of those that people compare
        return {}


def steps_of(parts: Parts) -> frozenset[str]:
    """Tensors of 8-bit integers: steps of a grid, which are no numbers to hold against another graph's."""
    try:
        return frozenset(name for name, kind in parts.types().items() if kind.elem_type in STEPS)
    except BadInput:
        return frozenset()


def _op(parts: Parts, name: str) -> str:
    """The operator that computed `name`, whatever carried its result to a grid, back, or to another layout."""
    node = parts.nodes[parts.place[name]]
    while node.op_type in CARRIERS or is_layout(node):
        if not node.input or node.input[0] not in parts.place:
            break
        node = parts.nodes[parts.place[node.input[0]]]
    return float_op(node.op_type)


def _related(reference: Parts, candidate: Parts, shared: Sequence[str]) -> bool:
    """Whether one graph is the other, edited: half the names are shared, and nearly all stand for one operator."""
    same = sum(_op(reference, name) == _op(candidate, name) for name in shared)
    smaller = min(len(reference.nodes), len(candidate.nodes))
    return same >= smaller / 3 and same >= SAME_LINEAGE * sum(_edited_in_place(candidate, name) for name in shared)


def _edited_in_place(parts: Parts, name: str) -> bool:
    """Whether the node behind `name` could have another operator without a pass having put it there."""
    return _op(parts, name) not in (*BEHIND_ALL, *BEHIND_LINEAR, *LINEAR, "Reshape", "Slice", "Transpose")


def _same(reference: Parts, candidate: Parts, name: str, shapes: Sequence[Mapping[str, Shape | None]]) -> bool:
    """Whether one name stands for one thing in graphs that may number their tensors: operator, shape, module agree."""
    ours, theirs = (parts.nodes[parts.place[name]] for parts in (reference, candidate))
    modules = {last_module(ours), last_module(theirs)} - {""}
    sizes = [side.get(name) for side in shapes]
    return (
        ours.op_type == theirs.op_type
        and len(modules) <= 1
        and (None in sizes or fits(*sizes))
        and (bool(modules) or not re.search(r"\d$", name))
    )


def fits(a: Shape | None, b: Shape | None) -> bool:
    """Whether two shapes can be of one tensor: equal where both are known."""
    return a is None or b is None or (len(a) == len(b) and all(x == y or None in (x, y) for x, y in zip(a, b)))  # noqa: B905


# ------------------------------------------------------------------------------------------------------------- units
def units(parts: Parts, folded: bool = True) -> list[Unit]:
    """The layers of a graph in its order; what only carries a layer's result belongs to that layer.

    With `folded` also what may be folded into it.
    """
    readers = collections.defaultdict(list)
    for node, names in zip(parts.nodes, parts.reads, strict=True):
        for name in names:
            readers[name].append(node)
    found, carried = [], set()
    for node in parts.nodes:
        if any(name in carried for name in node.output) or _constant(parts, node) or is_layout(node):
            continue
        output, passed = _behind(node, readers, set(parts.outputs), folded)
        carried |= set(passed)
        found.append(Unit(float_op(node.op_type), _module(parts, node, passed), output, node.name))
    return found


def _module(parts: Parts, node: onnx.NodeProto, passed: Sequence[str]) -> str:
    """The module whose result the unit is: the last BatchNorm's, else the node's."""
    behind = [parts.nodes[parts.place[name]] for name in passed]
    last = next((each for each in reversed(behind) if each.op_type in BEHIND_LINEAR), node)
    return last_module(last)


def _constant(parts: Parts, node: onnx.NodeProto) -> bool:
    return all(name in parts.weights for name in node.input if name) or node.op_type in ("QuantizeLinear",)


def _behind(
    node: onnx.NodeProto, readers: Mapping[str, Sequence[onnx.NodeProto]], outputs: Iterable[str], folded: bool
) -> tuple[str, list[str]]:
    """(the tensor that `node`'s layer is compared at: never integers that await their scale, what was passed)."""
    name = found = next(output for output in node.output if output)
    passed: list[str] = []
    behind = (*BEHIND_ALL, *(BEHIND_LINEAR if folded and node.op_type in LINEAR else ()))
    while name not in outputs and len(readers[name]) == 1:
        (reader,) = readers[name]
        if not any(is_standard(reader, op) for op in behind) and not is_layout(reader, "there"):
            break
        name = reader.output[0]
        passed.append(name)
        found = found if reader.op_type == "QuantizeLinear" else name
    return found, passed


def _free_units(parts: Parts, found: Mapping[str, Pair]) -> list[Unit]:
    return [unit for unit in units(parts) if unit.output not in found]


def _left_over(found: Sequence[Unit], pairs: Sequence[Pair]) -> list[Unit]:
    taken = {name for pair in pairs for name in (pair.reference, pair.candidate)}
    return [unit for unit in found if unit.output not in taken]


def by_node(left: Sequence[Unit], right: Sequence[Unit]) -> Iterator[tuple[Unit, Unit]]:
    """Units of one operator, of which the right one has the left one's node name and a suffix."""
    known = {(f"{unit.node}{INTEGER_NAME}", unit.op): unit for unit in left if unit.node}
    for unit in right:
        if (unit.node, unit.op) in known:
            yield known[unit.node, unit.op], unit


def by_module(left: Sequence[Unit], right: Sequence[Unit]) -> Iterator[tuple[Unit, Unit]]:
    """Units of one module and operator, in order, where both sides have as many of them."""
    groups: tuple[dict[tuple[str, str], list[Unit]], ...] = ({}, {})
    for side, group in zip((left, right), groups, strict=True):
        for unit in side:
            group.setdefault((unit.module, unit.op), []).append(unit)
    for key, ours in groups[0].items():
        theirs = groups[1].get(key, [])
        if key[0] and len(ours) == len(theirs):
            yield from zip(ours, theirs, strict=True)


def by_structure(
    left: Sequence[Unit],
    right: Sequence[Unit],
    shapes: Mapping[str, Shape | None],
    other: Mapping[str, Shape | None],
) -> Iterator[tuple[Unit, Unit]]:
    """Units on the longest common sequence of (operator, shape); units of unknown shape have no part in it."""
    ours = [(unit, shapes.get(unit.output)) for unit in left]
    theirs = [(unit, other.get(unit.output)) for unit in right]
    ours, theirs = ([pair for pair in side if pair[1]] for side in (ours, theirs))
    keys, other_keys = ([(unit.op, shape) for unit, shape in side] for side in (ours, theirs))
    matcher = difflib.SequenceMatcher(None, keys, other_keys, autojunk=False)
    for block in matcher.get_matching_blocks():
        for k in range(block.size):
            yield ours[block.a + k][0], theirs[block.b + k][0]
