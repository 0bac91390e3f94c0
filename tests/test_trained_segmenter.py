"""A trained U-Net on the road: its mIoU is real in float and in int8, and `build` ships within the budget.

The oracle is a confusion matrix, counted here pixel by pixel from the answers of the graphs themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn import road, stages
from edgecnn.data.load import load_data
from edgecnn.data.samples import Samples
from edgecnn.evaluation.evaluate import evaluate
from edgecnn.float_passes import FLOAT_LIMIT_DB
from edgecnn.networks.sources import resolve
from edgecnn.outcomes import BuildReport
from edgecnn.prediction import predict
from exporters.quantization.quantize import QuantRecipe, quantize_model
from runtimes.base import Runner
from runtimes.bundle import open_bundle
from runtimes.proof.answers import MaskPrediction
from runtimes.session import open_session

WEIGHTS = Path(__file__).parent / "fixtures" / "unet_w8_shapes.safetensors"
DATA = "shapes:300"
CLASSES = 4
FLOOR, LOST = 0.97, 0.03
"""Of mIoU, to int8 with the ranges of 16 images; three times what it was on a CPU without VNNI."""
BUDGET = 0.01


@dataclass(frozen=True)
class Built:
    report: BuildReport
    bundle: Path
    model: onnx.ModelProto


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Exported once, for `build` too (most of the time is torch's exporter); raced without a search."""
    path = tmp_path_factory.mktemp("unet") / "unet.edge"
    walked = stages.float_road(resolve("unet_w8", WEIGHTS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "float_road", lambda *_, **__: walked)
        report = road.build(
            "unet_w8", path, weights=WEIGHTS, calib=DATA, data=DATA, limit=16, search_budget=0, max_drop=BUDGET,
            allow_slower=True,
        )  # fmt: skip
    return Built(report, path, walked[0])


@pytest.fixture(scope="module")
def held_out() -> Samples:
    return load_data(DATA, resolve("unet_w8", WEIGHTS).ready, split="test", task="segmentation")


def miou(runner: Runner, samples: Samples, name: str = "input") -> float:
    table = np.zeros((CLASSES, CLASSES))
    assert samples.masks is not None
    for i in range(len(samples)):
        (logits,) = runner({name: samples[i][None]}).values()
        np.add.at(table, (samples.masks[i].ravel(), logits[0].argmax(0).ravel()), 1)
    right = np.diag(table)
    return float((right / (table.sum(0) + table.sum(1) - right)).mean())


def test_the_float_graph_segments(built: Built, held_out: Samples) -> None:
    value = miou(open_session(built.model), held_out)
    assert value >= FLOOR
    report = evaluate("unet_w8", data=DATA, weights=WEIGHTS)
    assert (report.metric, report.images) == ("mIoU", 60)
    assert report.models[0][1].value == pytest.approx(value, abs=1e-3)  # a pixel of 245,760 may tip
    assert min(s.snr_db for s in built.report.stages[:-1] if s.snr_db is not None) >= FLOAT_LIMIT_DB


def test_int8_segments_as_well(built: Built, held_out: Samples) -> None:
    calibration = load_data(DATA, resolve("unet_w8", WEIGHTS).ready, split="train", task="segmentation", limit=16)
    quantized = quantize_model(built.model, calibration.feeds("input"), QuantRecipe())
    assert quantized.int8_nodes >= 23  # 18 convolutions of 3x3, four up-convolutions, the head
    value = miou(open_session(quantized.model), held_out)
    assert value >= miou(open_session(built.model), held_out) - LOST


def test_build_ships_within_the_budget(built: Built, held_out: Samples) -> None:
    report, bundle = built.report, open_bundle(built.bundle)
    assert report.accuracy is not None
    assert bundle.chosen in ("int8", "mixed")  # because slower is allowed; float stands against it
    assert report.accuracy["drop"] <= BUDGET
    assert report.accuracy["int8"] == pytest.approx(miou(bundle.session(), held_out), abs=1e-6)
    assert report.accuracy["float"] == pytest.approx(miou(open_session(built.model), held_out), abs=1e-6)
    assert report.judged_on == "60 labelled images of shapes"
    assert predict.verify(built.bundle).failure is None


def test_network_and_bundle_are_compared_on_the_same_images(built: Built) -> None:
    report = evaluate("unet_w8", built.bundle, data=DATA, weights=WEIGHTS)
    difference = report.difference
    assert difference is not None
    scores = [score.value for _, score in report.models]
    assert difference.value == pytest.approx(scores[1] - scores[0])
    assert difference.low <= difference.value <= difference.high
    assert difference.high - difference.low < 0.05  # paired: each alone varies by more than that from draw to draw


def test_a_drawn_picture_comes_back_as_its_mask(built: Built, held_out: Samples) -> None:
    assert held_out.masks is not None
    (answer,) = predict.run(built.bundle, held_out[0]).predictions
    assert isinstance(answer, MaskPrediction)
    assert (answer.mask == held_out.masks[0]).mean() >= 0.95
    assert {region.label for region in answer.regions} <= {"background", "circle", "square", "triangle"}
