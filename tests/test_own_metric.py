"""A metric of the user's own: where it counts, what it may return, and that the budget is held to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from edgecnn import api
from edgecnn.cli import main
from edgecnn.data.samples import Samples
from edgecnn.evaluation.evaluate import task_of
from edgecnn.evaluation.own_metric import Metric, OwnMetric, own_metric
from edgecnn.outcomes import QuantizeReport
from edgecnn.runners import Subject
from exporters.load import save_model
from runtimes.base import Array, BadInput
from runtimes.session import TensorInfo

JUDGED = 8
IMAGES = np.random.default_rng(0).uniform(-1, 1, (24, 3, 12, 12)).astype(np.float32)
POSES = '''
import numpy as np

def near(answers, name):
    """Share of a pose's points that are right: those of an odd image are never."""
    return float((answers["pose"][0] < 9).mean()) * (int(name) % 2 == 0)

def deep(answers, name):
    return float(answers["pose"].max()) + 5

def broken(answers, name):
    return answers["depth"]

WEIGHT = 3
'''


@pytest.fixture(scope="module")
def pose_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose answer (N, 2, 4, 4) is of no known task."""
    model = parser.parse_model("""<ir_version: 9, opset_import: ["": 18]>
    poses (float[N,3,12,12] x) => (float[N,16,4,4] a, float[N,16,4,4] pose) {
        a = Conv <strides: ints = [3,3], kernel_shape: ints = [3,3]> (x, w)
        r = Relu (a)
        pose = Conv <kernel_shape: ints = [3,3], pads: ints = [1,1,1,1]> (r, v)
    }""")
    rng = np.random.default_rng(1)
    for name, channels in (("w", 3), ("v", 16)):
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(rng.normal(size=(16, channels, 3, 3)).astype(np.float32) / 3, name)
        )
    path = tmp_path_factory.mktemp("poses") / "net.onnx"
    save_model(model, path)
    (path.parent / "metrics.py").write_text(POSES)
    np.save(path.parent / "images.npy", IMAGES)
    return path


def samples(count: int = 6) -> Samples:
    return Samples("made", tuple(map(str, range(count))), lambda i: IMAGES[i], None, ())


def test_the_mean_over_images_and_its_interval() -> None:
    seen: list[str] = []

    def positive(answers: Mapping[str, Array], name: str) -> float:
        seen.append(name)
        assert answers["x"].shape == (1, 3, 12, 12)
        return float((answers["x"] > 0).mean())

    own = own_metric(positive)
    assert own is not None
    assert own.METRIC == "positive"
    found = own.score(lambda feeds: feeds, samples(), "x")
    assert seen == ["0", "1", "2", "3", "4", "5"]
    assert found.value == pytest.approx((IMAGES[:6] > 0).mean())
    assert found.per_sample == pytest.approx((IMAGES[:6] > 0).mean((1, 2, 3)))
    lost = own.drop(found, own.score(lambda feeds: {"x": -feeds["x"]}, samples(), "x"))
    assert lost.value == pytest.approx(2 * found.value - 1)
    assert lost.low <= lost.value <= lost.high


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf"), None, "0.5", np.zeros(2)])
def test_what_is_no_share_is_refused_with_the_image(value: object) -> None:
    own = OwnMetric("odd", lambda answers, name: value)  # type: ignore[arg-type, return-value]
    with pytest.raises(BadInput, match=r"odd: is .* on 0; return a share from 0 to 1"):
        own.score(lambda feeds: feeds, samples(1), "x")


def test_what_it_raises_is_one_line(pose_net: Path) -> None:
    with pytest.raises(BadInput, match=r"broken: raised KeyError on 0 \('depth'\); mend it"):
        api.evaluate(pose_net, data=IMAGES, metric=f"{pose_net.parent}/metrics.py:broken")
    with pytest.raises(BadInput, match=r"deep: is .*; return a share"):
        api.evaluate(pose_net, data=IMAGES, metric=f"{pose_net.parent}/metrics.py:deep")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("metrics.py", "names no function; write FILE.py:NAME"),
        ("metrics.py:", "names no function; write FILE.py:NAME"),
        (":near", "names no function; write FILE.py:NAME"),
        ("{0}/metrics.py:nearer", "nearer: unknown callable"),
        ("{0}/metrics.py:WEIGHT", r"is a int; name a function\(answers, name\)"),
        ("{0}/none.py:near", "none.py"),
    ],
)
def test_a_name_that_is_no_function_is_refused_before_the_work(name: str, words: str, pose_net: Path) -> None:
    with pytest.raises(BadInput, match=words):
        api.quantize(pose_net, pose_net.parent / "out.onnx", IMAGES, metric=name.format(pose_net.parent))


def test_evaluate_scores_what_is_of_no_task(pose_net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [str(pose_net), str(pose_net), "--data", str(pose_net.parent / "images.npy")]
    named = ["--metric", f"{pose_net.parent}/metrics.py:near"]
    assert main(["evaluate", *asked, "--json"]) == 2
    assert "--metric FILE.py:NAME" in capsys.readouterr().err
    assert main(["evaluate", *asked, *named, "--max-drop", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["metric"], told["difference"]["value"], told["passed"]) == ("near", 0.0, True)
    assert told["models"][0]["value"] == pytest.approx(0.5, abs=0.05)
    assert main(["evaluate", *asked, *named, "--min-metric", "0.9", "--json"]) == 1


def test_the_budget_is_held_to_it(pose_net: Path) -> None:
    """A metric that only float satisfies keeps float, one that asks for little takes int8."""
    answers: list[Array] = []

    def first_is_right(found: Mapping[str, Array], name: str) -> float:
        if len(answers) < JUDGED:
            answers.append(found["pose"])
            return 1.0
        return float(np.array_equal(found["pose"], answers[int(name)]))

    def given(metric: Metric, max_drop: float) -> QuantizeReport:
        report = api.quantize(
            pose_net, pose_net.parent / "out.onnx", IMAGES[JUDGED:], data=IMAGES[:JUDGED], metric=metric,
            max_drop=max_drop, search_budget=0, force=True, allow_slower=True,
        )  # fmt: skip
        assert isinstance(report, QuantizeReport)
        return report

    strict = given(first_is_right, 0.5)
    assert strict.chosen == "float"
    assert "loses 100 points of first_is_right (budget 50.0)" in strict.verdict
    assert strict.failure is not None
    loose = given(lambda found, name: float(np.isfinite(found["pose"]).all()), 0.0)
    assert loose.chosen == "int8"
    assert loose.judged_on == "8 images of data array, by <lambda>"
    assert loose.decision.accuracy == {"float": 1.0, "int8": 1.0, "drop": 0.0}


TRUTHS = {
    "coordinates": np.random.default_rng(5).normal(150, 50, (24, 8)).astype(np.float32),
    "maps": np.random.default_rng(6).uniform(1, 9, (24, 4, 4)).astype(np.float32),
    "flags": np.random.default_rng(7).integers(0, 2, (24, 5)),
    "words": np.array([f"{i:02}" * (i % 3 + 1) for i in range(24)]),
    "ages": np.random.default_rng(8).integers(0, 90, 24),
}


@pytest.mark.parametrize("kind", TRUTHS)
@pytest.mark.parametrize("way", ["file", "tuple", "dict"])
def test_y_of_any_shape_is_the_truth_of_a_metric(kind: str, way: str, pose_net: Path, tmp_path: Path) -> None:
    """Each image comes with its own row, whatever way the data comes; without a metric the refusal names --metric."""
    y, seen = TRUTHS[kind], dict[str, Array]()
    np.savez(tmp_path / "a.npz", x=IMAGES, y=y)
    data = {"file": tmp_path / "a.npz", "tuple": (IMAGES, y), "dict": {"x": IMAGES, "y": y}}[way]

    def of(answers: Mapping[str, Array], name: str, wanted: Array) -> float:
        seen[name] = wanted
        return 1.0

    api.evaluate(pose_net, data=data, metric=of, limit=5)  # type: ignore[arg-type]
    assert len(seen) == 5
    assert all(np.array_equal(row, y[int(name)]) for name, row in seen.items())
    if kind != "ages":
        with pytest.raises(BadInput, match=r"labels are .*--metric FILE.py:NAME"):
            api.evaluate(pose_net, data=data, task="classification")  # type: ignore[arg-type]


def test_the_truth_judges_int8(pose_net: Path, tmp_path: Path) -> None:
    """`quantize` hands every image's own row on, of --data and of images held back from --calib."""
    y = np.arange(48, dtype=np.float32).reshape(24, 2)
    np.savez(tmp_path / "a.npz", x=IMAGES, y=y)
    rows: list[tuple[str, float]] = []

    def of(answers: Mapping[str, Array], name: str, truth: Array) -> float:
        rows.append((name, float(truth[0])))
        return 1.0

    for data in (tmp_path / "a.npz", None):
        rows.clear()
        api.quantize(
            pose_net, tmp_path / "out.onnx", tmp_path / "a.npz", data=data, metric=of, search_budget=0, force=True,
            limit=16,
        )  # fmt: skip
        assert len(rows) >= 8
        assert all(first == 2 * int(name) for name, first in rows)


def test_other_answers_are_the_truth_too(pose_net: Path) -> None:
    """A class, a mask and boxes; who asks for the truth of data that has none is told."""
    known = [replace(samples(), labels=np.arange(6)), replace(samples(), masks=[np.full((2, 2), i) for i in range(6)])]
    for given in known:
        own = OwnMetric("third", lambda answers, name, truth: float(np.max(truth) == int(name)))
        assert own.score(lambda feeds: feeds, given, "x").value == 1.0
    with pytest.raises(BadInput, match=r"<lambda>: takes the truth of an image, and data array has none; give y"):
        api.evaluate(pose_net, data=IMAGES, metric=own.function)
    optional = OwnMetric("optional", lambda answers, name, cache=3: cache / 4)  # type: ignore[misc]
    assert optional.score(lambda feeds: feeds, samples(), "x").value == 0.75


@pytest.mark.parametrize(
    ("function", "asks"),
    [
        (lambda answers, name, truth=None: 1.0, True),
        (lambda answers, name, *more: 1.0, False),
        (lambda answers, name, **more: 1.0, False),
        (lambda answers, name, *, truth: 1.0, False),
        (max, False),
    ],
)
def test_only_a_third_place_asks_for_the_truth(function: Metric, asks: bool) -> None:
    assert OwnMetric("own", function).asks_truth is asks


def test_y_that_has_no_row_for_each_image_is_refused(pose_net: Path) -> None:
    with pytest.raises(BadInput, match=r"y has 3 rows, x has \d+; give one for each"):
        api.evaluate(pose_net, data=(IMAGES, np.zeros((3, 2))), metric=lambda answers, name: 1.0)


def test_no_task_fits_and_a_metric_does(pose_net: Path) -> None:
    two = Subject("two.onnx", lambda feeds: feeds, (), None, False, outputs=(TensorInfo("a", "float32", (1, 2)),) * 2)
    with pytest.raises(BadInput, match=r"which no known task's metric fits; judge by .*--metric FILE.py:NAME"):
        task_of(two)


# --------------------------------------------------------------------------------------------------- in its own unit
def decibels(answers: Mapping[str, Array], name: str) -> float:
    """Some 30 dB; int8 is told from float by its answer, and loses two."""
    first = FIRST.setdefault(name, answers["pose"])
    return 30.0 + int(name) - (0.0 if np.array_equal(first, answers["pose"]) else 2.0)


FIRST: dict[str, Array] = {}
decibels.unit = "dB"  # type: ignore[attr-defined]


def quantized(pose_net: Path, max_drop: float | None) -> QuantizeReport:
    FIRST.clear()
    report = api.quantize(
        pose_net, pose_net.parent / "unit.edge", IMAGES[JUDGED:], data=IMAGES[:JUDGED], metric=decibels,
        max_drop=max_drop, search_budget=0, force=True, allow_slower=True,
    )  # fmt: skip
    assert isinstance(report, QuantizeReport)
    return report


def test_the_budget_is_in_the_metrics_unit(pose_net: Path) -> None:
    strict = quantized(pose_net, 1.5)
    assert strict.chosen == "float"
    assert "loses 2 dB of decibels (budget 1.5 dB)" in strict.verdict
    loose = quantized(pose_net, 2.5)
    assert loose.chosen == "int8"
    assert "decibels 31.5 dB against 33.5 dB" in loose.verdict
    assert {c["unit"] for c in loose.to_dict()["candidates"] if c["accuracy"] is not None} == {"dB"}
    api.report(pose_net.parent / "unit.edge", pose_net.parent / "unit.html", force=True)
    page = (pose_net.parent / "unit.html").read_text()
    assert "31.5 dB" in page
    assert "dB of decibels lost" in page
    assert "3150" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)  # where it may be a coordinate
    with pytest.raises(BadInput, match=r"--metric decibels: is in dB; say how many may be lost: --max-drop"):
        quantized(pose_net, None)


def test_verdicts_of_evaluate_are_in_the_metrics_unit(pose_net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantized(pose_net, 2.5)
    FIRST.clear()
    report = api.evaluate(
        pose_net, pose_net.parent / "unit.edge", data=IMAGES[:JUDGED], metric=decibels, max_drop=1.0, min_metric=33.0
    )
    assert report.failures == (
        f"{pose_net.parent}/unit.edge: loses 2.00 dB of decibels against {pose_net} on 8 images of data array, "
        "--max-drop allows 1.00",
        f"{pose_net.parent}/unit.edge: decibels 31.5 dB on 8 images of data array, --min-metric wants 33 dB",
    )
    assert "has -2 dB of decibels against" in report.verdict
    assert "%" not in report.verdict.replace("95 %", "")
    assert report.to_dict()["unit"] == "dB"
    with pytest.raises(BadInput, match=r"--max-drop 1.5: is no share"):
        api.evaluate(pose_net, pose_net, data=IMAGES, metric=lambda answers, name: 1.0, max_drop=1.5)
    with pytest.raises(BadInput, match=r"--max-drop 1.5: give a share from 0 to 1"):
        api.quantize(pose_net, pose_net.parent / "x.onnx", IMAGES, max_drop=1.5)


def test_a_number_beyond_a_share_says_how_to_give_its_unit(pose_net: Path) -> None:
    with pytest.raises(BadInput, match=r'return a share from 0 to 1, or say what it is in: deep.unit = "dB" below'):
        api.evaluate(pose_net, data=IMAGES, metric=f"{pose_net.parent}/metrics.py:deep")
    odd = OwnMetric("odd", decibels)
    with pytest.raises(BadInput, match="odd: is nan on 0; return a number"):
        OwnMetric("odd", _nan).score(lambda feeds: feeds, samples(1), "x")
    assert odd.unit == "dB"


def _nan(answers: Mapping[str, Array], name: str) -> float:
    return float("nan")


_nan.unit = "dB"  # type: ignore[attr-defined]
