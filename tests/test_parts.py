"""Golden answers of several kinds are held kind by kind: scores that are zero or turned around are never proven."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn import api, proof
from edgecnn.cli import main
from exporters.golden_limits import limits_of, relative_limit
from exporters.pack import pack
from runtimes.base import Array, CheckFailed
from runtimes.bundle import MANIFEST, open_bundle, verify
from runtimes.comparing.kinds import MOST_SLICES
from runtimes.parity import compare
from runtimes.proof.golden import GoldenCheck, is_entry, samples_in
from runtimes.proof.parts import Part, apart, parts_of
from runtimes.proof.verification import VerifyReport
from runtimes.session import open_session

HEAD = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[N, 3, 4, 6] x) => (float[N, 7, 24] det)
<int64[3] shape = {{0, 3, 24}}, int64[1] four = {{4}}, int64[2] parts = {{4, 3}}, float pixels = {{100.0}},
 int64[8] sides = {{0, 0, 0, 0, 0, 1, 0, 0}}, float off = {{{off}}}> {{
    flat = Reshape (x, shape)
    s = Sigmoid (flat)
    first = Slice (s, zero, one, axis)
    boxes = Concat <axis = 1> (s, first)
    wide = Mul (boxes, pixels)
    moved = Add (wide, off)
    scores = {scores}
    det = Concat <axis = 1> (moved, scores)
}}
"""
ABOUT = {
    "name": "det", "task": "other", "labels": [], "preprocess": None, "created_by": "edgecnn 0", "chosen": "int8",
    "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, 4, 6]}, "output": {"name": "det"},
    "weights": None,
}  # fmt: skip
RIGHT, ZERO, INVERTED = "Mul (s, s)", "Mul (s, none)", "Sub (whole, right)"


def head(scores: str = RIGHT, off: float = 0.0) -> onnx.ModelProto:
    """Boxes in pixels beside scores in 0..1; the boxes are `off` pixels off."""
    text = HEAD.format(off=off, scores=scores)
    if "right" in scores:
        text = text.replace("    scores =", "    right = Mul (s, s)\n    scores =")
    model = onnx.parser.parse_model(text)
    for name, value in {"zero": [0], "one": [1], "axis": [1], "none": 0.0, "whole": 1.0}.items():
        kind = np.int64 if isinstance(value, list) else np.float32
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, kind), name))
    return model


def images() -> Array:
    return np.random.default_rng(0).normal(0, 2, (3, 3, 4, 6)).astype(np.float32)


def packed(path: Path, model: onnx.ModelProto) -> Path:
    """A bundle of `model`, whose original is the head with no fault."""
    feeds = [{"x": image[None]} for image in images()]
    original = proof.GivenModel(open_session(head()), feeds)
    pack(path, model, ABOUT, *proof.golden(original, open_session(model)))
    return path


def with_model(path: Path, model: onnx.ModelProto, kinds: bool = True) -> Path:
    """The bundle `path` with another model of which the manifest knows the hash; without kinds as older ones are."""
    import hashlib

    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop(MANIFEST))
    members["model.onnx"] = data = model.SerializeToString()
    manifest["files"]["model.onnx"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    if not kinds:
        for later in ("kinds", "limit_relative_l2"):
            manifest["golden"].pop(later, None)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, json.dumps(manifest))
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_the_kinds_are_found_in_the_original() -> None:
    want = list(open_session(head())({"x": images()}).values())
    assert parts_of(want) == (Part(0, 1, (0, 1, 2, 3)), Part(0, 1, (4, 5, 6)))
    assert parts_of([want[0][:, :4]]) == (Part(0),)
    assert parts_of([want[0][:, :4], want[0][:, 4:]]) == (Part(0), Part(1))


@pytest.mark.parametrize("scores", [ZERO, INVERTED], ids=["zero", "inverted"])
@pytest.mark.parametrize("off", [0.0, 7.0], ids=["float", "as int8"])
def test_scores_that_are_gone_are_not_proven(tmp_path: Path, scores: str, off: float) -> None:
    path = packed(tmp_path / "d.edge", head(off=off))
    assert verify(open_bundle(path), threads=1).passed
    with_model(path, head(scores, off))
    report = api.verify(path)
    assert not report.passed
    assert report.failure is not None
    assert "channels 4 to 6 of det" in str(report.failure)
    assert [check.passed for check in report.golden if check.of == "channels 0 to 3 of det"] == [True, True]


def test_an_older_bundle_is_held_to_its_one_limit(tmp_path: Path) -> None:
    path = with_model(packed(tmp_path / "d.edge", head(off=7.0)), head(ZERO, 7.0), kinds=False)
    found = verify(open_bundle(path), threads=1)
    assert found.passed
    assert {check.of for check in found.golden} == {""}


def test_what_verify_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = packed(tmp_path / "d.edge", head(off=7.0))
    assert main(["verify", str(path)]) == 0
    said = capsys.readouterr().out
    assert "3 golden outputs differ by" in said
    assert "in channels 0 to 3 of det (limit 14" in said
    assert "in channels 4 to 6 of det (limit" in said
    assert main(["verify", str(path), "--json"]) == 0
    golden = json.loads(capsys.readouterr().out)["golden"]
    assert [set(entry) & {"max_abs", "relative_l2"} for entry in golden] == [{"max_abs"}, {"relative_l2"}] * 2
    assert {entry["images"] for entry in golden} == {3}
    assert main(["verify", str(with_model(path, head(ZERO, 7.0)))]) == 1
    assert "in channels 4 to 6 of det, the limit is" in capsys.readouterr().err


def test_a_number_that_jumps_is_held_to_the_largest_difference() -> None:
    want = [np.full((1, 2, 50), 1.0, np.float32)]
    have = [want[0].copy()]
    have[0][0, 0, 7] = 1.4
    (found,) = apart([Part(0)], want, have)
    assert found.max_abs == pytest.approx(0.4)
    assert found.relative_l2 == pytest.approx(0.04)


def test_shapes_that_differ_and_parts_that_are_not_there_are_infinitely_far() -> None:
    want = [np.ones((1, 7, 3), np.float32)]
    for parts, have in (
        ([Part(0)], [np.ones((1, 7, 4), np.float32)]),
        ([Part(0)], []),
        ([Part(1)], want),
        ([Part(0, 1, (7,))], want),
        ([Part(0)], [np.full((1, 7, 3), np.nan, np.float32)]),
    ):
        assert [found.max_abs for found in apart(parts, want, have)] == [np.inf]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.95))
def test_zeros_never_pass_a_limit_that_was_measured(seed: int, wrong: float) -> None:
    """However wrong the model was when it was packed, as long as it said more than nothing."""
    rng = np.random.default_rng(seed)
    want = [rng.random((2, 5, 9)).astype(np.float32) * (rng.random((2, 5, 9)) < 0.1)]
    have = [(want[0] * (1 - wrong)).astype(np.float32)]
    (found,), (zeros,) = (apart([Part(0)], want, other) for other in (have, [np.zeros_like(want[0])]))
    limits = limits_of(found)
    assert found.relative_l2 <= limits.get("limit_relative_l2", 0.0)
    assert not zeros.scale or zeros.relative_l2 > limits["limit_relative_l2"]


TIGHT = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) <float steep = {50.0}, float off = {%f}, float none = {0.0}> {
    wide = Mul (x, steep)
    moved = Add (wide, off)
    mask = Sigmoid (moved)
    %s
}
"""
MASK = "y = Identity (mask)"


def mask(off: float = 0.0, answer: str = MASK) -> onnx.ModelProto:
    """A map in 0..1 whose borders are steep, so that `off` turns a few pixels over."""
    return onnx.parser.parse_model(TIGHT % (off, answer))


def constant(value: float) -> onnx.ModelProto:
    model = mask(answer="zero = Mul (mask, none)  y = Add (zero, value)")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), "value"))
    return model


def packed_mask(path: Path, model: onnx.ModelProto) -> Path:
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.normal(-0.5, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(3)]
    about = ABOUT | {"input": {"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8]}, "output": {"name": "y"}}
    pack(path, model, about, *proof.golden(proof.GivenModel(open_session(mask()), feeds), open_session(model)))
    return path


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
def test_a_constant_within_a_wide_limit_is_not_proven(tmp_path: Path, value: float) -> None:
    """One pixel that is turned over makes the largest difference that of all answers."""
    path = packed_mask(tmp_path / "m.edge", mask(4.0))
    limits = open_bundle(path).limits()
    assert limits["limit_max_abs"] > 1 > limits["limit_relative_l2"]
    (right,) = {(check.measure, check.of) for check in api.verify(path).golden}
    assert right == ("max_abs", ""), "what holds is not told beside it"
    report = api.verify(with_model(path, constant(value)))
    assert not report.passed
    assert "differ by a share of" in str(report.failure)
    assert [check.passed for check in report.golden] == [True, True, True, False]
    assert samples_in(report.golden) == 3


def test_a_model_that_differs_twice_as_much_elsewhere_is_proven(tmp_path: Path) -> None:
    path = packed_mask(tmp_path / "m.edge", mask(1.0))
    assert verify(open_bundle(with_model(path, mask(-1.0))), threads=1).passed
    path = packed_mask(tmp_path / "float.edge", mask())
    assert verify(open_bundle(with_model(path, mask(1e-5))), threads=1).passed


def test_a_bundle_of_before_has_no_relative_limit_and_is_held_to_the_other(tmp_path: Path) -> None:
    path = packed_mask(tmp_path / "m.edge", mask(4.0))
    with_model(path, constant(0.5), kinds=False)
    assert verify(open_bundle(path), threads=1).passed


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.5])
def test_numbers_that_are_nearly_constant_leave_another_cpu_room(wrong: float) -> None:
    """20.0, 20.2: the constant is nearer to them than a model may be."""
    want = np.float32([[20.0], [20.2]])
    (found,) = apart([Part(0)], [want], [want + np.float32(wrong)])
    assert relative_limit(found)["limit_relative_l2"] >= 1.25 * found.relative_l2 + 1e-4


def test_one_number_among_many_leaves_what_float_leaves_beside_it() -> None:
    want = np.zeros((1, 100_000), np.float32)
    want[0, 7] = 1.0
    (found,) = apart([Part(0)], [want], [want])
    noise = np.linalg.norm(np.full(want.shape, 1e-5))
    assert noise <= relative_limit(found)["limit_relative_l2"] * 1.0001


def test_samples_are_counted_once() -> None:
    both = [GoldenCheck(0, 1, images=4, shape=(3, 8, 8), of=kind) for kind in ("a", "b")]
    other = [GoldenCheck(0, 1, images=1, shape=(3, 9, 9), of="c")]
    assert samples_in([*both, *other]) == 5
    assert samples_in([GoldenCheck(0, 1, shape=(3,)), GoldenCheck(0, 1, shape=(3,))]) == 2
    assert VerifyReport.worst is not None


GOOD = {"output": 0, "axis": 1, "places": [4, 5], "limit_max_abs": 0.1, "limit_relative_l2": 0.2}


@pytest.mark.parametrize(
    "change",
    [
        {"limit_max_abs": -1.0},
        {"limit_relative_l2": float("inf")},
        {"axis": 0},
        {"places": []},
        {"places": [-1]},
        {"places": "45"},
        {"output": None},
        {"output": 2**40},
    ],
)
def test_kinds_that_say_nothing(change: dict[str, object]) -> None:
    entry = {"images": 3, "limit_max_abs": 1.0}
    assert is_entry({**entry, "kinds": [GOOD]})
    assert is_entry({**entry, "kinds": []})
    assert not is_entry({**entry, "kinds": [{**GOOD, **change}]})
    assert not is_entry({**entry, "kinds": GOOD})


def test_a_step_of_the_road_is_held_kind_by_kind() -> None:
    """Scores 46 dB off beside boxes that are exact: 90 dB over all of it."""
    feeds = [{"x": images()}]
    near = head("Mul (s, near)")
    near.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1.005), "near"))
    exact = head("Mul (s, whole)")
    report = compare(open_session(exact), open_session(near), feeds)
    assert report.snr_db > 70 > 50 > report.worst_db
    with pytest.raises(CheckFailed, match=r"SNR 46\.\d dB in channels 4 to 6 is below"):
        report.require(snr_db=70)


PART = {"output": 0, "axis": 1, "places": [0, 1], "limit_max_abs": 0.5}


@pytest.mark.parametrize("changes", [{}, {"limit_relative_l2": 0.0}, {"axis": 2}, {"axis": None, "places": []}])
def test_a_part_of_a_manifest_has_a_place_and_a_limit(changes: dict[str, object]) -> None:
    """The relative one is missing where the original is zero."""
    assert is_entry({"images": 1, "limit_max_abs": 1.0, "kinds": [PART | changes]})


@pytest.mark.parametrize(
    "entry",
    [
        3,
        {name: value for name, value in PART.items() if name != "limit_max_abs"},
        PART | {"limit_max_abs": -1.0},
        PART | {"limit_max_abs": math.inf},
        PART | {"limit_max_abs": True},
        PART | {"limit_relative_l2": math.nan},
        PART | {"axis": 0},
        PART | {"axis": 3},
        PART | {"output": -1},
        PART | {"output": None},
        PART | {"places": []},
        PART | {"places": [-1]},
        PART | {"places": [0.5]},
        PART | {"places": 3},
        PART | {"places": list(range(MOST_SLICES)) * 2},
        PART | {"places": [MOST_SLICES]},
    ],
)
def test_a_part_that_says_nothing_makes_no_proof(entry: object) -> None:
    assert not is_entry({"images": 1, "limit_max_abs": 1.0, "kinds": [entry]})


def test_an_output_without_a_name_is_counted() -> None:
    assert Part(1).words(["y"]) == "output 1"


@pytest.mark.parametrize(("want", "have"), [([math.nan, 1.0], [2.0, 1.0]), ([2.0, 1.0], [math.inf, 1.0])])
def test_one_number_that_is_none_is_infinitely_far(want: list[float], have: list[float]) -> None:
    (found,) = apart([Part(0)], [np.float32([want])], [np.float32([have])])
    assert (found.max_abs, found.relative_l2) == (math.inf, math.inf)
