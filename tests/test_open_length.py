"""`--dynamic-size` for signals and volumes: their length, or their three sides, stay open; every array has its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn import road
from edgecnn.checking.compare import check
from edgecnn.data.load import load_data
from edgecnn.data.resized import in_shape, resized
from edgecnn.evaluation.evaluate import evaluate
from edgecnn.latency.benchmark import bench
from edgecnn.networks.sources import resolve
from edgecnn.numbers.inspect import inspect
from edgecnn.open_size import another_size, found, next_size
from edgecnn.prediction import predict
from exported import normal, run_torch, seeded
from exporters.load import load_model
from runtimes.base import BadInput
from runtimes.bundle import GOLDEN_SIZE, open_bundle
from runtimes.execution.model_file import built_size
from runtimes.imaging.open_sizes import OPEN
from runtimes.session import open_session


class Signal(nn.Sequential):
    input_shape = (2, 48)

    def __init__(self) -> None:
        super().__init__(
            nn.Conv1d(2, 16, 5, 2, 2), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 16, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip


class Joined(nn.Module):
    """Half the length, back to twice that, and beside what it was: even lengths only."""

    input_shape, task = (1, 32), "regression"

    def __init__(self) -> None:
        super().__init__()
        self.down, self.head = nn.Conv1d(1, 8, 3, 2, 1), nn.Conv1d(9, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([nn.functional.interpolate(self.down(x), scale_factor=2.0), x], 1))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("length") / "net.edge"
    road.build(
        f"{__file__}:Signal", path, calib=normal(20, 2, 48), search_budget=0, max_drop=1,
        allow_slower=True, dynamic_size=True,
    )  # fmt: skip
    return path


def test_the_length_of_a_signal_stays_open(built: Path) -> None:
    bundle = open_bundle(built)
    assert bundle.manifest["input"]["shape"] == ["batch", 2, "length"]
    assert [check.shape for check in predict.verify(built).golden] == [(2, 48)] * 4 + [(2, 61)]
    inputs, outputs = bundle.golden(GOLDEN_SIZE)
    np.testing.assert_allclose(outputs[0], run_torch(seeded(Signal), inputs[0]), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(inputs[0], resized(bundle.golden()[0][0][:1], (61,)))


def test_a_float_graph_answers_every_length(tmp_path: Path) -> None:
    network = seeded(Signal)
    report = road.export(network, tmp_path / "net.onnx", input_shape=(2, 48), dynamic_size=True)
    assert report.stages[0].note == "any length, proven at 48 and 61"
    session = open_session(load_model(tmp_path / "net.onnx"))
    for length in (48, 5, 333):
        x = normal(3, 2, length)
        np.testing.assert_allclose(*session({"input": x}).values(), run_torch(network, x), rtol=0, atol=1e-5)


def test_every_array_is_answered_at_its_own_length(built: Path) -> None:
    session, x = open_bundle(built).session(), normal(1, 2, 77)
    (numbers,) = session({"input": x}).values()
    (one,) = predict.run(built, x[0]).predictions
    assert one.label == str(int(numbers.argmax()))
    assert len(predict.run(built, normal(4, 2, 30)).predictions) == 4
    with pytest.raises(BadInput, match=r"is float32 \[3, 48\]; this network needs float \[2, any\] or \[N, 2, any\]"):
        predict.run(built, normal(3, 48))
    data = (normal(30, 2, 77), np.arange(30) % 3)
    ((_, score),) = evaluate(str(built), data=data).models
    assert score.value == pytest.approx((session({"input": data[0]})["logits"].argmax(1) == data[1]).mean())
    assert check(f"{__file__}:Signal", str(built), data=normal(6, 2, 48), snr_db=10).passed


def test_what_is_made_up_has_the_length_that_it_was_built_for(built: Path) -> None:
    assert built_size(built, 2) == ("2,2,48",)
    assert "counted at 2x48, for which it was built" in inspect(built).warnings[0]
    assert bench(built, iterations=2).models[0].fed == {"input": (1, 2, 48)}
    assert bench(built, iterations=2, input_shape="2,100").models[0].fed == {"input": (1, 2, 100)}
    with pytest.raises(BadInput, match="random: the model leaves the size of its input open; give --input-shape"):
        load_data("random:2", (2, OPEN))[0]


def test_a_length_in_steps_is_said(tmp_path: Path) -> None:
    network = seeded(Joined)
    report = road.export(network, tmp_path / "net.onnx", input_shape=(1, 32), dynamic_size=True)
    assert report.stages[0].note == "lengths in steps of 2 from 32, proven at 32 and 42"


@pytest.mark.parametrize(
    ("halved", "shape"), [((1, 2), (1, 32, 64)), ((2, 1), (1, 32, 64)), ((1, 1, 2), (2, 8, 16, 32))]
)
def test_any_size_is_said_only_where_every_side_was_odd(halved: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Halved along one side, doubled, and put beside what it was: that side has to be even."""

    class Joined(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pool = nn.functional.max_pool2d if len(halved) == 2 else nn.functional.max_pool3d
            up = nn.functional.interpolate(pool(x, halved), scale_factor=tuple(map(float, halved)))
            return torch.cat([x, up], 1)

    _, said = found(resolve(Joined(), input_shape=shape))
    assert "in steps of 2" in said


def test_volumes_have_three_open_sides(tmp_path: Path) -> None:
    network = seeded(lambda: nn.Sequential(nn.Conv3d(1, 8, 3), nn.ReLU(), nn.Conv3d(8, 2, 1)))
    report = road.export(network, tmp_path / "net.onnx", input_shape=(1, 6, 8, 8), dynamic_size=True)
    assert report.stages[0].note == "any depth, height and width, proven at 6x8x8 and 9x11x13"
    session, x = open_session(load_model(tmp_path / "net.onnx")), normal(2, 1, 9, 5, 7)
    np.testing.assert_allclose(*session({"input": x}).values(), run_torch(network, x), rtol=0, atol=1e-5)


def test_a_pool_to_several_places_ties_a_signal_to_its_length(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Conv1d(2, 8, 3), nn.AdaptiveMaxPool1d(4), nn.Flatten(), nn.Linear(32, 3))
    with pytest.raises(BadInput, match=r"works at 48 only \(torch exports its AdaptiveMaxPool1d\(4\) for that size"):
        road.export(tied, tmp_path / "net.onnx", input_shape=(2, 48), dynamic_size=True)
    flat = nn.Sequential(nn.Linear(7, 3))
    with pytest.raises(BadInput, match=r"takes \[7\], nothing with sides; leave --dynamic-size out"):
        road.export(flat, tmp_path / "net.onnx", input_shape=(7,), dynamic_size=True)


def test_other_sizes_of_signals_and_volumes() -> None:
    assert (another_size((1, 16000)), next_size((1, 64), 32)) == ((1, 20001), (1, 160))
    assert (another_size((1, 6, 8, 8)), next_size((1, 8, 8, 8), 2)) == ((1, 9, 11, 13), (1, 14, 10, 10))
    signals = normal(2, 3, 40)
    assert in_shape(signals, (3, 20)).shape == (2, 3, 20)
    np.testing.assert_allclose(in_shape(signals[:, :1] * 0 + 5, (1, 55)), 5, rtol=1e-6)
    with pytest.raises(BadInput, match=r"inputs of \[3, 40\]: cannot be resized to \[2, 40\]"):
        in_shape(signals, (2, 40))
