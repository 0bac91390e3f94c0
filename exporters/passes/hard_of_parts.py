"""HardSigmoid and HardSwish, where they are written in parts, become one operator each.

    clip(x + 3, 0, 6) / 6   =   clip(x / 6 + 0.5, 0, 1)   =   HardSigmoid (x), alpha = 1/6, beta = 0.5
    x clip(x + 3, 0, 6) / 6   =   HardSwish (x)                                 from operator set 14 on

tf2onnx writes what Keras has as relu6(x + 3) times x in up to four nodes, and so do older PyTorch networks. ONNX
Runtime computes one node faster, and the int8 form `hardswish` knows no other. Before operator set 14 the product with
x stays a Mul of its own. Acts on float32, whatever the order of the operands, with numbers of any shape that does not
enlarge x; 1/6 may be a product or a quotient, before or behind that with x. Refused: parts that others read.
Bound: 8 u, u = 2^-24: three roundings of numbers up to 6 in the parts, three of numbers up to 1 in the operator, of an
output of scale 1. Source: Howard et al. 2019, "Searching for MobileNetV3". Test: tests/test_hard_of_parts.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from exporters.base import Change, PassResult
from exporters.graph import Graph, is_standard, label, opset
from exporters.noops import fits_into
from exporters.quantization.kernels import cut
from exporters.searching.blocks import Chain, nodes_of
from exporters.shape_inference import Types, shape_of, tensor_types

OLDEST_OPSET = 7
"""From which on a Mul or an Add broadcasts without being told."""
HARDSWISH_OPSET = 14
BOUND = 8 * 2.0**-24


@dataclass(frozen=True)
class Gate:
    """`nodes`, the last of which makes clip(x + 3, 0, 6) / 6 times `height`; and times x, if `swish`."""

    x: str
    nodes: tuple[onnx.NodeProto, ...]
    height: int = 1
    swish: bool = False

    @property
    def output(self) -> str:
        return str(self.nodes[-1].output[0])


def run(model: onnx.ModelProto) -> PassResult:
    """Replace every HardSigmoid and HardSwish of parts that nobody else reads."""
    graph = Graph(model)
    names = nodes_of(graph, "Clip")
    types = tensor_types(model) if names and opset(model) >= OLDEST_OPSET else {}
    changes: list[Change] = []
    for name in names if types else ():
        gate = _clipped(graph, graph.producer[name], types)
        gate = gate and _behind(graph, gate, types)
        if gate is not None and gate.height == 1:
            changes.append(Change(label(gate.nodes[-1]), f"{len(gate.nodes)} nodes are one {_kind(gate)}", BOUND))
            _write(graph, gate, opset(model))
    return PassResult(graph.model, tuple(changes))


def _kind(gate: Gate) -> str:
    return "HardSwish" if gate.swish else "HardSigmoid"


def _clipped(graph: Graph, clip: onnx.NodeProto, types: Types) -> Gate | None:
    """clip(x + 3, 0, 6), of height 6, or clip(x / 6 + 0.5, 0, 1), of height 1."""
    adder, ends = graph.producer.get(clip.input[0]), cut(graph, clip)
    if adder is None or ends not in ((0.0, 6.0), (0.0, 1.0)) or graph.only_consumer(clip.input[0]) is not clip:
        return None
    height = int(ends[1])
    x = _moved(graph, adder, "Add", height / 2, types)
    if not x or height == 6:
        return Gate(x, (adder, clip), height) if x else None
    scaler = graph.producer.get(x)
    source = _sixth(graph, scaler, types) if scaler is not None and graph.only_consumer(x) is adder else ""
    return Gate(source, (scaler, adder, clip)) if scaler is not None and source else None


def _behind(graph: Graph, gate: Gate, types: Types) -> Gate:
    """`gate` with what alone reads it, as long as that is a product with x or a division by 6."""
    while (reader := graph.only_consumer(gate.output)) is not None:
        if gate.height == 6 and _sixth(graph, reader, types) == gate.output:
            gate = Gate(gate.x, (*gate.nodes, reader), 1, gate.swish)
            continue
        times = () if gate.swish or not is_standard(reader, "Mul") else _times_x(graph, reader, gate, types)
        if not times:
            break
        gate = Gate(gate.x, (*gate.nodes, *times), 1 if len(times) > 1 else gate.height, True)
    return gate


def _times_x(graph: Graph, product: onnx.NodeProto, gate: Gate, types: Types) -> tuple[onnx.NodeProto, ...]:
    """The nodes of a product of `gate` with x, or with x / 6; none where it is another product."""
    others = [name for name in product.input if name != gate.output]
    if others == [gate.x]:
        return (product,)
    maker = graph.producer.get(others[0]) if len(others) == 1 and gate.height == 6 else None
    if maker is None or graph.only_consumer(others[0]) is not product:
        return ()
    return (maker, product) if _sixth(graph, maker, types) == gate.x else ()


def _sixth(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    """The tensor of which `node` makes the sixth part; "" when it makes something else."""
    return _moved(graph, node, "Mul", 1 / 6, types) or _moved(graph, node, "Div", 6, types)


def _moved(graph: Graph, node: onnx.NodeProto, op: str, number: float, types: Types) -> str:
    """The float32 tensor that `node`, if it is an `op`, takes together with `number`; "" for any other node."""
    if not is_standard(node, op) or node.attribute or len(node.input) != 2:
        return ""
    for side in (1,) if op == "Div" else (1, 0):
        value, other = graph.constant(node.input[side]), str(node.input[1 - side])
        kind, shape = types.get(other), shape_of(types.get(other))
        if value is None or not value.size or kind is None or kind.elem_type != TensorProto.FLOAT or shape is None:
            continue
        if fits_into(value.shape, shape) and np.allclose(value, number, rtol=2.0**-22, atol=0):
            return other
    return ""


def _write(graph: Graph, gate: Gate, version: int) -> None:
    chain = Chain(graph, gate.nodes[-1])
    if gate.swish and version >= HARDSWISH_OPSET:
        chain.node("HardSwish", [gate.x], gate.output)
    else:
        gated = chain.node("HardSigmoid", [gate.x], "" if gate.swish else gate.output, alpha=1 / 6, beta=0.5)
        if gate.swish:
            chain.node("Mul", [gate.x, gated], gate.output)
    behind = [name for node in gate.nodes for name in node.input]
    chain.write(gate.nodes)
    graph.drop_unread(behind)
