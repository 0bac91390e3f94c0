"""At which overlaps and scores a detector's graph drops a box: what its `NonMaxSuppression` is told.

    NonMaxSuppression (boxes, scores, most, iou_threshold, score_threshold)  ->  Edges(iou, score)

A box that lies on such an edge is kept by one rounding and dropped by another: see `runtimes/comparing/matching.py`.
Test: tests/test_suppression.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from exporters.graph import constant_value, is_standard
from runtimes.base import Array
from runtimes.comparing.matching import Edges

IOU, SCORE = 3, 4
"""Places among the inputs of `NonMaxSuppression`."""


def edges_of(model: onnx.ModelProto) -> Edges:
    """The edges of all suppressions in the main graph of `model`; none for a network that has none."""
    nodes = [node for node in model.graph.node if is_standard(node, "NonMaxSuppression")]
    if not nodes:
        return Edges()
    wanted = {name for node in nodes for name in node.input[IOU:] if name}
    known: dict[str, Array | None] = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in wanted
    }
    for node in model.graph.node:
        if is_standard(node, "Constant") and node.output[0] in wanted:
            known[node.output[0]] = constant_value(node)
    return Edges(tuple(_values(nodes, IOU, known)), tuple(_values(nodes, SCORE, known)))


def _values(nodes: list[onnx.NodeProto], place: int, known: dict[str, Array | None]) -> Iterator[float]:
    found = (known.get(node.input[place]) for node in nodes if len(node.input) > place)
    yield from dict.fromkeys(float(np.ravel(value)[0]) for value in found if value is not None and value.size)
