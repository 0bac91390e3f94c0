"""One streaming pass over the images: what it sees and refuses, what it keeps in memory, what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from exporters import padding, rewrites
from exporters.quantization.calibration import Calibration, Seen, exposing, observe, spread, without_lone
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from pass_examples import build, draw
from runtimes import plugins
from runtimes.base import BadInput, Tensors
from runtimes.session import open_session

ROOT = Path(__file__).resolve().parent.parent
MODEL = parse(CONV_RELU_CONV, **WEIGHTS)


def images(count: int, seed: int = 0) -> list[Tensors]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, 3, 8, 8), np.float32)} for _ in range(count)]


def test_channels_are_numpys_and_dead_ones_are_named() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    bias = onnx.numpy_helper.from_array(np.array([0, -1000, 0, 0], np.float32), "b1")
    model.graph.initializer[[t.name for t in model.graph.initializer].index("b1")].CopyFrom(bias)
    feeds = images(4)
    seen = observe(model, ["x", "r"], feeds)
    x, r = seen.seen
    stacked = np.concatenate([feed["x"] for feed in feeds])
    np.testing.assert_array_equal(x.channel_low, stacked.min(axis=(0, 2, 3)))
    np.testing.assert_array_equal(x.channel_high, stacked.max(axis=(0, 2, 3)))
    assert r.dead == (1,)  # its ReLU never opens
    assert seen.dead == {"r": (1,)}
    assert "1 dead channel in 1 tensor" in seen.summary


@pytest.mark.parametrize("rewrite", ["pad_channels", "pad_outputs"])
def test_channels_that_a_rewrite_pads_are_not_counted_as_dead(rewrite: str) -> None:
    text = """ g (float[1,3,8,8] x) => (float[1,16,8,8] y) {
        a = Conv (x, w1, b1) r = Relu (a) d = Conv <group = 18> (r, w2) y = Conv (d, w3) }"""
    bias = np.where(np.arange(18) == 4, -1000, 1).astype(np.float32)
    values = {"w1": draw(18, 3, 1, 1), "b1": bias, "w2": draw(18, 1, 1, 1), "w3": draw(16, 18, 1, 1)}
    model = build(text, values)
    padded = plugins.load(rewrites, rewrite, "rewrite").run(model).model
    made = next(node.output[0] for node in padded.graph.node if node.op_type == "Relu")
    seen = observe(padded, [made], images(2))
    assert seen.seen[0].channel_low.shape == (20,)
    assert seen.dead == {made: (4,)}
    assert "1 dead channel in 1 tensor" in seen.summary


def test_places_are_those_of_the_network_after_two_paddings() -> None:
    model = onnx.ModelProto()
    padding.note(model, {"a": np.array([0, 1, 4, 5])})
    padding.note(model, {"b": np.array([0, 2])})
    assert {name: places.tolist() for name, places in padding.noted(model).items()} == {"a": [0, 1, 4, 5], "b": [0, 2]}
    padding.forget(model)
    assert not model.metadata_props


def test_a_tensor_that_only_a_rewrite_made_has_no_dead_channels() -> None:
    flat = Seen("made", 0.0, 1.0, 0.0, np.zeros(4), np.zeros(4))
    seen = Calibration(2, (flat, replace(flat, tensor="r")))
    assert seen.of_network(["r"]).dead == {"r": (0, 1, 2, 3)}
    padded = replace(flat, own=np.array([0, 1]))  # whose channels are the network's, whatever it is called there
    assert Calibration(2, (padded,)).of_network(["r"]).dead == {"made": (0, 1)}


def test_no_image_is_no_calibration() -> None:
    with pytest.raises(BadInput, match="calibration: no images"):
        observe(MODEL, ["x"], [])


def test_every_image_of_a_batch_counts() -> None:
    batch = np.zeros((2, 3, 8, 8), np.float32)
    batch[1, 2, 0, 0] = 5.0
    seen = observe(MODEL, ["x"], [{"x": batch}]).seen[0]
    assert seen.channel_high.tolist() == [0.0, 0.0, 5.0]


def test_the_extra_outputs_are_the_tensors_of_the_model() -> None:
    session = exposing(MODEL, ["r", "x", "y"])
    assert [info.name for info in session.outputs] == ["y", "r"]
    assert [value.name for value in MODEL.graph.output] == ["y"]
    feed = images(1)[0]
    np.testing.assert_array_equal(session(feed)["y"], open_session(MODEL)(feed)["y"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_is_named_with_its_image(bad: float) -> None:
    feeds = images(3)
    feeds[1]["x"][0, 2, 7, 7] = bad  # type: ignore[index]
    with pytest.raises(BadInput, match=r"tensor x is NaN or infinite on cat\.jpg; look at data and weights"):
        observe(MODEL, ["x"], feeds, ids=["dog.jpg", "cat.jpg", "cow.jpg"])
    with pytest.raises(BadInput, match="on batch 1;"):
        observe(MODEL, ["x"], feeds)


def test_a_nan_born_inside_the_network_is_found() -> None:
    model = parse("g (float[1,3] x) => (float[1,3] y) { a = Sqrt(x) y = Relu(a) }")
    with pytest.raises(BadInput, match="tensor a is NaN"):
        observe(model, ["a"], [{"x": np.array([[1, -1, 1]], np.float32)}])


# ------------------------------------------------------------------------------------------------------ seen enough?
def test_the_spread_is_the_bootstrap_interval_done_by_hand() -> None:
    rng = np.random.default_rng(3)
    extremes = np.stack([-rng.exponential(1, 20), rng.exponential(2, 20)], axis=1)
    widths = []
    for _ in range(4000):
        drawn = extremes[rng.integers(0, 20, 20)]
        widths.append(drawn[:, 1].max() - drawn[:, 0].min())
    whole = extremes[:, 1].max() - extremes[:, 0].min()
    assert spread(extremes) == pytest.approx(1 - np.quantile(widths, 0.025) / whole, abs=0.06)  # 200 draws, not 4,000


def test_alike_images_are_enough_and_a_lone_bright_one_is_not() -> None:
    rng = np.random.default_rng(0)
    alike = [{"x": rng.uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(32)]
    assert observe(MODEL, ["x"], alike).enough
    alike[5]["x"][0, 0, 0, 0] = 9.0
    lone = observe(MODEL, ["x"], alike)
    assert not lone.enough
    assert lone.seen[0].spread > 0.5
    assert "more images would move the scales" in lone.summary
    assert not observe(MODEL, ["x"], alike[:1]).enough  # one image says nothing of others
    assert observe(MODEL, ["x"], alike[:1] * 2).settled == 1.0


def test_the_image_that_makes_a_range_sixteen_times_wider_is_known_and_only_that() -> None:
    rng = np.random.default_rng(0)
    seen = [{"x": rng.uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(9)]
    ends = [(float(feed["x"].min()), float(feed["x"].max())) for feed in seen]
    assert observe(MODEL, ["x"], seen).seen[0].others is None
    for value, found in ((33.0, True), (-33.0, True), (28.0, False)):
        feeds = [{"x": feed["x"].copy()} for feed in seen]
        feeds[4]["x"][0, 0, 0, 0] = value
        others = [end for i, end in enumerate(ends) if i != 4]
        expected = (4, min(low for low, _ in others), max(high for _, high in others))
        assert observe(MODEL, ["x"], feeds).seen[0].others == (expected if found else None)
    assert without_lone(np.array([[0.0, 1.0], [0.0, 99.0]]), 0.0, 99.0) is None, "of two neither is the freak"
    assert without_lone(np.array([[0.0, 0.0], [0.0, 9.0], [0.0, 0.0]]), 0.0, 9.0) is None, "all others are dead"
    assert without_lone(np.array([[0.0, 1.0], [0.0, 99.0], [0.0, 1.0]]), 0.0, 1.5) is None, "the calibrator cut it off"


def test_the_document_has_every_range_and_the_dead_channels() -> None:
    told = observe(MODEL, ["x"], images(4)).to_dict()
    assert told["images"] == 4
    assert set(told["tensors"]["x"]) == {"low", "high", "spread"}
    constant = np.array([[1.0, 1.0], [2.0, 3.0]], np.float32)
    one = Calibration(2, (Seen("t", 1.0, 3.0, 0.0, constant[:, 0], constant[:, 1]),))
    assert one.to_dict()["tensors"]["t"]["dead"] == [0]


def test_a_dead_tensor_is_settled() -> None:
    assert spread(np.zeros((5, 2))) == 0.0
    none = np.zeros(0)
    assert Calibration(5, (Seen("t", 0.0, 0.0, 0.0, none, none),)).enough


# ----------------------------------------------------------------------------------------------------- order and memory
@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "mse", "entropy"])
def test_the_order_of_the_images_does_not_matter(calibrator: str) -> None:
    feeds = images(6)
    assert (
        observe(MODEL, ["x", "r"], feeds, calibrator).ranges
        == observe(MODEL, ["x", "r"], feeds[::-1], calibrator).ranges
    )


class Counted(Sequence[Tensors]):
    """Feeds made on demand that know how many are alive at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.alive: list[Any] = []
        self.most = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        import weakref

        if index >= self.count:
            raise IndexError(index)
        array = images(1, index)[0]["x"]
        self.alive = [ref for ref in self.alive if ref() is not None] + [weakref.ref(array)]
        self.most = max(self.most, len(self.alive))
        return {"x": array}


def test_one_image_is_in_memory_at_a_time() -> None:
    feeds = Counted(20)
    observe(MODEL, ["x", "r"], feeds, "mse")
    assert feeds.most <= 2  # the one at work, and the next while it is made


def test_progress_goes_through_track() -> None:
    asked = []

    def track(items: Sequence[Any], label: str) -> Iterable[Any]:
        asked.append((label, len(items)))
        return items

    observe(MODEL, ["x"], images(3), track=track)
    assert asked == [("calibrating", 3)]


CHILD = """
import resource, sys
import numpy as np, onnx
from exporters.quantization import placement
from exporters import padding, rewrites
from exporters.quantization.calibration import observe

model = onnx.load(sys.argv[1])

class Feeds(list):
    def __len__(self): return int(sys.argv[2])
    def __iter__(self):
        rng = np.random.default_rng(0)
        return ({"x": rng.standard_normal((1, 3, 64, 64), np.float32)} for _ in range(len(self)))

observe(model, placement.plan(model).observed, Feeds(), "mse", threads=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs getrusage")
def test_the_peak_of_memory_is_flat_in_the_number_of_images(tmp_path: Path) -> None:
    """2 MB of activations an image: 300 more of them held would be 600 MB."""
    text = """g (float[N,3,64,64] x) => (float[N,32,64,64] y) {
        a = Conv <pads: ints = [1,1,1,1]> (x, v)
        b = Relu(a)
        c = Conv <pads: ints = [1,1,1,1]> (b, w)
        d = Relu(c)
        e = Conv <pads: ints = [1,1,1,1]> (d, w)
        y = Add(e, b)
    }"""
    onnx.save(parse(text, v=(32, 3, 3, 3), w=(32, 32, 3, 3)), tmp_path / "net.onnx")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def peak_mb(count: int) -> float:
        command = [sys.executable, "-c", CHILD, str(tmp_path / "net.onnx"), str(count)]
        return float(subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60).stdout)

    assert peak_mb(320) - peak_mb(20) < 10  # 300 images; the allocator's own swing is 2 to 3 MB


# ---------------------------------------------------------------------------------------------------------- interrupted
TOLD_AT_ONCE = """
import runpy
from edgecnn.cli import _progress
_progress.FIRST_SECONDS = _progress.SHARE = 0.01
runpy.run_module("edgecnn", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c_during_calibration_leaves_nothing_behind(tmp_path: Path) -> None:
    onnx.save(MODEL, tmp_path / "net.onnx")
    command = [sys.executable, "-c", TOLD_AT_ONCE, "quantize", "net.onnx", "-o", "out.onnx", "--calib", "random:9000",
               "--limit", "9000"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    assert child.stderr is not None
    assert any(b"progress: calibrating" in line for line in child.stderr)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
