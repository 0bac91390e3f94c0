"""Drop what computes nothing: Identity, Dropout at rest, nodes and tensors that nobody reads.

    a -> Identity -> b     every reader of b reads a; when b is an output of the model, a's producer writes b instead

Dropout is the identity at rest (Srivastava et al. 2014; since Dropout-1 outputs are scaled in training). A copy from an
input of the model straight to an output stays: it is the only way ONNX has to say that. Test: tests/test_drop_noops.py.
"""

from __future__ import annotations

import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, is_standard, label, opset


def run(model: onnx.ModelProto) -> PassResult:
    """`model` without no-ops and without anything unused; what has to stay is in `kept` with the reason."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    names = [
        node.output[0] for node in graph.proto.node if is_standard(node, "Identity") or is_standard(node, "Dropout")
    ]
    for output in names:
        node = graph.producer[output]
        reason = _active(graph, node, opset(model)) or _bypass(graph, node)
        if reason:
            kept.append(Kept(label(node), reason))
        else:
            changes.append(Change(label(node), f"{node.op_type} removed"))
    return PassResult(graph.model, (*changes, *_prune(graph)), tuple(kept))


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


def _bypass(graph: Graph, node: onnx.NodeProto) -> str:
    """Take `node` out of the graph; returns why that cannot be, and then nothing was changed."""
    source, target = node.input[0], node.output[0]
    if target in graph.captured:
        return "its output is read inside a body (If, Loop or Scan)"
    if target not in graph.outputs:
        graph.redirect(target, source)
        graph.replace([graph.producer[target]], [])
        return ""
    maker = graph.producer.get(source)
    if maker is None:
        return "it hands an input or a constant of the model to an output"
    if source in graph.outputs or source in graph.captured:
        return "what it copies is itself an output, or read inside a body"
    graph.replace([node], [])
    graph.redirect(source, target)
    maker = graph.producer[source]
    maker.output[list(maker.output).index(source)] = target
    graph.forget(source)
    graph.reindex()
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
