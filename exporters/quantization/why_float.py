"""Why a node of a graph with int8 layers stays float, in a few words: what it lacks, or what is in front of it.

Test: tests/test_why_float.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import onnx

from exporters.graph import Graph
from exporters.quantization.kernels import (
    CARRIERS,
    CUTTERS,
    FOLLOWERS,
    HARD,
    NO_KERNEL,
    cut,
    is_plain_hard,
    larger_of,
    moving_inputs,
    why_not_carried,
)

NOTHING = "nothing int8 in front of it"
FORM = "hardswish"
"""The int8 form of the operators `HARD`."""
LEFT_OUT = f"its int8 form ({FORM}) is not part of this graph"
OUTRACED = f"its int8 form ({FORM}) was raced, and the graph is no faster with it"


@dataclass(frozen=True)
class WhyFloat:
    """Answers for the nodes of `graph`.

    `int8`: first outputs of the nodes that are; `gridded`: tensors on a grid; `maker`: of a tensor, the first output of
    the node that it belongs to; `forms`: the int8 forms that are in use.
    """

    graph: Graph
    int8: Collection[str]
    gridded: Collection[str]
    maker: Callable[[str], str]
    forms: Collection[str]

    def __call__(self, node: onnx.NodeProto) -> str:
        if node.op_type in HARD:
            return self._hard(node)
        reason = NO_KERNEL.get(node.op_type) or why_not_carried(self.graph, node)
        if reason:
            return reason
        if node.op_type not in (*FOLLOWERS, *CARRIERS, *CUTTERS) and larger_of(self.graph, node) is None:
            return f"{node.op_type} has no int8 kernel"
        return self._following(node)

    def _hard(self, node: onnx.NodeProto) -> str:
        """edgecnn has an int8 form of its own for these, of which it asks more than of a follower."""
        if not is_plain_hard(node):
            return f"only of clip(x + 3, 0, 6) / 6 there is an int8 form, this {node.op_type} has another slope"
        source = node.input[0]
        if self.maker(source) not in self.int8 or source not in self.gridded:
            return self._following(node)
        if FORM not in self.forms:
            return LEFT_OUT
        shared = self.graph.why_not_only(source) or "shares its grid with another tensor"
        return f"its int8 form needs a grid of its own, and what it reads {shared}"

    def _following(self, node: onnx.NodeProto) -> str:
        """What of the tensors that `node` would follow is float."""
        moved = [name for name in moving_inputs(self.graph, node) if self.graph.constant(name) is None]
        floats = [name for name in moved if name not in self.gridded]
        giver = next((self.graph.producer[self.maker(name)] for name in floats if self.maker(name) in self.int8), None)
        if giver is not None:
            return f"the int8 {giver.op_type} in front of it gives floats"
        if len(floats) < len(moved) and floats:
            return "not all that it reads is int8"
        if node.op_type in CUTTERS and self.maker(node.input[0]) in self.int8 and cut(self.graph, node) is None:
            return "its ends are not constant"
        return NOTHING
