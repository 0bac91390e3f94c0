"""Powers of two per channel are undone where a later layer takes them back, and found where none does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.diff import find
from edgecnn.checking.divergence import DiffReport
from edgecnn.checking.gains import Evidence, learned, powers_of_two, taken_back
from edgecnn.checking.sides import graph_side
from exporters.quantization.quantize import QuantRecipe, quantize_model
from small_nets import model
from test_diff import run_reproducer

RNG = np.random.default_rng(0)
IMAGES = [RNG.standard_normal((1, 3, 8, 8)).astype(np.float32) for _ in range(4)]
TEXT = """<ir_version: 9, opset_import: ["" : 20]> g (float[1,3,8,8] x) => (float[1,5,2,2] y) {
    c1 = Conv (x, w1, b1) r1 = Relu (c1) c2 = Conv (r1, w2, b2) r2 = Relu (c2) y = Conv (r2, w3)
}"""
SHAPES = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (4, 6, 3, 3), "b2": (4,), "w3": (5, 4, 3, 3)}
WEIGHTS = {name: (RNG.standard_normal(shape) * 0.4).astype(np.float32) for name, shape in SHAPES.items()}
GAIN = np.float32([1, 4, 0.25, 8, 1, 2])


def column(gain: np.ndarray) -> np.ndarray:
    return gain.reshape(-1, 1, 1, 1)


def with_weights(**changed: np.ndarray) -> onnx.ModelProto:
    return model(TEXT, **(WEIGHTS | changed))


def equalized(**changed: np.ndarray) -> onnx.ModelProto:
    w = WEIGHTS
    own = {"w1": w["w1"] * column(GAIN), "b1": w["b1"] * GAIN, "w2": w["w2"] / GAIN.reshape(1, -1, 1, 1)}
    return with_weights(**(own | changed))


def parted(candidate: onnx.ModelProto, **options: object) -> DiffReport:
    int8 = quantize_model(candidate, [{"x": image} for image in IMAGES], QuantRecipe()).model
    sides = [graph_side(net, name, threads=1) for net, name in ((with_weights(), "good"), (int8, "int8"))]
    return find(compare_sides(*sides, [{"x": image} for image in IMAGES[:2]]), **options)


def test_an_equalized_network_is_healthy_and_the_note_says_what_was_undone() -> None:
    report = parted(equalized(), layers=True)
    assert report.first is None, report.verdict
    assert min(min(row.snr_db, row.alone_db) for row in report.layers) > 20
    assert report.notes[0].startswith("powers of two per channel, which a later layer takes back, are undone behind ")
    assert "Conv_c1, Relu_r1 (cross" in report.notes[0]
    assert not [note for note in parted(with_weights(), layers=True).notes if "powers" in note]


@pytest.mark.parametrize("gain", [GAIN, np.float32([1, 1, 1, 2, 1, 1]), np.full(6, 2, np.float32)])
def test_factors_that_no_layer_takes_back_are_the_layers_fault(gain: np.ndarray) -> None:
    wrong = with_weights(w1=WEIGHTS["w1"] * column(gain), b1=WEIGHTS["b1"] * gain)
    report = parted(wrong)
    assert report.first is not None
    assert (report.first.node, report.first.at_fault) == ("Conv_c1", True)
    assert not report.notes


def test_a_layer_that_reads_two_tensors_may_have_factors_in_one() -> None:
    text = TEXT.replace("y = Conv (r2, w3)", "d = Conv <pads = [1, 1, 1, 1]> (r1, w4) e = Add (r1, d) y = Conv (e, w5)")
    text = text.replace("c2 = Conv (r1, w2, b2) r2 = Relu (c2) ", "").replace("5,2,2", "5,4,4")
    rng = np.random.default_rng(1)
    own = {
        "w4": rng.standard_normal((6, 6, 3, 3)).astype(np.float32),
        "w5": rng.standard_normal((5, 6, 3, 3)).astype(np.float32),
    }
    shared = {name: WEIGHTS[name] for name in ("w1", "b1")} | own
    wrong = shared | {"w1": WEIGHTS["w1"] * column(GAIN), "b1": WEIGHTS["b1"] * GAIN}
    sides = [graph_side(model(text, **weights), name, threads=1) for weights, name in ((shared, "a"), (wrong, "b"))]
    assert learned(compare_sides(*sides, [{"x": image} for image in IMAGES[:2]])) == {}, "the sum says that it is wrong"


def test_a_factor_that_reaches_the_output_is_the_first_layers_fault() -> None:
    """Without a bias every tensor from there on is twice the reference's: only an output has no factors."""
    zero = {"b1": np.zeros(6, np.float32), "b2": np.zeros(4, np.float32)}
    int8 = quantize_model(with_weights(**zero, w1=WEIGHTS["w1"] * 2), [{"x": i} for i in IMAGES], QuantRecipe()).model
    sides = [graph_side(net, name, threads=1) for net, name in ((with_weights(**zero), "good"), (int8, "int8"))]
    report = find(compare_sides(*sides, [{"x": image} for image in IMAGES[:2]]))
    assert report.first is not None
    assert (report.first.node, report.first.at_fault) == ("Conv_c1", True)


def test_another_fault_in_an_equalized_network_is_found(tmp_path: Path) -> None:
    report = parted(equalized(w3=WEIGHTS["w3"][::-1]), reproducer=tmp_path / "r")
    assert report.first is not None
    assert (report.first.node, report.first.at_fault) == ("Conv_y", True)
    double = np.float32([1, 1, 1, 1, 2, 1])
    own = equalized(w1=WEIGHTS["w1"] * column(GAIN * double), b1=WEIGHTS["b1"] * GAIN * double)
    report = parted(own)
    assert report.first is not None, "one channel is wrong by two, among factors that are right"
    assert report.first.node in ("Conv_c1", "Conv_c2"), "the layer, or the one that reads it"


def test_the_reproducer_of_a_layer_behind_factors_is_fed_with_them(tmp_path: Path) -> None:
    wrong = equalized()
    w2 = np.ascontiguousarray((WEIGHTS["w2"] / GAIN.reshape(1, -1, 1, 1))[::-1])
    report = parted(equalized(w2=w2), reproducer=tmp_path / "r")
    assert report.first is not None
    assert report.first.node == "Conv_c2"
    assert run_reproducer(tmp_path / "r") == 1
    mended = quantize_model(wrong, [{"x": image} for image in IMAGES], QuantRecipe()).model
    side = graph_side(mended, "mended")
    candidate = onnx.load(tmp_path / "r" / "candidate.onnx")
    arrays = np.load(tmp_path / "r" / "inputs.npz")
    fed = {v.name: np.float32(0) for v in candidate.graph.input}
    assert [name for name in arrays if name.endswith("_gained")], "what the candidate is fed has its factors"
    own = side.parts.cut_out([candidate.graph.output[0].name], fed)
    onnx.save(own, tmp_path / "r" / "candidate.onnx")
    assert run_reproducer(tmp_path / "r") == 0


def test_factors_are_whole_powers_and_leave_little() -> None:
    ours = RNG.standard_normal((2, 4, 50)).astype(np.float32)
    theirs = ours * np.float32([4, 1.5, 1, 0.5]).reshape(1, -1, 1)
    found = powers_of_two([ours], [theirs])
    assert found is not None
    assert found.tolist() == [4, 1, 1, 0.5], "one and a half is no power of two"
    assert powers_of_two([ours], [ours]) is None
    noisy = ours * 2 + RNG.standard_normal(ours.shape).astype(np.float32) * 2
    assert powers_of_two([ours], [noisy]) is None, "twice and noise as large is no factor"
    assert powers_of_two([ours], [-2 * ours]) is None
    quiet = ours * np.float32([1e-3, 1, 1, 1]).reshape(1, -1, 1)
    off = quiet * np.float32([2, 1, 1, 1]).reshape(1, -1, 1) + noisy / 50
    assert powers_of_two([quiet], [off]) is None, "next to nothing of what the tensor is off by"
    assert powers_of_two([ours], [ours[:, :2]]) is None


@pytest.mark.parametrize(("factor", "share"), [(2.0, 0.1), (4.0, 0.1), (0.25, 0.1), (0.5, 1 / 15)])
def test_how_much_may_be_left_of_a_channel(factor: float, share: float) -> None:
    """factor (x + e) with e at right angles to x: |e|^2 is left, of |x|^2 and of |x - factor (x + e)|^2.

    The first must be less than a tenth, the second than a quarter: for 1/2, t < (1/4 + t/4) / 4.
    """
    x = RNG.standard_normal((6, 400))
    e = RNG.standard_normal((6, 400))
    e -= x * (e * x).sum(1, keepdims=True) / (x * x).sum(1, keepdims=True)
    e *= np.linalg.norm(x, axis=1, keepdims=True) / np.linalg.norm(e, axis=1, keepdims=True)
    for t, is_factor in ((0.97 * share, True), (1.03 * share, False)):
        found = powers_of_two([np.float32(x[None])], [np.float32(factor * (x + np.sqrt(t) * e))[None]])
        assert (found is not None) == is_factor
        assert found is None or found.tolist() == [factor] * 6


def test_the_question_is_passed_on_until_a_layer_answers() -> None:
    """0 -> 1 -> 2: the second has factors, too, and hands on what comes; the third says whether they are right."""
    parents = [(), (0,), (1,)]
    carries = Evidence(given=3, plain=40, given_own=40, plain_own=3)
    wants, refuses = (Evidence(g, p, g, p) for g, p in ((40.0, 3.0), (3.0, 40.0)))
    assert taken_back({0: 2, 1: 2}, {1: carries, 2: wants}, parents) == [0, 1]
    assert taken_back({0: 4, 1: 4}, {1: carries, 2: refuses}, parents) == []
    apart = {1: Evidence(6, 1, 6, 1), 2: Evidence(1, 40, 1, 40)}
    assert taken_back({0: 2}, apart, [(), (0,), (0,)]) == [], "the clearest of two readers refuses them"
    unsure = {1: Evidence(2, 1, 2, 1)}
    assert (taken_back({0: 2}, unsure, parents), taken_back({0: 3}, unsure, parents)) == ([], [0])
