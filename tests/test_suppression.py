"""Boxes at the edge of a detector's own suppression: read from its graph, and no difference between two graphs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from edgecnn.cli import main
from exporters.suppression import edges_of
from runtimes.base import Array
from runtimes.comparing.matching import Edges, Matching, align

DETECTOR = """<ir_version: 9, opset_import: ["" : 18]>
g (float[1, 3, 8, 8] input) => (float[M, 4] boxes, float[M] scores, int64[M] labels, int64[M] image)
<float[1, 3, 4] all = {0.0, 0.0, 10.0, 10.0, 0.0, FAR, 10.0, FAR1, 40.0, 40.0, 50.0, 50.0},
 float[1, 1, 3] sure = {0.9, 0.8, 0.5}, int64 most = {9}, float iou = {IOU}> {
   low = Constant <value = float {0.05}> ()
   zero = Constant <value = float {0.0}> ()
   none = Mul (input, zero)
   nought = ReduceSum <keepdims = 0> (none)
   moved = Add (all, nought)
   found = NonMaxSuppression (moved, sure, most, iou, low)
   last = Constant <value_ints = [2]> ()
   first = Constant <value_ints = [0]> ()
   flat = Constant <value_ints = [-1]> ()
   place = Gather <axis = 1> (found, last)
   row = Reshape (place, flat)
   one = Constant <value_ints = [-1, 4]> ()
   table = Reshape (moved, one)
   boxes = Gather <axis = 0> (table, row)
   every = Reshape (sure, flat)
   scores = Gather <axis = 0> (every, row)
   batch = Gather <axis = 1> (found, first)
   image = Reshape (batch, flat)
   labels = Identity (image)
}"""


def detector(far: float, iou: float = 0.45) -> onnx.ModelProto:
    """Three boxes: the first two overlap by (10 - far) / (10 + far)."""
    text = DETECTOR.replace("FAR1", repr(far + 10)).replace("FAR", repr(far)).replace("IOU", repr(iou))
    return onnx.parser.parse_model(text)


AT_EDGE = 10 * (1 - 0.45) / (1 + 0.45)


def test_edges_are_read_from_the_graph() -> None:
    """One from an initializer, one from a Constant; as float32 has them."""
    assert edges_of(detector(5.0)) == Edges((float(np.float32(0.45)),), (float(np.float32(0.05)),))
    assert edges_of(onnx.ModelProto()) == Edges()
    open_edge = detector(5.0)
    del open_edge.graph.initializer[-1]  # the overlap is not known
    assert edges_of(open_edge) == Edges((), (float(np.float32(0.05)),))
    assert Edges((0.5,), (0.1,)) | Edges((0.5,), (0.2,)) in (Edges((0.5,), (0.1, 0.2)), Edges((0.5,), (0.2, 0.1)))


@pytest.mark.parametrize(
    ("far", "iou", "code", "matching"),
    [
        (AT_EDGE + 1e-5, 0.45, 0, (2, 0, 0, 1)),  # the overlap is 0.4499995
        (AT_EDGE + 1e-1, 0.45, 1, (2, 0, 1, 0)),  # 0.445: another box, and no rounding
        (AT_EDGE - 0.5, 0.55, 1, (2, 0, 1, 0)),  # 0.476 of 0.55: the graph has another limit
    ],
)
def test_check_of_boxes_at_the_edge(
    far: float, iou: float, code: int, matching: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reference drops the second box; the candidate, which keeps it, has it elsewhere by far or not at all."""
    paths = [str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]
    onnx.save(detector(AT_EDGE - 1e-5), paths[0])
    onnx.save(detector(far, iou), paths[1])
    assert main(["check", *paths, "--snr-db", "80", "--json"]) == code
    images = (document := json.loads(capsys.readouterr().out))["images"]
    assert document["matching"] == vars(Matching(*(images * count for count in matching)))


def boxes(*found: tuple[float, float]) -> dict[str, Array]:
    """(score, left edge) each, 10 x 10 pixels, in the order of one image."""
    score, left = np.array(found, np.float32).T
    corners = np.stack([left, 0 * left, left + 10, 0 * left + 10], 1)
    zeros = np.zeros(len(left), np.int64)
    return {"boxes": corners, "scores": score, "labels": zeros, "image": zeros}


def test_by_hand() -> None:
    """A score at the edge in a list that is not full; an overlap at the edge counts with a better box alone."""
    ours, edges = boxes((0.9, 0)), Edges((0.45,), (0.05,))
    assert align(ours, boxes((0.9, 0), (0.05005, 50)), 1e-4, edges=edges)[2] == Matching(1, 0, 0, 1)
    assert align(ours, boxes((0.9, 0), (0.0502, 50)), 1e-4, edges=edges)[2] == Matching(1, 0, 1, 0)
    assert align(ours, boxes((0.9, 0), (0.5, AT_EDGE)), 1e-4, edges=edges)[2] == Matching(1, 0, 0, 1)
    assert align(ours, boxes((0.9, 0), (0.95, AT_EDGE)), 1e-4, edges=edges)[2] == Matching(1, 0, 1, 0)
    assert align(ours, boxes((0.9, 0), (0.5, AT_EDGE)), 1e-4)[2] == Matching(1, 0, 1, 0)
    assert align(boxes((0.9, 0), (0.5, AT_EDGE)), ours, 1e-4, edges=edges)[2] == Matching(1, 0, 0, 1)
