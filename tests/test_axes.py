"""Networks of sound and volumes, from PyTorch to a bundle; the shape of a sample with and without its batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn import api
from edgecnn.networks.axes import axes_of, first_channels
from edgecnn.networks.sources import resolve
from edgecnn.networks.spec import sizes_in
from runtimes.base import BadInput


class Wave(nn.Module):
    input_shape = (2, 400)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(2, 16, 9, 4), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 32, 9, 2), nn.ReLU()
        )
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean(-1))


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 16, 3, 2), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3, 4)))


def test_axes_are_those_of_the_first_convolution() -> None:
    assert [axes_of(net) for net in (Wave(), Volume(), nn.Conv2d(4, 8, 3), nn.Linear(2, 2))] == [2, 4, 3, 3]
    assert [first_channels(net) for net in (Wave(), Volume(), nn.Conv2d(4, 8, 3), nn.Linear(2, 2))] == [2, 1, 4, 3]


@pytest.mark.parametrize(
    ("network", "given", "shape"),
    [
        (Wave(), None, (2, 400)),
        (Wave(), "2,320", (2, 320)),
        (Wave(), "x:[1,2,320]", (2, 320)),
        (Volume(), (1, 8, 12, 10), (1, 8, 12, 10)),
        (Volume(), "1,1,8,12,10", (1, 8, 12, 10)),
        (nn.Conv2d(1, 4, 3), "1,1,8,8", (1, 8, 8)),
        (nn.Conv2d(1, 4, 3), "1,8,8", (1, 8, 8)),
    ],
)
def test_a_batch_of_one_may_be_written_or_not(
    network: nn.Module, given: str | tuple[int, ...] | None, shape: tuple[int, ...]
) -> None:
    assert resolve(network, input_shape=given).input_shape == shape


@pytest.mark.parametrize(
    ("network", "given", "words"),
    [
        (Volume(), None, "Volume: does not say its input shape; give --input-shape C,D,H,W, or `input_shape` on it"),
        (Volume(), "1,32,32", "Volume: does not run on 1,1,32,32.*give --input-shape C,D,H,W"),
        (Wave(), "2,3,400", "Wave: does not run on 1,2,3,400.*give --input-shape C,L"),
    ],
)
def test_what_is_missing_is_named_as_the_network_has_it(network: nn.Module, given: str | None, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        resolve(network, input_shape=given)


@pytest.mark.parametrize("given", ["", "1,2,3,4,5,6", "0,4", "1,99999,4", str(2**29), ((3, 8, 8), (4,)), "x"])
def test_what_is_no_shape_is_refused(given: object) -> None:
    with pytest.raises(BadInput, match=r"shape"):
        sizes_in(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "shape"), [("Wave", (2, 400)), ("Volume", (1, 10, 12, 12))])
def test_the_whole_road(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    source, path, x = (
        f"{__file__}:{name}",
        tmp_path / "net.edge",
        np.random.default_rng(0).standard_normal((9, *shape), np.float32),
    )
    report = api.build(source, path, calib=x, input_shape=shape, search_budget=0, max_drop=1, allow_slower=True)
    assert report.chosen != "float"
    assert min(stage.snr_db for stage in report.stages if stage.name != "quantize" and stage.snr_db) > 90
    assert api.verify(path).failure is None
    network = resolve(source, input_shape=shape)
    with torch.no_grad():
        expected = network.module(torch.from_numpy(x[:4])).argmax(1)
    assert [one.label for one in api.run(path, x[:4]).classes] == [str(int(i)) for i in expected]
    assert api.check(source, path, input_shape=",".join(map(str, shape)), data=x, snr_db=15).passed


def test_the_length_of_a_wave_can_be_left_open(tmp_path: Path) -> None:
    found = api.export(f"{__file__}:Wave", tmp_path / "net.onnx", dynamic_size=True)
    assert found.stages[0].note.startswith("any length, proven at 400 and 501")
