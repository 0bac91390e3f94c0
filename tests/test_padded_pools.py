"""exporters/padded_pools.py: ONNX Runtime's optimizer leaves a MaxPool behind a Pad what the standard says it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from onnx.reference import ReferenceEvaluator
from torch import nn

from edgecnn import road
from edgecnn.choosing.quantizing import quantize
from exported import normal, run_torch, seeded
from exporters.load import load_model
from exporters.padded_pools import keep_apart
from runtimes.session import open_session
from small_nets import save

CONSTANTS = "int64[8] p = {0, 0, 1, 0, 0, 0, 1, 1}, int64[4] a = {0, 1, 2, 3}, float v = {-0.5}"
LEAST = "float least = {-3.4028235e38}"
CHANGED = {
    "no pads": "q = Pad (x, p) y = MaxPool <kernel_shape = [2, 2]> (q)",
    "zero pads": "q = Pad (x, p, v) y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 0, 0]> (q)",
    "pads of its own": "q = Pad (x, p) y = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (q)",
    "pads of its own, a value": "q = Pad (x, p, v) y = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (q)",
    "behind what may be negative": "l = LeakyRelu (x) q = Pad (l, p) y = MaxPool <kernel_shape = [2, 2]> (q)",
}
LEFT = {
    "least": "q = Pad (x, p, least) y = MaxPool <kernel_shape = [2, 2]> (q)",
    "edge": 'q = Pad <mode = "edge"> (x, p) y = MaxPool <kernel_shape = [2, 2]> (q)',
    "never negative": "l = Relu (x) q = Pad (l, p) y = MaxPool <kernel_shape = [2, 2]> (q)",
    "valid": 'q = Pad (x, p) y = MaxPool <kernel_shape = [2, 2], auto_pad = "VALID"> (q)',
    "axes": "q = Pad (x, p, , a) y = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (q)",
    "average": "q = Pad (x, p) y = AveragePool <kernel_shape = [2, 2]> (q)",
    "no pad": "q = Relu (x) y = MaxPool <kernel_shape = [2, 2]> (q)",
}
X = -1 - np.abs(normal(2, 3, 6, 7))


def graph(body: str, opset: int = 20) -> onnx.ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[N, 3, 6, 7] x) => (float[N, 3, A, B] y)'
    return parser.parse_model(f"{head} <{CONSTANTS}, {LEAST}> {{ {body} }}")


@pytest.mark.parametrize("name", CHANGED)
def test_the_optimizer_changes_nothing(name: str, tmp_path: Path) -> None:
    model = load_model(save(graph(CHANGED[name]), tmp_path / "m.onnx"))
    (expected,) = ReferenceEvaluator(graph(CHANGED[name])).run(None, {"x": X})
    np.testing.assert_array_equal(open_session(model)({"x": X})["y"], expected)
    assert keep_apart(model) == 0


@pytest.mark.parametrize("name", LEFT)
def test_what_is_right_is_left_alone(name: str) -> None:
    model = graph(LEFT[name])
    before = model.SerializeToString()
    assert keep_apart(model) == 0
    assert model.SerializeToString() == before
    (expected,) = ReferenceEvaluator(model).run(None, {"x": X})
    np.testing.assert_array_equal(open_session(model)({"x": X})["y"], expected)


OLD = "q = Pad <pads = [0, 0, 1, 0, 0, 0, 1, 1]> (x) y = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (q)"


@pytest.mark.parametrize(("opset", "body"), [(10, OLD), (11, ""), (17, ""), (20, "")])
def test_pads_of_its_own_go_into_a_second_pad(opset: int, body: str) -> None:
    """Oracle: the graph unoptimized."""
    model = graph(body or CHANGED["pads of its own"], opset)
    expected = open_session(model, optimize=False)({"x": X})["y"]
    assert keep_apart(model) == 1
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(open_session(model)({"x": X})["y"], expected)


def test_what_hangs_over_the_end_stays() -> None:
    rounded = CHANGED["pads of its own"].replace("pads = [", "ceil_mode = 1, pads = [")
    assert keep_apart(graph(rounded)) == 0


class Tiny(nn.Module):
    """As YOLOv3-tiny pools: zeros beside what a LeakyReLU left."""

    input_shape = (3, 12, 12)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.head = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 2, 1), nn.Linear(16, 4)
        nn.init.constant_(self.conv.bias, -2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = nn.functional.pad(nn.functional.leaky_relu(self.conv(x), 0.1), (0, 1, 0, 1))
        return self.head(self.last(nn.functional.max_pool2d(padded, 2, 1)).mean((2, 3)))


def test_such_a_network_goes_the_road(tmp_path: Path) -> None:
    network = seeded(Tiny)
    report = road.export(network, tmp_path / "net.onnx", input_shape=(3, 12, 12))
    assert min(stage.snr_db for stage in report.stages if stage.snr_db is not None) >= 90
    x = normal(2, 3, 12, 12)
    (answer,) = open_session(report.output)({"input": x}).values()
    np.testing.assert_allclose(answer, run_torch(network, x), rtol=0, atol=1e-5)
    found = quantize(report.output, tmp_path / "q.onnx", "random:8", allow_slower=True, max_drop=1, search_budget=0)
    assert found.snr_db is not None
    assert found.snr_db > 20
