"""`export --dynamic-size`: height and width stay open, are proven at two sizes, and stay open in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn import road, stages
from edgecnn.quantizing import quantize
from edgecnn.sources import Network
from edgecnn.spec import unit_range
from exported import normal, run_torch, seeded
from exporters import artifact
from exporters.load import load_model
from runtimes.base import BadInput
from runtimes.session import open_session


class Segmenter(nn.Module):
    """Half the size and back; a class for every pixel."""

    task, input_shape = "segmentation", (3, 24, 32)

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(16, num_classes, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.head(self.down(x)), size=x.shape[2:], mode="bilinear")


class Pooled(nn.Module):
    """torch exports this pool for the size it sees, without a word."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 1, 1)
        self.head = nn.Linear(8 * 12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.adaptive_avg_pool2d(self.conv(x), (3, 4)).flatten(1))


def test_a_network_of_open_size_goes_the_road_and_answers_every_size(tmp_path: Path) -> None:
    network = seeded(Segmenter)
    report = road.export(network, tmp_path / "net.onnx", input_shape=(3, 24, 32), dynamic_size=True)
    assert min(stage.snr_db for stage in report.stages if stage.snr_db is not None) >= 90  # float_passes.FLOAT_LIMIT_DB
    model = load_model(tmp_path / "net.onnx")
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    session = open_session(model)
    assert session.inputs[0].shape == ("batch", 3, "height", "width")
    assert session.outputs[0].shape[1] == 4
    for size in ((24, 32), (9, 13), (50, 21)):
        x = normal(2, 3, *size)
        (answer,) = session({"input": x}).values()
        np.testing.assert_allclose(answer, run_torch(network, x), rtol=0, atol=1e-5)  # sums of 144 products


def test_an_int8_graph_keeps_its_open_size(tmp_path: Path) -> None:
    road.export(seeded(Segmenter), tmp_path / "net.onnx", input_shape=(3, 24, 32), dynamic_size=True)
    quantize(
        tmp_path / "net.onnx", tmp_path / "int8.onnx", "random:8", input_shape="3,24,32", allow_slower=True, max_drop=1
    )
    session = open_session(load_model(tmp_path / "int8.onnx"))
    assert artifact.read_stages(load_model(tmp_path / "int8.onnx"))[-1].name == "quantize"
    for size in ((24, 32), (40, 17)):
        (answer,) = session({"input": normal(1, 3, *size)}).values()
        assert answer.shape == (1, 4, *size)
        assert np.isfinite(answer).all()


def test_a_graph_that_works_at_one_size_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^Pooled: works at 24x32 only; leave --dynamic-size out$"):
        road.export(seeded(Pooled), tmp_path / "net.onnx", input_shape=(3, 24, 32), dynamic_size=True)
    assert not (tmp_path / "net.onnx").exists()
    road.export(seeded(Pooled), tmp_path / "net.onnx", input_shape=(3, 24, 32))


def test_a_network_that_runs_at_one_size_only_is_refused_before_the_export(tmp_path: Path) -> None:
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 22 * 30, 5))
    with pytest.raises(BadInput, match=r"^Sequential: works at 24x32 only; leave --dynamic-size out$"):
        road.export(flat, tmp_path / "net.onnx", input_shape=(3, 24, 32), dynamic_size=True)


def test_the_proof_uses_two_sizes() -> None:
    ready = unit_range(24, 32)
    network = Network("net", nn.Identity(), (3, 24, 32), ready)
    shapes = [feed[stages.INPUT_NAME].shape for feed in stages.made_images(network, True, 0, True)]
    assert shapes == [(1, 3, 24, 32), (3, 3, 24, 32), (1, 3, 31, 38)]
    assert [f[stages.INPUT_NAME].shape for f in stages.made_images(network, False, 0)] == [(1, 3, 24, 32)] * 2
