"""A detector goes the whole road: the same boxes at every stage, int8 that finds them, a bundle that proves itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgecnn import road, stages
from edgecnn.data.load import load_data
from edgecnn.detection.select import OUTPUTS
from edgecnn.networks.answer import task_of
from edgecnn.networks.sources import resolve
from edgecnn.networks.spec import Blueprint
from edgecnn.prediction import predict
from edgecnn.tasks import detection
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.torch_export import DEFAULT_OPSET
from runtimes.base import CheckFailed
from runtimes.parity import compare
from runtimes.session import open_session

WEIGHTS = Path(__file__).parent / "fixtures" / "ssd_tiny_shapes.safetensors"
LOST = 0.3
"""Of mAP@[.5:.95] by plain int8: 0.18 where products of uint8 and int8 saturate (AVX2 without VNNI), of 0.89."""


@pytest.fixture(scope="module")
def exported() -> bytes:
    """The zoo's `ssd_tiny` as torch exports it, which takes seconds: once for all tests of the same weights."""
    return stages._export(resolve("ssd_tiny"), DEFAULT_OPSET, True, False).SerializeToString()


@pytest.fixture
def no_export(exported: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_export", lambda *_: onnx.load_from_string(exported))


@pytest.fixture(scope="module")
def walked(exported: bytes) -> tuple[onnx.ModelProto, tuple[stages.Stage, ...], stages.Reference]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "_export", lambda *_: onnx.load_from_string(exported))
        return stages.float_road(resolve("ssd_tiny"))


def test_every_stage_finds_the_same_boxes(
    walked: tuple[onnx.ModelProto, tuple[stages.Stage, ...], stages.Reference],
) -> None:
    model, done, reference = walked
    report = reference.parity(open_session(model))
    assert report.matching is not None
    assert (report.matching.matched, report.matching.unmatched) == (200, 0)  # 50 in each of four images
    report.require(snr_db=90, max_abs={"boxes": 1e-3, "scores": 1e-5, "labels": 0, "image": 0})
    assert [stage.name for stage in done][:2] == ["export", "simplify"]
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["NonMaxSuppression"] == 1
    assert not {"Loop", "If", "Scan", "BatchNormalization"} & set(kinds)
    assert [(out.name, out.type.tensor_type.shape.dim[0].dim_param) for out in model.graph.output] == [
        (name, "found") for name in OUTPUTS
    ]


def test_int8_finds_the_objects_and_leaves_the_tail_float() -> None:
    """Of a trained network: the boxes of a random one are nearly ties, which a CPU without VNNI decides otherwise."""
    network = resolve("ssd_tiny", WEIGHTS)
    model, _, _ = stages.float_road(network)
    images, calibration = (load_data("shapes:200", network.ready, split=s, task="detection") for s in ("test", "train"))
    quantized = quantize_model(model, calibration.feeds("input")[:16], QuantRecipe())
    assert quantized.int8_nodes == 12  # its convolutions
    found = [detection.score(open_session(graph), images, "input").value for graph in (model, quantized.model)]
    assert found[0] >= 0.85
    assert found[1] >= found[0] - LOST


def test_a_stage_that_loses_a_box_stops_the_road(no_export: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(
        name: str, model: onnx.ModelProto, sizes: object = None, fold: bool = True
    ) -> tuple[onnx.ModelProto, str]:
        spoilt = onnx.ModelProto()
        spoilt.CopyFrom(model)
        limit = next(node for node in spoilt.graph.node if node.op_type == "NonMaxSuppression").input[3]
        for tensor in spoilt.graph.initializer:
            if tensor.name == limit:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32([0.2]), limit))
        for node in spoilt.graph.node:
            if node.output[0] == limit:
                node.attribute[0].CopyFrom(onnx.helper.make_attribute("value_floats", [0.2]))
        return spoilt, ""

    monkeypatch.setattr(stages, "run_pass", spoil)
    with pytest.raises(CheckFailed, match="stage simplify: output"):
        stages.float_road(resolve("ssd_tiny"))


def test_a_detector_is_known_by_its_answer() -> None:
    """Whatever it was made from; the plan's task does not make one."""
    plan = Blueprint("mine", nn.Identity, None)
    four = (torch.zeros(5, 4), torch.zeros(5), torch.zeros(5, dtype=torch.int64), torch.zeros(5, dtype=torch.int64))
    assert task_of(plan, nn.Identity(), four) == ("detection", None)
    assert task_of(plan, nn.Identity(), four[:3]) == ("other", None)
    assert task_of(plan, nn.Identity(), (four[1], *four[1:])) == ("other", None)
    network = resolve("ssd_tiny", num_classes=5)
    assert (network.task, network.classes) == ("detection", 5)


def test_build_packs_a_detector_and_verify_proves_it(no_export: None, tmp_path: Path) -> None:
    bundle = tmp_path / "tiny.edge"
    report = road.build("ssd_tiny", bundle, calib="random:8", max_drop=0.5, search_budget=0)
    rival = report.decision.rival
    assert rival is not None
    assert rival.agreement is not None
    assert rival.agreement > 0.6  # untrained and calibrated on noise, on a CPU that may saturate
    assert rival.drop == pytest.approx(1 - rival.agreement)
    proven = predict.verify(bundle)
    assert proven.passed
    assert json.loads(json.dumps(proven.to_dict()))["passed"]


def test_parity_sees_a_moved_box(walked: tuple[onnx.ModelProto, tuple[stages.Stage, ...], stages.Reference]) -> None:
    model, _, reference = walked
    session = open_session(model)
    moved = compare(reference, lambda feed: {**session(feed), "boxes": session(feed)["boxes"] + 0.01}, reference.feeds)
    with pytest.raises(CheckFailed, match=r"output boxes: .*0.01 is above the limit of 0.001"):
        moved.require(max_abs={"boxes": stages.BOX_LIMIT_PX})
