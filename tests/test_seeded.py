"""Seeded inputs stay where the model was made for: an int8 model is never blamed for what its input grid clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecnn.checking.compare import check
from edgecnn.checking.diff import diff
from edgecnn.data.seeded import range_by_input, seeded_feeds, words_for
from edgecnn.runners import open_subject
from exporters.artifact import Identity, write_identity
from exporters.quantization.input_range import input_ranges
from exporters.quantization.quantize import QuantRecipe, quantize_model
from runtimes.imaging.preprocess import UINT8, UINT8_NHWC, Preprocess
from runtimes.session import TensorInfo, random_feeds
from small_nets import conv_net, model, save

UNIT = Preprocess((8, 8))
GRID = {"s": np.float32(1 / 64), "z": np.uint8(64)}


def calibrated(low: float = 0.0, high: float = 1.0) -> tuple:
    """A float network, and its int8 graph for inputs from `low` to `high`."""
    net, rng = conv_net(), np.random.default_rng(0)
    feeds = [{"x": rng.uniform(low, high, (1, 3, 8, 8)).astype(np.float32)} for _ in range(16)]
    return net, quantize_model(net, feeds, QuantRecipe()).model


@pytest.mark.parametrize("carried", [UNIT, None])
def test_a_healthy_int8_model_is_not_blamed_on_seeded_inputs(tmp_path: Path, carried: Preprocess | None) -> None:
    made = calibrated()
    if carried is not None:
        for one in made:
            write_identity(one, Identity("net", preprocess=carried))
    good, int8 = (save(one, tmp_path / name) for one, name in zip(made, ("f.onnx", "q.onnx"), strict=True))
    report, checked = diff(good, int8), check(good, int8)
    assert report.first is None
    assert report.output_db > 30
    words = "made pictures (seed 0)" if carried else "random inputs within the int8 range (seed 0)"
    assert report.data == checked.data == words
    assert checked.passed
    assert checked.parity.snr_db > 30
    assert (3, 3, 8, 8) in checked.sizes  # the other batch is such a picture, too


def test_noise_would_have_been_clipped() -> None:
    """What this file is for: the same graphs part on standard normal numbers."""
    from edgecnn.checking.common_points import compare_sides
    from edgecnn.checking.diff import find
    from edgecnn.checking.sides import graph_side

    sides = [graph_side(one, name) for one, name in zip(calibrated(), ("f", "q"), strict=True)]
    feeds = [random_feeds(sides[0].inputs, 1, seed) for seed in range(3)]
    assert find(compare_sides(*sides, feeds)).first is not None


@pytest.mark.parametrize(
    ("graph", "low", "high"),
    [
        ("{ y = QuantizeLinear (x, s, z) }", -1.0, 191 / 64),
        ("{ y = QuantizeLinear (x, s) }", 0.0, 255 / 64),
        ("{ t = Transpose (x) f = Flatten (t) y = QuantizeLinear (f, s, z) }", -1.0, 191 / 64),
    ],
)
def test_the_range_of_a_grid(graph: str, low: float, high: float) -> None:
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4, 4] x) => (uint8[N, M] y) '
    assert input_ranges(model(head + graph, **GRID)) == {"x": (low, high)}


def test_an_input_that_is_not_rounded_first_has_no_range() -> None:
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4, 4] x) => (uint8[4, 4] y) '
    assert input_ranges(model(head + "{ r = Relu (x) y = QuantizeLinear (r, s, z) }", **GRID)) == {}
    assert input_ranges(conv_net()) == {}


class Model:
    def __init__(self, shape: tuple, carried: Preprocess | None = None, dtype: str = "float32", **ranges: tuple):
        self.inputs = (TensorInfo("x", dtype, shape),)
        self.carried, self.preprocess, self.ranges = carried, carried, ranges


@pytest.mark.parametrize("shape", [(1, 3, 9, 7), (2, 5)])
def test_values_fill_the_range_and_stay_in_it(shape: tuple) -> None:
    one = Model(shape, x=(2.0, 6.0))
    values = np.concatenate([seeded_feeds([one], one.inputs, 1, seed)["x"].ravel() for seed in range(9)])
    assert 2 <= values.min() < 2.5
    assert 5.5 < values.max() <= 6


def test_the_ranges_of_both_models_count_by_place() -> None:
    one, other = Model((1, 5), x=(0.0, 4.0)), Model((1, 5), other=(1.0, 9.0))
    other.inputs = (TensorInfo("other", "float32", (1, 5)),)
    assert range_by_input([one, other]) == {"x": (1.0, 4.0)}


@pytest.mark.parametrize(
    ("ready", "shape"),
    [
        (Preprocess((8, 8), mean=(0.5,), std=(0.25,), resize=9), (1, 3, 8, 8)),
        (Preprocess((8, 8), channels=1, mean=(0.5,), std=(0.25,)), (2, 1, 5, 12)),
        (Preprocess((8, 8), input=UINT8), (1, 3, 8, 8)),
        (Preprocess((8, 8), input=UINT8_NHWC), (1, 6, 8, 3)),
    ],
)
def test_pictures_are_preprocessed(ready: Preprocess, shape: tuple) -> None:
    one = Model(shape, ready, ready.dtype.name)
    feed = seeded_feeds([one], one.inputs, 1, 0)
    assert feed["x"].shape == shape
    assert feed["x"].dtype == ready.dtype
    pixels = feed["x"] if ready.dtype == np.uint8 else (feed["x"] * 0.25 + 0.5) * 255
    assert np.abs(pixels - np.rint(pixels)).max() < 1e-3
    assert 90 < pixels.mean() < 150
    assert words_for([one], feed, 0) == "made pictures (seed 0)"
    assert np.array_equal(feed["x"], seeded_feeds([one], one.inputs, 1, 0)["x"])
    assert not np.array_equal(feed["x"], seeded_feeds([one], one.inputs, 1, 1)["x"])


def test_a_preprocessing_of_something_else_gives_noise() -> None:
    one = Model((1, 4, 8, 8), UNIT)
    feed = seeded_feeds([one], one.inputs, 1, 0)
    assert np.array_equal(feed["x"], random_feeds(one.inputs, 1, 0)["x"])
    assert words_for([one], feed, 7) == "random inputs (seed 7)"


def test_a_guess_is_not_what_a_model_carries(tmp_path: Path) -> None:
    plain = open_subject(str(save(conv_net(), tmp_path / "plain.onnx")))
    assert plain.preprocess is not None
    assert plain.carried is None
