"""Drop what computes nothing: Identity, Dropout at rest, + 0, Pad by 0 and their like, what nobody reads.

    a -> Identity -> b     every reader of b reads a; when b is an output of the model, a's producer writes b instead

Dropout is the identity at rest (Srivastava et al. 2014; since Dropout-1 outputs are scaled in training); the other
rules are in `exporters.noops`. A copy from an input of the model straight to an output stays: it is the only way ONNX
has to say that. Test: tests/test_drop_noops.py.
"""

from __future__ import annotations

import onnx

from exporters.base import Change, Kept, PassResult
from exporters.bypass import bypass
from exporters.graph import Graph, attributes, is_standard, label, opset
from exporters.noops import RULES, copied
from exporters.shape_inference import Types, tensor_types


def run(model: onnx.ModelProto) -> PassResult:
    """`model` without no-ops and without anything unused; what has to stay is in `kept` with the reason."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    types = tensor_types(model) if any(is_standard(node, op) for node in graph.proto.node for op in RULES) else {}
    for output in [node.output[0] for node in graph.proto.node if node.output]:
        if output not in graph.producer:
            continue  # it made something that only a no-op before it read
        node = graph.producer[output]
        done, reason = _drop(graph, node, types, opset(model))
        if reason:
            kept.append(Kept(label(node), reason))
        elif done:
            changes.append(Change(label(node), f"{node.op_type} removed"))
    return PassResult(graph.model, (*changes, *_prune(graph)), tuple(kept))


def _drop(graph: Graph, node: onnx.NodeProto, types: Types, version: int) -> tuple[bool, str]:
    """(whether `node` was taken out, why it had to stay although it may compute nothing)."""
    if is_standard(node, "Identity") or is_standard(node, "Dropout"):
        reason = _active(graph, node, version) or bypass(graph, node, node.input[0])
        return not reason, reason
    source = copied(graph, node, types)
    reason = bypass(graph, node, source) if source else ""
    return bool(source) and not reason, reason


def _active(graph: Graph, node: onnx.NodeProto, version: int) -> str:
    """Why a Dropout does something: training mode is an input from opset 12, `is_test=0` (the default) before 7."""
    if node.op_type == "Identity":
        return ""
    if any(name in graph.consumers or name in graph.outputs or name in graph.captured for name in node.output[1:]):
        return "its mask is used"
    if version < 7:
        return "" if attributes(node).get("is_test", 0) else "it is in training mode"
    if len(node.input) > 2 and node.input[2]:
        training = graph.constant(node.input[2])
        return "" if training is not None and not training.any() else "it is, or may be set to, training mode"
    return ""


def _prune(graph: Graph) -> list[Change]:
    before = {node.output[0]: label(node) for node in graph.proto.node if node.output}
    tensors = [tensor.name for tensor in graph.proto.initializer]
    graph.prune()
    left = {node.output[0] for node in graph.proto.node if node.output}
    return [
        *(Change(name, "nobody needed it") for output, name in before.items() if output not in left),
        *(Change(name, "tensor nobody reads") for name in tensors if name not in graph.initializers),
    ]
