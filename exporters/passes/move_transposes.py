"""Transposes move through what lies between them, until pairs meet and cancel.

    Conv ── T ── Mul ── Add ── Relu ── T ── Conv      becomes      Conv ── Mul ── Add ── Relu ── Conv

tf2onnx writes the channels-last operators of Keras between a Transpose behind each convolution and one in front of the
next. Elementwise operators, their constants, Pad, Concat, Split, Slice and reductions compute the same in either
layout (`exporters.relayout`). A region of them moves when fewer Transposes stand around it afterwards, of no more
elements; or as many of fewer; or as many of as many, if it then follows a convolution at once, which can take it in, or
stands between the model's inputs and one. Inputs and outputs of the model keep their layout. Left alone:
tensors of unknown rank, parameters that are computed, operators that the rules do not know, Softmax among them.
Exact: the same operations on the same numbers; a reduction may add them up in another order.
Source: ONNX operator specification, Transpose. Test: tests/test_move_transposes.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from exporters.base import PassResult
from exporters.relayout.move import Move, inverse, perm_of, transposition
from exporters.relayout.region import Region
from exporters.relayout.reshapes import RESHAPES
from exporters.relayout.rules import THROUGH
from exporters.relayout.settle import Pane, follows_layers, is_layer, settle


def run(model: onnx.ModelProto) -> PassResult:
    """Move every region that is better off in the other layout."""
    return settle(model, "Transpose", _seeds, {**THROUGH, **RESHAPES}, _worth)


def _seeds(pane: Pane, node: onnx.NodeProto) -> Iterator[tuple[Move, str]]:
    """The moves that take `node` away: its own in front of it, its inverse behind it."""
    perm = perm_of(node, pane.shapes.get(node.input[0]))
    if perm is not None and perm != sorted(perm):
        yield transposition(inverse(perm)), node.output[0]
        yield transposition(perm), node.input[0]


def _worth(region: Region) -> bool:
    before, after = region.costs()
    if before != after:
        return after.less(before)
    return follows_layers(region) or _begins(region)


def _begins(region: Region) -> bool:
    """Whether `region` lies between inputs of the model and convolutions, which it would stand next to once moved."""
    graph = region.view.graph
    entries = [border.name in graph.inputs for border in region.borders() if not border.inside]
    behind = [
        reader for border in region.borders() for node in border.forth for reader in graph.consumers[node.output[0]]
    ]
    return all(entries) and any(is_layer(node) for node in behind)
