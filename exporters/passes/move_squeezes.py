"""Squeezes move through what lies between them and an Unsqueeze, until the two meet and cancel.

    Conv ── Squeeze ── Mul ── Add ── Relu ── Unsqueeze ── Conv      becomes      Conv ── Mul ── Add ── Relu ── Conv

tf2onnx writes each Conv1D of Keras as a Conv of images of one row between an Unsqueeze and a Squeeze; the
BatchNormalization behind it could not be folded, and an int8 graph had a change of grid for each. A region of what
computes the same with an axis of size 1 more (`exporters.relayout`; pools and BatchNormalizations as well, where the
axis is one of positions) moves when fewer Squeezes and Unsqueezes stand around it afterwards, or as many, if it then
follows a convolution at once. Left alone: tensors of unknown rank, parameters that are computed, operators that the
rules do not know. Exact: the same operations on the same numbers.
Source: ONNX operator specification, Squeeze. Test: tests/test_move_squeezes.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from exporters.base import PassResult
from exporters.relayout.move import Move, axes_of
from exporters.relayout.pools import POOLS
from exporters.relayout.region import Region
from exporters.relayout.reshapes import RESHAPES
from exporters.relayout.rules import THROUGH
from exporters.relayout.settle import Pane, follows_layers, settle


def run(model: onnx.ModelProto) -> PassResult:
    """Move every region that is better off with the axis that a Squeeze took away."""
    return settle(model, "Squeeze", _seeds, {**THROUGH, **RESHAPES, **POOLS}, _worth)


def _seeds(pane: Pane, node: onnx.NodeProto) -> Iterator[tuple[Move, str]]:
    shape = pane.shapes.get(node.input[0])
    axes = None if shape is None else axes_of(pane.graph, node, len(shape))
    if shape is not None and axes:
        yield Move(tuple(axis for axis in range(len(shape)) if axis not in axes), len(shape)), node.output[0]


def _worth(region: Region) -> bool:
    before, after = region.costs()
    return after.nodes < before.nodes or (after.nodes == before.nodes and follows_layers(region))
