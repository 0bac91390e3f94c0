"""`--dynamic-size`: height and width stay open from the export to the bundle, proven at two sizes, and in int8."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn import proof, road, stages
from edgecnn.choosing.quantizing import quantize
from edgecnn.data.resized import resized
from edgecnn.latency.benchmark import bench
from edgecnn.models.alexnet import AlexNet
from edgecnn.models.rcnn import RCNN, FastRCNN
from edgecnn.models.vgg import VGG
from edgecnn.models.yolo import YOLOv1
from edgecnn.networks.sources import Network, resolve
from edgecnn.networks.spec import unit_range
from edgecnn.open_size import another_size
from edgecnn.prediction import predict
from exported import normal, run_torch, seeded
from exporters import artifact
from exporters.load import load_model
from runtimes.base import BadInput, CheckFailed, Runner, Tensors
from runtimes.bundle import GOLDEN_SIZE, open_bundle
from runtimes.execution.feeds import TensorInfo
from runtimes.proof.answers import MaskPrediction
from runtimes.proof.settling import settle
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
    assert report.stages[0].note == "any height and width, proven at 24x32 and 31x39"
    model = load_model(tmp_path / "net.onnx")
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    session = open_session(model)
    assert session.inputs[0].shape == ("batch", 3, "height", "width")
    assert session.outputs[0].shape[1] == 4
    for size in ((24, 32), (9, 13), (50, 21)):
        x = normal(2, 3, *size)
        (answer,) = session({"input": x}).values()
        np.testing.assert_allclose(answer, run_torch(network, x), rtol=0, atol=1e-5)  # sums of 144 products


class Joined(nn.Module):
    """Half the size, back to twice that, and beside what it was: even sizes only."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(11, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up = nn.functional.interpolate(self.down(x), scale_factor=2.0)
        return self.head(torch.cat([up, x], 1))


def test_a_network_that_takes_sizes_in_steps_is_proven_at_such_a_size(tmp_path: Path) -> None:
    """Yolov3's two heads are joined so. The smallest step that runs is said, not the first that was tried."""
    network = seeded(Joined)
    report = road.export(network, tmp_path / "net.onnx", input_shape=(3, 32, 64), dynamic_size=True)
    assert report.stages[0].note == "heights and widths in steps of 2 from 32x64, proven at 32x64 and 42x74"
    session = open_session(report.output)
    for size in ((32, 32), (34, 66), (64, 160)):
        x = normal(1, 3, *size)
        np.testing.assert_allclose(session({"input": x})["output"], run_torch(network, x), rtol=0, atol=1e-5)


def test_an_int8_graph_keeps_its_open_size(tmp_path: Path) -> None:
    road.export(seeded(Segmenter), tmp_path / "net.onnx", input_shape=(3, 24, 32), dynamic_size=True)
    quantize(
        tmp_path / "net.onnx", tmp_path / "int8.onnx", "random:8", input_shape="3,24,32",
        allow_slower=True, max_drop=1, search_budget=0,
    )  # fmt: skip
    session = open_session(load_model(tmp_path / "int8.onnx"))
    assert artifact.read_stages(load_model(tmp_path / "int8.onnx"))[-1].name == "quantize"
    for size in ((24, 32), (40, 17)):
        (answer,) = session({"input": normal(1, 3, *size)}).values()
        assert answer.shape == (1, 4, *size)
        assert np.isfinite(answer).all()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("open") / "net.edge"
    road.build(
        f"{__file__}:Segmenter", path, calib="shapes:20", search_budget=0, max_drop=1,
        allow_slower=True, dynamic_size=True, keep_float=True,
    )  # fmt: skip
    return path


def test_a_bundle_of_open_size_is_proven_at_two_sizes(built: Path) -> None:
    bundle = open_bundle(built)
    assert bundle.chosen in ("int8", "mixed")  # mixed: unsigned weights may be slower than float
    assert bundle.manifest["input"]["shape"] == ["batch", 3, "height", "width"]
    report = predict.verify(built)
    assert report.failure is None
    assert [check.shape for check in report.golden] == [(3, 24, 32)] * 4 + [(3, 31, 39)]
    assert "5 golden outputs of 2 sizes" in report.verdict
    inputs, outputs = bundle.golden(GOLDEN_SIZE)
    np.testing.assert_allclose(outputs[0], run_torch(seeded(Segmenter), inputs[0]), rtol=0, atol=1e-5)


def test_both_graphs_of_an_open_size_are_proven_at_two_sizes(built: Path, tmp_path: Path) -> None:
    report = settle(built, tmp_path / "here.edge")
    shapes = [(3, 24, 32)] * 4 + [(3, 31, 39)]
    assert [check.shape for check in report.float_graph.proof.golden] == shapes
    assert report.float_graph.worst.limit < report.rival.worst.limit / 10
    assert [check.shape for check in predict.verify(tmp_path / "here.edge").golden] == shapes


def test_the_second_size_has_a_limit_of_its_own(built: Path, tmp_path: Path) -> None:
    """Changed in the manifest, which is not hashed; a set of samples without a limit, or the reverse, is no bundle."""
    for change, holds in ({"images": 1, "limit_max_abs": 1e-9}, False), ({"images": 1, "limit_max_abs": 9.0}, True):
        manifest = json.loads(zipfile.ZipFile(built).read("manifest.json"))
        manifest["golden"]["other_size"] = change
        assert predict.verify(repacked(built, tmp_path / "copy.edge", manifest)).passed is holds
    for wrong in (None, {"images": 1}):
        manifest["golden"]["other_size"] = wrong
        with pytest.raises(BadInput, match="wrong 'golden'"):
            open_bundle(repacked(built, tmp_path / "copy.edge", manifest))
    del manifest["golden"]["other_size"]
    with pytest.raises(BadInput, match="wrong 'golden'"):
        open_bundle(repacked(built, tmp_path / "copy.edge", manifest))


def test_the_second_size_shows_values_of_the_data(built: Path) -> None:
    """Where an output grows without bounds, made-up pictures would give a limit that anything passes."""
    bundle = open_bundle(built)
    (own,), (other,) = bundle.golden()[0], bundle.golden(GOLDEN_SIZE)[0]
    np.testing.assert_array_equal(other, resized(own[:1], (31, 39)))


def repacked(bundle: Path, copy: Path, manifest: dict[str, Any]) -> Path:
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            new.writestr(name, json.dumps(manifest) if name == "manifest.json" else old.read(name))
    return copy


@pytest.mark.usefixtures("quick_measurements")
def test_bench_takes_the_size_that_it_was_built_for(built: Path) -> None:
    """Where nothing says another: of two bundles they are fed what the first was built for."""
    alone = bench(built, iterations=2, batch=2)
    assert alone.models[0].fed == {"input": (2, 3, 24, 32)}
    raced = bench([built, built], iterations=2)
    assert [model.fed for model in raced.models] == [{"input": (1, 3, 24, 32)}] * 2
    asked = bench(built, iterations=2, input_shape="1,3,40,48")
    assert asked.models[0].fed == {"input": (1, 3, 40, 48)}


def test_run_at_another_size(built: Path) -> None:
    """The mask comes back in the size of the picture, but is made at the size that was asked for."""
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    own, larger = predict.run(built, picture), predict.run(built, picture, input_shape="3,48,64")
    assert isinstance(own.predictions[0], MaskPrediction)
    assert isinstance(larger.predictions[0], MaskPrediction)
    assert own.predictions[0].mask.shape == larger.predictions[0].mask.shape == (60, 80)
    assert (own.predictions[0].mask != larger.predictions[0].mask).any()
    ready = normal(1, 3, 17, 40)
    assert len(predict.run(built, ready, input_shape="3,17,40").predictions) == 1
    with pytest.raises(BadInput, match=r"--input-shape 1,17,40: the model's input input is \[batch, 3, height"):
        predict.run(built, picture, input_shape="1,17,40")


def test_a_graph_that_is_another_function_at_the_second_size_is_not_packed() -> None:
    network = resolve(f"{__file__}:Segmenter")
    reference = stages.Reference(
        network, stages.made_images(network, True, 0, another_size(network.ready)), ("logits",)
    )
    inputs = (TensorInfo("input", "float32", ("batch", 3, "height", "width")),)
    outputs = (TensorInfo("logits", "float32", ("batch", 4, "height", "width")),)

    def baked(feeds: Tensors) -> Tensors:
        wrong = 1.0 if feeds["input"].shape[2:] != (24, 32) else 0.0
        return {"logits": reference(feeds)["logits"] + wrong}

    with pytest.raises(CheckFailed, match=r"^size 31x39: .* dB to the PyTorch module, at 24x32 inf dB; leave"):
        proof.other_size(reference, Stub(inputs, outputs, baked))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Stub:
    """What `proof` asks of a session."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    run: Runner

    def __call__(self, feeds: Tensors) -> Tensors:
        return self.run(feeds)


def test_a_graph_that_works_at_one_size_only_is_refused(tmp_path: Path) -> None:
    why = "torch's exporter ties it to that size: the graph answers otherwise at 31x39"
    with pytest.raises(BadInput, match=rf"^Pooled: works at 24x32 only \({why}\); leave"):
        road.export(seeded(Pooled), tmp_path / "net.onnx", input_shape=(3, 24, 32), dynamic_size=True)
    assert not (tmp_path / "net.onnx").exists()
    road.export(seeded(Pooled), tmp_path / "net.onnx", input_shape=(3, 24, 32))


def test_a_network_that_runs_at_one_size_only_is_refused_before_the_export(tmp_path: Path) -> None:
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 22 * 30, 5))
    why = r"PyTorch at 31x39: (addmm: )?mat1 and mat2 shapes cannot be multiplied \(.*\)"
    with pytest.raises(BadInput, match=rf"^Sequential: works at 24x32 only \({why}\); leave --dynamic-size out$"):
        road.export(flat, tmp_path / "net.onnx", input_shape=(3, 24, 32), dynamic_size=True)


WINDOWS = "its grid of windows is laid out for it"
MISFIT = r"PyTorch at 161x147: (addmm: )?mat1 and mat2 shapes cannot be multiplied"
"""torch names the operator from 2.14 on."""
TIED = [
    (lambda: RCNN(3, hidden=16), WINDOWS),
    (lambda: FastRCNN(3, hidden=16), WINDOWS),
    (lambda: YOLOv1(3, hidden=16, grid=2), MISFIT),
    (lambda: AlexNet(3, hidden=16), re.escape("torch exports its AdaptiveAvgPool2d((6, 6)) for that size alone")),
    (
        lambda: VGG(((4,),) * 5, False, 3, 16),
        re.escape("torch exports its AdaptiveAvgPool2d((7, 7)) for that size alone"),
    ),
]


@pytest.mark.parametrize(("make", "why"), TIED, ids=["rcnn", "fast_rcnn", "yolov1", "alexnet", "vgg"])
def test_networks_of_the_zoo_that_have_one_size_say_why_before_the_export(
    make: Callable[[], nn.Module], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "export_module", None)  # long work
    line = rf"^\w+: works at 128x128 only \({why}.*\); leave --dynamic-size out$"
    with pytest.raises(BadInput, match=line):
        road.export(make(), tmp_path / "net.onnx", input_shape=(3, 128, 128), dynamic_size=True)


def test_what_torch_cannot_export_with_open_sizes_is_told_so(tmp_path: Path) -> None:
    class Rounded(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[..., : round(x.shape[2] / 3)]

    with pytest.raises(BadInput, match=r"^torch cannot export this network: .*; it may without --dynamic-size$"):
        road.export(Rounded(), tmp_path / "net.onnx", input_shape=(3, 24, 32), dynamic_size=True)


def test_the_proof_uses_two_sizes() -> None:
    ready = unit_range(24, 32)
    network = Network("net", nn.Identity(), (3, 24, 32), ready)
    shapes = [
        feed[stages.INPUT_NAME].shape for feed in stages.made_images(network, True, 0, another_size(network.ready))
    ]
    assert shapes == [(1, 3, 24, 32), (3, 3, 24, 32), (1, 3, 31, 39)]
    assert [f[stages.INPUT_NAME].shape for f in stages.made_images(network, False, 0)] == [(1, 3, 24, 32)] * 2
