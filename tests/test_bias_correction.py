"""Bias correction takes off the mean shift that rounding makes, layer by layer, wherever it comes from."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from accuracy_nets import chain, images, work_on
from exactly import exactly
from exporters.accuracy import bias_correction
from exporters.quantization.quantize import on_ranges
from exporters.quantization.work import Work
from graphs import parse
from runtimes.base import Tensors
from runtimes.session import open_session

CONV = "g (float[N,3,10,10] x) => (float[N,8,10,10] y) { y = Conv <pads: ints = [1,1,1,1]> (%s) }"


def bright(count: int) -> list[Tensors]:
    """Images with a mean, as every image behind a ReLU has."""
    rng = np.random.default_rng(0)
    return [{"x": np.abs(rng.standard_normal((1, 3, 10, 10), np.float32))} for _ in range(count)]


def coarse(model: onnx.ModelProto) -> onnx.ModelProto:
    """One weight a row a hundred times the others: the row's step is coarse, and rounding shifts the mean."""
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            value = numpy_helper.to_array(tensor).copy()
            value[:, 0, 0, 0] *= 100
            tensor.CopyFrom(numpy_helper.from_array(value, "w"))
    return model


def shifts(reference: Work, work: Work, feeds: list[Tensors]) -> np.ndarray:
    """Mean error of each channel of the integer graph's output."""
    float_session, int8_session = open_session(reference.model), open_session(exactly(work.quantized().model))
    apart = [int8_session(feed)["y"].astype(np.float64) - float_session(feed)["y"] for feed in feeds]
    return np.abs(np.concatenate(apart).mean(axis=(0, 2, 3)))


@pytest.mark.parametrize("inputs", ["x, w, b", "x, w"])
def test_the_mean_error_of_the_integer_graph_goes(inputs: str) -> None:
    shapes = {"w": (8, 3, 3, 3)} | ({"b": (8,)} if "b" in inputs else {})
    feeds = bright(12)
    work = work_on(coarse(parse(CONV % inputs, **shapes)), feeds)
    outcome = bias_correction.run(work, seconds=60.0)
    before, after = shifts(work, work, feeds), shifts(work, outcome.work, feeds)
    assert after.max() < before.max() / 10  # what is left: the rounding of the output's own grid
    assert len(outcome.changes) == 1
    assert "bias moved by up to" in outcome.changes[0].what


def test_clipped_inputs_are_made_up_for_too() -> None:
    """A range that cuts off the brightest values lowers the mean of the layer's input, and of its output."""
    feeds = bright(12)
    model = parse(CONV % "x, w, b", w=(8, 3, 3, 3), b=(8,))
    work = work_on(model, feeds)
    seen = tuple(entry if entry.tensor != "x" else _cut(entry) for entry in work.calibration.seen)
    clipped = Work(work.model, work.recipe, type(work.calibration)(12, seen), feeds)
    outcome = bias_correction.run(clipped, seconds=60.0)
    before, after = shifts(work, clipped, feeds), shifts(work, outcome.work, feeds)
    assert before.max() > 0.05
    assert after.max() < before.max() / 10


def _cut(entry: object) -> object:
    from dataclasses import replace

    return replace(entry, high=1.0)  # type: ignore[type-var]


def test_the_shifts_are_those_of_numpy_on_a_fully_connected_layer() -> None:
    model = parse("g (float[N,6] x) => (float[N,4] y) { y = Gemm <transB = 1> (x, w, b) }", w=(4, 6), b=(4,))
    feeds = images(20, (1, 6))
    work = work_on(model, feeds)
    changed = bias_correction.run(work, seconds=60.0).work
    from exporters.quantization.affine import activation_grid, weight_grid

    values = {t.name: numpy_helper.to_array(t) for t in work.model.graph.initializer}
    x = np.concatenate([feed["x"] for feed in feeds])
    grid, weights = activation_grid(float(x.min()), float(x.max())), weight_grid(values["w"], 0)
    rounded = weights.dequantize(weights.quantize(values["w"]))
    shift = (grid.dequantize(grid.quantize(x)) @ rounded.T - x @ values["w"].T).mean(axis=0)
    after = next(numpy_helper.to_array(t) for t in changed.model.graph.initializer if t.name == "b")
    np.testing.assert_allclose(after, values["b"] - shift, rtol=1e-5, atol=1e-6)  # float32 sums in another order


def test_only_means_leave_the_session() -> None:
    """Memory: a probe's outputs are a number a channel, whatever the size of the image."""
    from exporters.quantization import placement

    work = work_on(chain(), images(2))
    probe, probed, _ = bias_correction._probe(work, placement.plan(work.model))
    outputs = open_session(probe)(images(1)[0])
    assert {name: value.size for name, value in outputs.items()} == {
        probed["a"]: 8, probed["b"]: 8, probed["c"]: 6, probed["y"]: 5,
    }  # fmt: skip


def test_ranges_for_more_than_is_needed_are_fine() -> None:
    work = work_on(chain(), images(4))
    ranges = {**work.calibration.ranges, "nothing": (0.0, 1.0)}
    assert on_ranges(work.model, work.recipe, ranges).int8_nodes == work.quantized().int8_nodes


LAYERS = {
    "convolution": parse(CONV % "x, w", w=(8, 3, 3, 3)),
    "fully connected": parse("g (float[N,6] x) => (float[N,4] y) { y = Gemm <transB = 1> (x, w) }", w=(4, 6)),
    "with a bias": parse("g (float[N,6] x) => (float[N,4] y) { y = Gemm (x, w, b) }", w=(6, 4), b=(4,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_large_weights_are_rounded_to_the_same_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay integers in the probe; no integer kernel, whose sums might saturate, multiplies them."""
    model = LAYERS[name]
    for tensor in model.graph.initializer:
        if tensor.name == "w":  # large and of one sign, as it takes to saturate
            tensor.CopyFrom(numpy_helper.from_array(np.abs(numpy_helper.to_array(tensor)) + np.float32(0.5), "w"))
    feeds = bright(4) if name == "convolution" else [{"x": np.abs(feed["x"])} for feed in images(4, (1, 6))]
    work = work_on(model, feeds)
    small = bias_correction.run(work, seconds=60.0)
    monkeypatch.setattr(bias_correction, "LARGE_BYTES", 0)
    large = bias_correction.run(work, seconds=60.0)
    before, after = ({t.name: numpy_helper.to_array(t) for t in o.work.model.graph.initializer} for o in (small, large))
    assert len(small.changes) == len(large.changes) == 1
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_allclose(after[key], value, rtol=0, atol=1e-5)  # float noise of outputs of about 10


def test_a_probe_that_protobuf_cannot_write_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bias_correction, "MOST_BYTES", 100)
    work = work_on(parse(CONV % "x, w, b", w=(8, 3, 3, 3), b=(8,)), bright(2))
    outcome = bias_correction.run(work, seconds=60.0)
    assert outcome.work is work
    assert not outcome.changes
    assert "2 GiB" in outcome.kept[0].reason
