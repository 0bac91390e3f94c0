"""What an int8 grid cuts off on purpose in front of HardSwish and HardSigmoid: the reference is cut off there as well.

    float    Conv ── c ── HardSwish                   0 wherever c is below -3: what c is there does not matter
    int8     Conv ── Q, -3 is integer 0 ── DQ ── d    d = max(c, -3), rounded

    compared    Conv ── c ── Max ── max(c, -3) ── HardSwish          and nothing else of the reference changes

Acts where all that reads c is zero below -3 (HardSwish, HardSigmoid, clip(c + 3, 0, 6), c times one of these), and
where the grid of its counterpart holds nothing below. Of a HardSigmoid what is above 3 does not matter either. A grid
that ends within [-3, 3] cuts off what matters: that still shows.
Source of the grids: exporters/quantization/grids.py. Test: tests/test_hard_cuts.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters.graph import Graph, copy_node, is_standard, keep_module, label, opset, set_meta
from exporters.layerwise.activations import held_by, maker
from exporters.layerwise.correspond import Pair
from exporters.layerwise.partial import LAYOUT_KEY, Parts
from exporters.quantization.kernels import cut, is_plain_hard
from runtimes.base import BadInput

LOW, HIGH = -3.0, 3.0
INFINITE = float("inf")
OLDEST_OPSET = 8
"""From which on Max and Min broadcast."""
Ends = tuple[float, float]


def with_cuts(reference: Parts, candidate: Parts, pairs: Sequence[Pair]) -> tuple[Parts, tuple[Pair, ...]]:
    """`reference` with its tensors cut off where an int8 counterpart is, and `pairs`, now of what was cut off."""
    ours, theirs = (Graph(parts.model, copied=False) for parts in (reference, candidate))
    found: dict[str, Ends] = {}
    for pair in pairs if opset(reference.model) >= OLDEST_OPSET else ():
        ends = idle_outside(ours, pair.reference)
        held = held_by(theirs, pair.candidate) if ends is not None else None
        if ends is not None and held is not None and held[0] >= ends[0] - _half(held):
            found[pair.reference] = ends[0], max(ends[1], held[1])
    found = _of_floats(reference, found)
    names = {name: ours.fresh(f"{name}.cut") for name in found}
    made = tuple(replace(pair, reference=names.get(pair.reference, pair.reference)) for pair in pairs)
    return (_cut(reference, found, names), made) if found else (reference, tuple(pairs))


def before_cut(graph: Graph, name: str) -> str:
    """`name`, or the floats of an int8 graph that were cut off at -3 for HardSwish, which reads the integers too."""
    held, back = held_by(graph, name), maker(graph, name)
    if held is None or back is None or abs(held[0] - LOW) > _half(held):
        return name
    there = graph.producer.get(back.input[0])
    cuts = any(is_standard(reader, "Clip") for reader in graph.consumers[back.input[0]])
    return str(there.input[0]) if cuts and there is not None else name


def idle_outside(graph: Graph, name: str) -> Ends | None:
    """Between which values alone `name` matters to those that read it; None where it matters below -3."""
    readers = graph.consumers.get(name, [])
    if not readers or name in graph.outputs or name in graph.captured:
        return None
    gates = dict(_gates(graph, name))
    zeros = {output for outputs in gates.values() for output in outputs}
    multiplies = [r for r in readers if is_standard(r, "Mul") and zeros & {*r.input} - {name}]
    swishes = [r for r in readers if is_standard(r, "HardSwish")]
    known = {id(r) for r in (*multiplies, *swishes)} | {id(r) for r in readers if r.output[0] in gates}
    if any(id(reader) not in known for reader in readers):
        return None
    return LOW, INFINITE if multiplies or swishes else HIGH


def _gates(graph: Graph, name: str) -> Iterator[tuple[str, list[str]]]:
    """(what a reader of `name` makes, what is 0 below -3 of that and behind it) of each HardSigmoid, also spelt out."""
    for reader in graph.consumers.get(name, []):
        if is_standard(reader, "HardSigmoid") and is_plain_hard(reader):
            yield reader.output[0], [reader.output[0]]
        elif is_standard(reader, "Add") and _constant(graph, reader) == -LOW:
            clip = graph.only_consumer(reader.output[0])
            if clip is not None and cut(graph, clip) == (0.0, HIGH - LOW):
                made = clip.output[0]
                scaled = [r for r in graph.consumers[made] if r.op_type in ("Mul", "Div") and _constant(graph, r)]
                yield reader.output[0], [made, *(r.output[0] for r in scaled)]


def _constant(graph: Graph, node: onnx.NodeProto) -> float | None:
    """The one number that `node` takes beside a tensor."""
    values = [value for name in node.input if (value := graph.constant(name)) is not None]
    return float(values[0].reshape(())) if len(values) == 1 and values[0].size == 1 else None


def _half(held: Ends) -> float:
    return (held[1] - held[0]) / 255 / 2


def _of_floats(parts: Parts, found: Mapping[str, Ends]) -> dict[str, Ends]:
    """Those of `found` that are known to be float32."""
    try:
        types = parts.types() if found else {}
    except BadInput:
        return {}
    return {name: ends for name, ends in found.items() if name in types and types[name].elem_type == TensorProto.FLOAT}


# --------------------------------------------------------------------------------------------------------- the surgery
def _cut(parts: Parts, found: Mapping[str, Ends], names: Mapping[str, str]) -> Parts:
    """`parts` in which each tensor of `found` is read through a Max (and a Min) as `names` call it."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for node in parts.nodes:
        read = copy_node(node)
        read.input[:] = [names.get(name, name) for name in node.input]
        nodes.append(read)
        for name in node.output:
            if name in found:
                nodes += _nodes(node, name, names[name], found[name], constants)
    return parts.rewired(nodes, constants)


def _nodes(
    like: onnx.NodeProto, name: str, made: str, ends: Ends, constants: list[onnx.TensorProto]
) -> Iterator[onnx.NodeProto]:
    """What makes `made` of `name`, called after the node `like` that makes that; its `constants` are added."""
    steps = [(op, end) for op, end in zip(("Max", "Min"), ends, strict=True) if np.isfinite(end)]
    for i, (op, end) in enumerate(steps):
        output = made if i == len(steps) - 1 else f"{made}.low"
        constants.append(numpy_helper.from_array(np.asarray(end, np.float32), f"{made}.{op}"))
        node = helper.make_node(op, [name, f"{made}.{op}"], [output], name=f"{label(like)}/{output}")
        keep_module(node, like)
        set_meta(node, {LAYOUT_KEY: "there"})
        yield node
        name = output
