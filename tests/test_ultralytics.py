"""Modules of another package's kind: what they say of themselves is understood, and they are exported as they must be.

The package is not needed: `Yolo` behaves as its modules do. Where it is installed, its own networks are tried too.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgecnn import api
from edgecnn.networks import ultralytics
from edgecnn.networks.own_attributes import carried
from edgecnn.networks.sources import blueprint, resolve
from exporters.load import load_model
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import open_session


class Head(nn.Module):
    """Answers with (head, features) and keeps the grid of the first batch, unless it is told that it is exported."""

    export = False
    dynamic = False

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv, self.shape = nn.Conv2d(channels, width, 1), None

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        seen = self.conv(x)
        if self.dynamic or self.shape != x.shape:
            self.shape = x.shape
            ys, xs = torch.meshgrid(torch.arange(x.shape[2]) * 8.0, torch.arange(x.shape[3]) * 8.0, indexing="ij")
            self.middle = 4 + torch.stack([xs.reshape(-1), ys.reshape(-1)])
        flat = seen.flatten(2)
        near = self.middle + flat[:, :2]
        answer = torch.cat([near, 20 + 4 * flat[:, 2:4], (4 * flat[:, 4:]).sigmoid()], 1)
        return answer if self.export else (answer, seen)


class Yolo(nn.Module):
    def __init__(self, task: str = "detect", names: dict[int, str] | None = None, args: object = None) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 8, 8), Head(8, 7)
        self.task, self.names, self.args = task, names or {1: "dog", 0: "cat", 2: "cow"}, args

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        return self.head(self.stem(x))


class Handle(nn.Module):
    """As `YOLO("best.pt")` is: it holds the network, and is none."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def predict(self) -> None: ...
    def export(self) -> None: ...


Yolo.__module__ = Handle.__module__ = "ultralytics.nn.tasks"


@pytest.fixture
def yolo() -> Yolo:
    torch.manual_seed(0)
    return Yolo(args={"imgsz": 64})


def test_a_detector_is_understood(yolo: Yolo) -> None:
    network = resolve(yolo)
    assert (network.task, network.classes, network.labels) == ("detection", 3, ("cat", "dog", "cow"))
    assert network.input_shape == (3, 64, 64)
    assert network.preprocess == Preprocess((64, 64), letterbox=114, antialias=False)
    assert network.assumption() == ""
    assert (yolo.task, yolo.head.export, yolo.head.dynamic) == ("detect", False, False)


def test_the_exported_graph_takes_any_batch(yolo: Yolo, tmp_path: Path) -> None:
    api.export(yolo, tmp_path / "net.onnx")
    session = open_session(load_model(tmp_path / "net.onnx"))
    images = np.random.default_rng(0).random((3, 3, 64, 64), np.float32)
    found = session({session.inputs[0].name: images})
    assert {0, 1, 2} == {*found["image"]}
    boxes, *_ = resolve(yolo).module(torch.from_numpy(images))
    np.testing.assert_allclose(found["boxes"], boxes.detach().numpy(), atol=1e-3)


def test_a_handle_is_the_network_in_it(yolo: Yolo) -> None:
    assert resolve(Handle(yolo)).classes == 3


def test_who_gives_it_has_the_last_word(yolo: Yolo, tmp_path: Path) -> None:
    network = resolve(yolo, input_shape="3,96,64", decode="yolov8:score=0.9")
    assert network.input_shape == (3, 96, 64)
    assert network.preprocess == Preprocess((96, 64), letterbox=114, antialias=False)
    assert network.module.tail.how.low == 0.9  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("task", "means", "decode", "preprocess"),
    [
        ("classify", "classification", None, {"resize": 640}),
        ("segment", "other", None, {"letterbox": 114, "antialias": False}),
        ("detect", "detection", "yolov8", {"letterbox": 114, "antialias": False}),
    ],
)
def test_each_task_in_our_words(task: str, means: str, decode: str | None, preprocess: dict[str, int]) -> None:
    found = ultralytics.told(Yolo(task))
    assert (found.task, getattr(found, "decode", None), found.preprocess) == (means, decode, preprocess)
    assert found.input_shape == (3, 640, 640)
    assert (getattr(found, "labels", ()) != ()) == (means != "other")


def test_a_network_that_chooses_its_boxes() -> None:
    module = Yolo()
    module.end2end = True  # type: ignore[assignment]
    assert ultralytics.told(module).decode == "yolov10"


@pytest.mark.parametrize(
    ("args", "shape"),
    [
        (SimpleNamespace(imgsz=320), (3, 320, 320)), ({"imgsz": [96, 128]}, (3, 96, 128)),
        ({"imgsz": [96]}, (3, 96, 96)), ({}, (3, 640, 640)),
        ({"imgsz": "x"}, (3, 640, 640)), ({"imgsz": [0, 5]}, (3, 640, 640)),
    ],
)  # fmt: skip
def test_the_size_that_it_was_trained_at(args: object, shape: tuple[int, ...]) -> None:
    assert ultralytics.told(Yolo(args=args)).input_shape == shape


def test_numbers_are_no_names() -> None:
    assert not hasattr(ultralytics.told(Yolo(names={0: "0", 1: "1", 2: "2"})), "labels")


def test_code_of_other_people_may_call_its_task_otherwise(yolo: Yolo) -> None:
    """`--task` decides; without it the line names the attribute."""
    other = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    other.task = "text2image"  # type: ignore[assignment]
    other.input_shape = (3, 8, 8)  # type: ignore[assignment]
    assert ultralytics.told(other) is other
    with pytest.raises(BadInput, match=r"Sequential\.task: text2image: unknown task"):
        resolve(other)
    assert resolve(other, task="multi-label").task == "multi-label"
    assert carried(blueprint(other), other, "regression").tasked


# ------------------------------------------------------------------------------------------------------ the real ones
@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), [("yolov8n", "yolov8"), ("yolo11n", "yolov8"), ("yolo26n", "yolov10")])
def test_the_packages_own_networks(name: str, head: str, tmp_path: Path) -> None:
    package = pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    model = package.YOLO(f"{name}.yaml").model
    if head == "yolov10":
        model.end2end = True
    network = resolve(model, input_shape="3,64,96")
    assert (network.task, network.classes) == ("detection", 80 if head == "yolov8" else None)
    report = api.export(model, tmp_path / "net.onnx", input_shape="3,64,96", decode=f"{head}:score=0.001")
    assert report.stages
    assert load_model(tmp_path / "net.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param
    onnx.checker.check_model(load_model(tmp_path / "net.onnx"))
