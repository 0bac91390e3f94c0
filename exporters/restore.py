"""Put back what a foreign graph tool (onnxsim, onnx's version converter) loses: names, metadata, symbols, defaults.

Header, inputs and outputs with their symbolic sizes are the given model's; a node that makes the same tensor as before
has its name, documentation and metadata back. Test: tests/test_simplify.py, tests/test_target.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from exporters.external import copy_fields
from exporters.graph import copy_tensor, get_meta, set_meta


def take_defaults(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Take the default values of inputs out of `model` and return them.

    An initializer that is also an input may be overridden by the caller. onnxsim folds it all the same; what it does
    not see it cannot fold.
    """
    model.ir_version = max(model.ir_version, 4)  # onnxsim fails on older ones, which demand a default for every weight
    inputs = {value.name for value in model.graph.input}
    places = [i for i, tensor in enumerate(model.graph.initializer) if tensor.name in inputs]
    defaults = [copy_tensor(model.graph.initializer[i]) for i in places]
    for i in reversed(places):
        del model.graph.initializer[i]
    return defaults


def restore(
    found: onnx.ModelProto, given: onnx.ModelProto, defaults: Iterable[onnx.TensorProto] = (), version: int = 0
) -> onnx.ModelProto:
    """The nodes and tensors of `found` under everything else that `given` says.

    `defaults` are initializers that the tool was not shown; `version` is the default operator set (0: that of `given`).
    """
    result = onnx.ModelProto()
    copy_fields(given, result, skip=("graph",))
    for entry in result.opset_import:
        if version and entry.domain in ("", "ai.onnx"):
            entry.version = version
    copy_fields(given.graph, result.graph, skip=("node", "initializer", "sparse_initializer", "value_info"))
    result.graph.node.extend(found.graph.node)
    result.graph.initializer.extend([*defaults, *found.graph.initializer])
    result.graph.sparse_initializer.extend(found.graph.sparse_initializer)
    result.graph.value_info.extend(found.graph.value_info)
    _restore_nodes(result, given)
    return result


def _restore_nodes(result: onnx.ModelProto, given: onnx.ModelProto) -> None:
    """Give every node of `result` that makes a tensor of `given` that one's name, documentation and metadata."""
    origin = {name: node for node in given.graph.node for name in node.output if name}
    for node in result.graph.node:
        source = next((origin[name] for name in node.output if name in origin), None)
        if source is None:
            continue
        node.name = node.name or source.name
        node.doc_string = node.doc_string or source.doc_string
        set_meta(node, get_meta(source))
