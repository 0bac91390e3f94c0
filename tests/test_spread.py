"""Golden samples are taken from all over the data; oracle: the sequence by hand, classes counted."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from edgecnn import api
from edgecnn.data import spread as module
from edgecnn.data.samples import Samples
from edgecnn.data.spread import halves, spread
from edgecnn.networks.spec import unit_range
from exporters.artifact import Identity, write_identity
from runtimes.bundle import open_bundle
from small_nets import conv_net


def numbers(count: int, labels: list[int] | None = None) -> Samples:
    ids, classes = tuple(map(str, range(count))), None if labels is None else np.array(labels)
    return Samples("n", ids, lambda i: np.float32([i]), classes)


def test_examples() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 7, 16, 100, 1000])
def test_all_once_and_any_few_are_spread(length: int) -> None:
    order = list(halves(length))
    assert sorted(order) == list(range(length))
    for few in (2, 4, 8):
        if length >= 2 * few:
            gaps = np.diff([*sorted(order[:few]), length])
            assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (None, ["0", "5", "2", "7"]),
        ([0] * 6 + [1] * 2 + [4] * 2, ["0", "6", "8", "1"]),
        ([3] * 10, ["0", "1", "2", "3"]),
        ([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], ["9", "8", "7", "6"]),
    ],
)
def test_a_few(labels: list[int] | None, found: list[str]) -> None:
    assert list(spread(numbers(10, labels), 4).ids) == found
    assert len(spread(numbers(10, labels), 99)) == 10


NET = """
from torch import nn
class Net(nn.Sequential):
    input_shape = (3, 8, 8)
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
"""


@pytest.fixture
def shades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five classes, ten pictures each, as bright as the number of their class."""
    monkeypatch.chdir(tmp_path)
    for i in range(50):
        path = tmp_path / "shades" / "abcde"[i // 10] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i // 10 * 50, i % 10, 0)).save(path)
    return Path("shades")


def classes_shown(bundle: Path | str) -> list[int]:
    """The class of each golden sample, by its brightness."""
    opened = open_bundle(Path(bundle))
    assert opened.preprocess is not None
    red = opened.golden()[0][0][:, 0, 0, 0]
    red = red if red.dtype == np.uint8 else (red * opened.preprocess.std[0] + opened.preprocess.mean[0]) * 255
    return [round(float(value) / 50) for value in red]


@pytest.mark.parametrize("pixels", ["float32", "uint8"])
def test_golden_samples_of_a_build(pixels: str, shades: Path) -> None:
    Path("net.py").write_text(NET)
    api.build("net.py:Net", "n.edge", calib=shades, data=shades, input=pixels, search_budget=0)
    assert classes_shown("n.edge") == [0, 1, 2, 3]
    api.build("net.py:Net", "m.edge", calib=shades, limit=20, input=pixels, search_budget=0)
    assert len(set(classes_shown("m.edge"))) == 4


def test_golden_samples_of_a_file(shades: Path) -> None:
    model = conv_net()
    write_identity(model, Identity("net", "classification", tuple("abcdefghij"), unit_range(8, 8)))
    onnx.save(model, "m.onnx")
    api.quantize("m.onnx", "m.edge", shades, data=shades, search_budget=0)
    assert classes_shown("m.edge") == [0, 1, 2, 3]
