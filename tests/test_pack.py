"""A bundle that is written is one that can be read, is the same every time, and is not written when it is wrong."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgecnn import api
from exporters import load
from exporters.device_code import device_code
from exporters.pack import pack
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from runtimes.base import CheckFailed
from runtimes.bundle import open_bundle, verify
from runtimes.proof.writing import write_bundle
from runtimes.session import open_session

ABOUT: dict[str, Any] = {
    "name": "made",
    "task": "features",
    "labels": [],
    "preprocess": None,
    "created_by": "edgecnn 0",
    "chosen": "float",
    "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8]},
    "output": {"name": "y", "dtype": "float32", "shape": ["N", 4, 8, 8]},
}


@pytest.fixture
def model() -> onnx.ModelProto:
    return parse(CONV_RELU_CONV, **WEIGHTS)


def golden(model: onnx.ModelProto) -> tuple[list[np.ndarray], list[np.ndarray]]:
    x = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    return [x], [open_session(model)({"x": x})["y"]]


def test_round_trip(model: onnx.ModelProto, tmp_path: Path) -> None:
    inputs, outputs = golden(model)
    pack(tmp_path / "m.edge", model, ABOUT, inputs, outputs, 0.0)
    bundle = open_bundle(tmp_path / "m.edge")
    assert (bundle.name, bundle.chosen, bundle.labels) == ("made", "float", ())
    assert verify(bundle).passed
    np.testing.assert_array_equal(bundle.golden()[0][0], inputs[0])
    np.testing.assert_allclose(bundle.session()({"x": inputs[0]})["y"], outputs[0], atol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == ["m.edge"]


def test_the_same_content_gives_the_same_bytes(model: onnx.ModelProto, tmp_path: Path) -> None:
    for name in ("a.edge", "b.edge"):
        pack(tmp_path / name, model, ABOUT, *golden(model), 0.0)
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()


def test_it_is_a_plain_zip(model: onnx.ModelProto, tmp_path: Path) -> None:
    pack(tmp_path / "m.edge", model, ABOUT, *golden(model), 0.0)
    with zipfile.ZipFile(tmp_path / "m.edge") as archive:
        data, program = ["model.onnx", "golden.npz"], [*device_code()]
        assert archive.namelist() == ["manifest.json", *data, *program]
        stored = [info.filename for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED]
        assert stored == data  # a device reads weights in place; text is worth its compression
        assert archive.testzip() is None
        assert {info.date_time[0] for info in archive.infolist()} == {1980}  # not the hour at which it was made
        onnx.checker.check_model(onnx.load_from_string(archive.read("model.onnx")), full_check=True)
        assert set(json.loads(archive.read("manifest.json"))["files"]) == {*data, *program}


def test_wrong_golden_outputs_write_nothing(model: onnx.ModelProto, tmp_path: Path) -> None:
    inputs, outputs = golden(model)
    with pytest.raises(CheckFailed, match=r"golden outputs differ by .* nothing written"):
        pack(tmp_path / "m.edge", model, ABOUT, inputs, [outputs[0] + 1.0], 0.0)
    assert list(tmp_path.iterdir()) == []


def test_the_limit_leaves_room_for_another_cpu(model: onnx.ModelProto, tmp_path: Path) -> None:
    inputs, outputs = golden(model)
    pack(tmp_path / "m.edge", model, ABOUT, inputs, [outputs[0] + 0.25], 0.25)
    limit = open_bundle(tmp_path / "m.edge").manifest["golden"]["limit_max_abs"]
    assert 0.5 < limit < 0.51


def heavy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle at `path` whose weights, 77 kB, are taken for too many to stay in the model."""
    monkeypatch.setattr(load, "EXTERNAL_ABOVE_BYTES", 100)
    model = parse("g (float[N,3,8,8] x) => (float[N,256,4,4] y) { y = Conv(x, w) }", w=(256, 3, 5, 5))
    pack(path, model, ABOUT, *golden(model), 0.0)


def test_many_weights_lie_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heavy(tmp_path / "m.edge", monkeypatch)
    bundle = open_bundle(tmp_path / "m.edge")
    assert bundle.manifest["files"]["model.onnx.data"]["bytes"] >= 4 * 256 * 3 * 5 * 5
    assert bundle.manifest["files"]["model.onnx"]["bytes"] < 2000
    assert verify(bundle).passed


def test_no_number_ends_a_build(tmp_path: Path) -> None:
    """JSON has no infinity."""
    path = tmp_path / "m.edge"
    write_bundle(path, {"a": [np.inf, -np.inf, {"b": (np.nan, 1.5, 3, True, None)}]}, {})
    with zipfile.ZipFile(path) as archive:
        found = json.loads(archive.read("manifest.json"))["a"]
    most = sys.float_info.max
    assert found == [most, -most, {"b": [-most, 1.5, 3, True, None]}]


class Picked(torch.nn.Module):
    """Maps of three classes and the class of each pixel, of which nearly all are the first."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.maps = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 3, 1)
        with torch.no_grad():
            self.maps.bias.copy_(torch.tensor([0.0, 50.0, 0.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.maps(torch.relu(self.seen(x))).argmax(1)


def test_int8_that_answers_exactly_as_float_does_is_built(tmp_path: Path) -> None:
    """Without noise SNR is infinite in dB."""
    images = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype(np.float32)
    path = tmp_path / "m.edge"
    api.build(Picked(), path, calib=images, input_shape=(3, 16, 16), task="segmentation", search_budget=1)
    with zipfile.ZipFile(path) as archive:
        text = archive.read("manifest.json").decode()
    assert "e+308" not in text, "dB that are told stay below 999"
    assert api.verify(path).passed
