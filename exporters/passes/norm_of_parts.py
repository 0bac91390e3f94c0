"""A BatchNormalization of several convolutions' joined results becomes one of each, which the fold then takes in.

    BN(Concat(a, b))   =   Concat(BN_a(a), BN_b(b))        each number is moved and scaled by its own channel's four

Networks that mix kernels in a layer (MixNet, MixConv) and those with branches of several widths normalize what they
joined. Nothing can take the factors of a Concat in: the norm stays in float, and in an int8 graph it costs two
changes of grid as well. Acts when the norm alone reads the Concat, is at rest with constant parameters, and every part
is made by a Conv or ConvTranspose that the Concat alone reads. Exact: the same operations on the same numbers.
Test: tests/test_norm_of_parts.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, copy_node, is_standard, label
from runtimes.base import Array

MAKERS = ("Conv", "ConvTranspose")


def run(model: onnx.ModelProto) -> PassResult:
    """Take every BatchNormalization of a Concat apart; those that stay are in `kept` with the reason."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for name in [node.output[0] for node in graph.proto.node if is_standard(node, "BatchNormalization")]:
        norm = graph.producer[name]
        concat = graph.producer.get(norm.input[0])
        if concat is None or not is_standard(concat, "Concat"):
            continue
        found = _parts(graph, concat, norm)
        if isinstance(found, str):
            kept.append(Kept(label(norm), found))
        else:
            _write(graph, concat, norm, found)
            changes.append(Change(label(norm), f"one of each of {len(concat.input)} parts"))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _parts(graph: Graph, concat: onnx.NodeProto, norm: onnx.NodeProto) -> list[int] | str:
    """How many channels each part of `concat` has, or why `norm` must stay."""
    if attributes(concat)["axis"] != 1:
        return f"Concat {label(concat)} does not join channels"
    if graph.only_consumer(concat.output[0]) is None:
        return f"Concat {label(concat)} {graph.why_not_only(concat.output[0])}"
    values = [graph.constant(name) for name in norm.input[1:]]
    a = attributes(norm)
    if a.get("training_mode", 0) or a.get("spatial", 1) != 1 or len([name for name in norm.output if name]) > 1:
        return "it is in training mode, or one of each position"
    if any(value is None for value in values):
        return "its parameters are not constant"
    counts = []
    for name in concat.input:
        maker = graph.producer.get(name)
        weight = graph.constant(maker.input[1]) if maker is not None and maker.op_type in MAKERS else None
        if maker is None or weight is None or not any(is_standard(maker, op) for op in MAKERS):
            return f"{name} is not made by a Conv that could take it in"
        if graph.only_consumer(name) is None:
            return f"{label(maker)} {graph.why_not_only(name)}"
        counts.append(_channels(maker, weight))
    return counts


def _channels(maker: onnx.NodeProto, weight: Array) -> int:
    """Outputs of a Conv with weights (O, I/g, ...), or of a ConvTranspose with (I, O/g, ...)."""
    if maker.op_type == "Conv":
        return int(weight.shape[0])
    return int(weight.shape[1]) * int(attributes(maker).get("group", 1))


def _write(graph: Graph, concat: onnx.NodeProto, norm: onnx.NodeProto, counts: list[int]) -> None:
    """The norms in front of the Concat, which makes what the norm of all made."""
    joined = copy_node(concat)
    joined.output[0] = norm.output[0]
    pieces: list[list[Array]] = []
    for name in norm.input[1:]:
        value = graph.constant(name)
        assert value is not None
        pieces.append(np.split(value, np.cumsum(counts)[:-1]))
    nodes = []
    for i, part in enumerate(concat.input):
        one = copy_node(norm)
        one.name = f"{label(norm)}/{i}"
        one.output[0] = joined.input[i] = graph.fresh(f"{norm.output[0]}.part")
        own = [graph.add_constant(piece[i], f"{norm.output[0]}.parameter") for piece in pieces]
        one.input[:] = [part, *own]
        nodes.append(one)
    names = list(norm.input[1:])
    graph.forget(concat.output[0])
    graph.replace([concat, norm], [*nodes, joined])
    graph.drop_unread(names)
