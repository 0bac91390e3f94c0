"""Fold a Pad with zeros into the Conv or AveragePool after it, which pad on their own.

    Pad by (t, l, b, r) -> Conv <pads (t', l', b', r')>   =   Conv <pads (t + t', l + l', b + b', r + r')>

AveragePool must count what it pads, as it counted the zeros of the Pad: exact with count_include_pad, or where it
padded nothing itself; not with ceil_mode, whose last window is cut at the padded edge. Reflected, repeated, non-zero
and negative (cropping) pads and pads of batch or channels stay. No number is touched.
Source: ONNX operator specification, Pad, Conv, AveragePool. Test: tests/test_fold_pad.py.
"""

from __future__ import annotations

import onnx
from onnx import helper

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, is_standard, label, opset
from exporters.noops import parameter

PADDING = ("Conv", "AveragePool")


class _Keep(Exception):
    """Ends the work on one node; the message is the reason in `PassResult.kept`."""


def run(model: onnx.ModelProto) -> PassResult:
    """Fold every Pad that can be; the others are in `kept` with the reason."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for output in [node.output[0] for node in graph.proto.node if is_standard(node, "Pad")]:
        node = graph.producer[output]
        try:
            reader = _reader(graph, node)
            _write(graph, node, reader, _positions(graph, node, _rank(graph, reader)), opset(model))
            changes.append(Change(label(node), f"folded into {reader.op_type} {label(reader)}"))
        except _Keep as reason:
            kept.append(Kept(label(node), str(reason)))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _reader(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto:
    reader = graph.only_consumer(node.output[0])
    if reader is None:
        raise _Keep(f"its output {graph.why_not_only(node.output[0])}")
    if not any(is_standard(reader, op) for op in PADDING) or reader.input[0] != node.output[0]:
        raise _Keep(f"{reader.op_type} {label(reader)} reads it, not Conv or AveragePool")
    if attributes(reader).get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise _Keep(f"{reader.op_type} {label(reader)} computes its pads from the size that it gets (auto_pad)")
    return reader


def _rank(graph: Graph, reader: onnx.NodeProto) -> int:
    if reader.op_type == "AveragePool":
        return 2 + len(attributes(reader)["kernel_shape"])
    weight = graph.constant(reader.input[1])
    kernel = attributes(reader).get("kernel_shape")
    if weight is None and kernel is None:
        raise _Keep(f"the rank of Conv {label(reader)} is not known")
    return weight.ndim if weight is not None else 2 + len(kernel)  # type: ignore[arg-type]


def _positions(graph: Graph, node: onnx.NodeProto, rank: int) -> list[int]:
    """The zeros that `node` adds before and after each of `rank` - 2 positions: (before ..., after ...)."""
    attrs = attributes(node)
    if attrs.get("mode", b"constant") != b"constant":
        raise _Keep(f"its mode is {attrs['mode'].decode()}, and a convolution pads with zeros")
    value = parameter(graph, node, "value", 2)
    if (value is None and len(node.input) > 2 and node.input[2]) or (value is not None and value.any()):
        raise _Keep("it pads with something else than zeros, or with what is computed")
    pads = parameter(graph, node, "pads", 1)
    axes = graph.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else range(rank)
    if pads is None or axes is None:
        raise _Keep("its pads are computed")
    ends = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        ends[int(axis) % rank], ends[int(axis) % rank + rank] = int(pads[i]), int(pads[i + len(pads) // 2])
    if min(ends) < 0:
        raise _Keep("it cuts something off (negative pads)")
    if any(ends[axis] for axis in (0, 1, rank, rank + 1)):
        raise _Keep("it pads the batch or the channels")
    return [*ends[2:rank], *ends[rank + 2 :]]


def _write(graph: Graph, node: onnx.NodeProto, reader: onnx.NodeProto, more: list[int], version: int) -> None:
    attrs = attributes(reader)
    own = list(attrs.get("pads", [0] * len(more)))
    pads = [a + b for a, b in zip(own, more, strict=True)]
    new = {"pads": pads}
    if reader.op_type == "AveragePool":
        _check_pool(attrs, own, pads, version)
        new["count_include_pad"] = 1  # type: ignore[assignment]
    for attribute in [a for a in reader.attribute if a.name in (*new, "auto_pad")]:
        reader.attribute.remove(attribute)
    reader.attribute.extend(helper.make_attribute(name, value) for name, value in new.items())
    behind = list(node.input)
    reader.input[0] = node.input[0]
    graph.forget(node.output[0])
    graph.replace([node], [])
    graph.drop_unread(behind[1:])


def _check_pool(attrs: dict[str, object], own: list[int], pads: list[int], version: int) -> None:
    if version < 7:
        raise _Keep("an AveragePool of this operator set cannot count what it pads")
    if any(own) and not attrs.get("count_include_pad", 0):
        raise _Keep("the AveragePool after it does not count what it pads itself")
    if attrs.get("ceil_mode", 0):
        raise _Keep("the AveragePool after it rounds its size up (ceil_mode)")
    kernel = list(attrs["kernel_shape"])  # type: ignore[call-overload]
    if any(pad >= size for pad, size in zip(pads, [*kernel, *kernel], strict=True)):
        raise _Keep("a window of the AveragePool after it would lie in the padding alone, which ONNX Runtime refuses")
