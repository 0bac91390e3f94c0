"""Inputs of a graph that change none of its answers.

    meta ── Neg ── (nobody)          meta ── Shape ── Expand ── y: how large it is counts, and not what it holds

Test: tests/test_ignored_inputs.py.
"""

from __future__ import annotations

import onnx

from exporters.graph import captured_names, free_inputs


def ignored_inputs(model: onnx.ModelProto) -> list[str]:
    """Inputs that a caller must feed and of whose values no output is made; their shape may still be asked for."""
    maker = {name: node for node in model.graph.node for name in node.output}
    wait, seen = [value.name for value in model.graph.output], set[str]()
    while wait:
        name = wait.pop()
        node = maker.get(name)
        if name not in seen and node is not None and node.op_type not in ("Shape", "Size"):
            wait += [*node.input, *captured_names(node)]
        seen.add(name)
    return [value.name for value in free_inputs(model) if value.name not in seen]
