"""Golden pictures of a detector are those where it finds something; where there are none, the proof says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn import api, proof
from edgecnn.data.samples import Samples, Target
from edgecnn.data.spread import spread
from exporters.pack import pack
from runtimes.base import Array, Tensors
from runtimes.imaging.arrays import Rows
from runtimes.proof.golden import NO_BOX
from runtimes.session import open_session

WEIGHTS = Path(__file__).parent / "fixtures" / "ssd_tiny_shapes.safetensors"
FINDER = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[1, 3, 4, 6] x) => (float[m, 4] boxes, float[m] scores, int64[m] labels, int64[m] image)
<float[1, 4] box = {0.0, 0.0, 5.0, 3.0}, int64[1] none = {0}, int64[1] one = {1}, float dark = {0.1}> {
    top = ReduceMax <keepdims = 0> (x)
    some = Greater (top, dark)
    keep = Reshape (some, one)
    score = Reshape (top, one)
    boxes = Compress <axis = 0> (box, keep)
    scores = Compress <axis = 0> (score, keep)
    labels = Compress <axis = 0> (none, keep)
    image = Compress <axis = 0> (none, keep)
}
"""
"""One box in a picture that is not dark, as sure as the picture is bright."""
ABOUT = {
    "name": "det", "task": "detection", "labels": [], "preprocess": None, "created_by": "edgecnn 0", "chosen": "float",
    "input": {"name": "x", "dtype": "float32", "shape": [1, 3, 4, 6]}, "output": {"name": "boxes"},
}  # fmt: skip


def feeds(brightness: list[float]) -> list[Tensors]:
    return [{"x": np.full((1, 3, 4, 6), value, np.float32)} for value in brightness]


def golden(brightness: list[float], given: list[Tensors] | None = None) -> tuple[list[Array], list[Array]]:
    session = open_session(onnx.parser.parse_model(FINDER))
    return proof.golden(proof.GivenModel(session, feeds(brightness)), session, given)[:2]


def test_pictures_with_boxes_come_first_sure_ones_before_others() -> None:
    (images,), outputs = golden([0.0, 0.2, 0.0, 0.0, 0.0, 0.9])
    assert images[:, 0, 0, 0].tolist() == pytest.approx([0.9, 0.2, 0.0, 0.0])
    assert outputs[1].ravel().tolist() == pytest.approx([0.9, 0.2, -1, -1])


def test_what_the_model_is_given_is_of_the_same_pictures() -> None:
    (images,), _ = golden([0.0] * 5 + [0.9], feeds([0.0] * 5 + [0.8]))
    assert images[:, 0, 0, 0].tolist() == pytest.approx([0.8, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("brightness", [[0.0, 0.9], [0.0, 0.0]])
def test_a_proof_without_a_box_says_so(brightness: list[float], tmp_path: Path) -> None:
    model, path = onnx.parser.parse_model(FINDER), tmp_path / "d.edge"
    session = open_session(model)
    said = pack(path, model, ABOUT, *proof.golden(proof.GivenModel(session, feeds(brightness)), session))
    report = api.verify(path)
    assert report.passed
    assert (NO_BOX in said, NO_BOX in report.verdict) == ((max(brightness) == 0),) * 2
    assert "\n" not in said + report.verdict
    assert ("empty" in report.to_dict()["golden"][0]) == (max(brightness) == 0)


@pytest.mark.slow
def test_build_warns_where_nothing_is_found(tmp_path: Path) -> None:
    dark = np.random.default_rng(0).normal(-2, 0.01, (6, 3, 64, 64)).astype(np.float32)
    report = api.build("ssd_tiny", tmp_path / "d.edge", weights=WEIGHTS, calib=dark, search_budget=0)
    assert [line for line in report.warnings if NO_BOX in line] == [
        f"{tmp_path / 'd.edge'}: {NO_BOX}; give pictures with objects"
    ]


def test_pictures_whose_truth_has_boxes_are_spread_first() -> None:
    asked = list[int]()

    def target(index: int) -> Target:
        asked.append(index)
        return Target.of(np.zeros((index % 2, 4)), np.zeros(index % 2))

    def places(length: int) -> list[int]:
        names = tuple(map(str, range(length)))
        samples = Samples("n", names, lambda i: np.float32([i]), targets=Rows(length, target))
        return [int(name) for name in spread(samples, 3).ids]

    assert places(16) == [1, 9, 5]
    assert len(set(asked)) < 16, "no more is read than is needed"
    assert places(3) == [1, 0, 2]
