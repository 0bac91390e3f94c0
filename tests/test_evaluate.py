"""`edgecnn evaluate`: PyTorch sources, .onnx files and bundles, alone and in pairs; oracle: the numbers by hand."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from PIL import Image

from edgecnn.cli import main
from edgecnn.data.load import load_data
from edgecnn.evaluation.evaluate import Answers, evaluate
from edgecnn.evaluation.interval import wilson
from edgecnn.evaluation.limits import Limits
from edgecnn.evaluation.report import EvaluateReport
from edgecnn.evaluation.scores import Score, bootstrap, paired_shares
from edgecnn.latency import benchmark
from edgecnn.networks.spec import unit_range
from exporters.artifact import Identity, write_identity
from exporters.pack import pack
from runtimes.base import Array, BadInput, CheckFailed, Inconclusive
from runtimes.session import open_session
from small_nets import conv_net, save

FIXTURES = Path(__file__).parent / "fixtures"
LENET = FIXTURES / "lenet5_digits.safetensors"
RESNET = FIXTURES / "resnet8_digits.safetensors"
READY = unit_range(16, 16)

DARK = """<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 16, 16] x) => (float[N, 2] y) <float[1, 2] sign = {-1.0, SIGN}> {
   m = ReduceMean <noop_with_empty_axes = 0> (x, axes)
   y = Mul (m, sign)
}"""


def by_brightness(path: Path, sign: float = 1.0, labels: tuple[str, ...] = ()) -> Path:
    """Class 1 for a bright image, class 0 for a dark one; with sign -1 always a tie, which is never right."""
    text = DARK.replace("SIGN", str(sign)).replace("(x, axes)", "(x, axes)")
    text = text.replace("m = Red", "axes = Constant <value_ints = [1, 2, 3]> ()\n   mm = Red").replace(
        "y = Mul (m, sign)", "two = Constant <value_ints = [-1, 1]> ()\n   m = Reshape (mm, two)\n   y = Mul (m, sign)"
    )
    model = onnx.parser.parse_model(text)
    write_identity(model, Identity("dark", "classification", labels, READY))
    onnx.save(model, path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """20 pictures: 8 bright in `sun`, 8 dark in `moon`, and 4 dark ones that lie in `sun`."""
    rng = np.random.default_rng(0)
    for i in range(20):
        bright = i < 8
        path = tmp_path / "photos" / ("sun" if bright or i >= 16 else "moon") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 90, (20, 24, 3), np.uint8) + np.uint8(150 * bright)).save(path)
    return tmp_path / "photos"


def test_one_model_by_hand(photos: Path, tmp_path: Path) -> None:
    model = by_brightness(tmp_path / "m.onnx", labels=("moon", "sun"))
    report = evaluate(model, data=str(photos))
    assert (report.task, report.metric, report.images, report.difference) == ("classification", "top-1", 20, None)
    assert report.models[0][1].value == 16 / 20
    low, high = wilson(0.8, 20)
    assert report.verdict == f"{model}: top-1 80.00% (95 %: {low:.2%} to {high:.2%}) on 20 images of {photos}."
    assert report.intervals[0] is not None
    assert (report.intervals[0].low, report.intervals[0].high) == (low, high)


def test_classes_are_matched_by_name(photos: Path, tmp_path: Path) -> None:
    turned = by_brightness(tmp_path / "m.onnx", labels=("sun", "moon"))
    assert evaluate(turned, data=str(photos)).models[0][1].value == 4 / 20
    with pytest.raises(BadInput, match="moon: unknown class"):
        evaluate(by_brightness(tmp_path / "n.onnx", labels=("day", "night")), data=str(photos))


def test_two_models_and_their_paired_difference(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, tie = by_brightness(tmp_path / "a.onnx"), by_brightness(tmp_path / "b.onnx", -1.0)
    assert main(["evaluate", str(good), str(tie), "--data", str(photos), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["metric"] == "top-1"
    assert document["images"] == 20
    rows = [(good, 0.8, *wilson(0.8, 20)), (tie, 0.0, *wilson(0.0, 20))]
    assert document["models"] == [
        {"model": str(name), "value": value, "low": low, "high": high, "nonfinite": 0}
        for name, value, low, high in rows
    ]
    found = document["difference"]
    assert found["value"] == -0.8
    assert -1 <= found["low"] < -0.8 < found["high"] < 0
    assert "Tango" in found["method"]
    assert main(["evaluate", str(good), str(tie), "--data", str(photos)]) == 0
    out = capsys.readouterr().out
    assert f"{tie} has -80.00 points of top-1 against {good} (95 %: " in " ".join(out.split())
    assert f"{good} 80.00% 58.40% to 91.93%" in " ".join(out.split())
    assert "it is worse." in out


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        (["--max-drop", "0.8"], 0, ""),
        (
            ["--max-drop", "0.79"],
            1,
            "loses 80.00 points of top-1 against MODEL on 20 images of DATA, --max-drop allows 79.00",
        ),
        (["--min-metric", "0"], 0, ""),
        (["--min-metric", "0.01"], 1, "top-1 0.00% on 20 images of DATA, --min-metric wants 1.00%"),
    ],
)
def test_a_limit_decides_the_exit_code(
    limits: list[str],
    code: int,
    said: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """80 % and 0 % are right: 80 points are lost, whatever the interval reaches to."""
    monkeypatch.chdir(tmp_path)  # short names: the middle of a long line is left out
    names = ("moon", "sun")
    photos = Path(os.path.relpath(photos))
    good = by_brightness(Path("a.onnx"), labels=names)
    tie = by_brightness(Path("b.onnx"), -1.0, names)
    command = ["evaluate", str(good), str(tie), "--data", str(photos), *limits]
    assert main([*command, "--json"]) == code
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["passed"] is (code == 0)
    assert document["limits"][limits[0][2:].replace("-", "_")] == float(limits[1])
    assert err == (f"error: {tie}: {said.replace('MODEL', str(good)).replace('DATA', str(photos))}\n" if said else "")
    assert main(command) == code
    word = "Within" if code == 0 else "NOT within"
    assert f"{word} {' '.join(limits)}." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("most", "least", "end"),
    [
        (0.5, 0.1, " NOT within --max-drop 0.5 and --min-metric 0.1."),
        (0.9, 0.1, " NOT within --min-metric 0.1. Within --max-drop 0.9."),
        (0.5, 0.0, " NOT within --max-drop 0.5. Within --min-metric 0."),
        (0.9, 0.0, " Within --max-drop 0.9 and --min-metric 0."),
    ],
)
def test_of_two_limits_the_one_that_fails_is_named(
    most: float, least: float, end: str, photos: Path, tmp_path: Path
) -> None:
    """From 80 % to 0 %, as above."""
    names = ("moon", "sun")
    good, tie = by_brightness(tmp_path / "a.onnx", labels=names), by_brightness(tmp_path / "b.onnx", -1.0, names)
    report = evaluate(good, tie, data=str(photos), max_drop=most, min_metric=least)
    assert report.verdict.endswith(f"it is worse.{end}")
    assert len(report.failures) == end.partition(". Within")[0].count("--") * ("NOT" in end)


@pytest.mark.parametrize(
    ("second", "most", "code", "end"),
    [
        ("tie", "0.97", 0, "it is worse. Within --max-drop 0.97 --sure."),
        ("tie", "0.8", 3, "it is worse. Too few images to tell whether within --max-drop 0.8 --sure."),
        ("tie", "0.3", 1, "it is worse. NOT within --max-drop 0.3 --sure."),
        ("same", "0.01", 3, "can tell. Too few images to tell whether within --max-drop 0.01 --sure."),
        ("same", "0.2", 0, "can tell. Within --max-drop 0.2 --sure."),
    ],
)
def test_for_sure_the_whole_interval_decides(
    second: str,
    most: str,
    code: int,
    end: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From 80 % to 0 %, or to 80 %, on 20 images: the interval of 16 lost, and of none, is Tango's."""
    monkeypatch.chdir(tmp_path)
    names, photos = ("moon", "sun"), Path(os.path.relpath(photos))
    good = by_brightness(Path("a.onnx"), labels=names)
    other = by_brightness(Path("b.onnx"), -1.0, names) if second == "tie" else good
    found = paired_shares(16 if second == "tie" else 0, 0, 20)
    command = ["evaluate", str(good), str(other), "--data", str(photos), "--max-drop", most, "--sure"]
    assert code == (0 if found.high <= float(most) else 1 if found.low > float(most) else 3)
    assert main([*command, "--json"]) == code
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["passed"] is {0: True, 1: False, 3: None}[code]
    assert document["limits"] == {"max_drop": float(most), "min_metric": None, "sure": True}
    allowed = f"of top-1 against a.onnx on 20 images of photos, --max-drop allows {100 * float(most):.2f}"
    said = {
        0: "",
        1: f"error: b.onnx: loses at least {100 * found.low:.2f} points {allowed}\n",
        3: f"error: {other}: may lose up to {100 * found.high:.2f} points {allowed}: more images would tell\n",
    }[code]
    assert err == said.replace("a.onnx on", "a.onnx (95 %) on" if code == 3 else "a.onnx on")
    assert main(command) == code
    assert end in " ".join(capsys.readouterr().out.split())


def report_of(metric: str, first: Array, second: Array) -> EvaluateReport:
    """Two models whose `metric` is the mean over images of what each is given for it, with --max-drop 0.9 --sure."""
    a, b = (Score(metric, float(v.mean()), len(v), {}, lambda w, v=v: w @ v / w.sum(1)) for v in (first, second))
    return EvaluateReport("", "photos", (("a", a), ("b", b)), bootstrap(b, a), limits=Limits(0.9, None, True))


@pytest.mark.parametrize("metric", ["mIoU", "mAP@[.5:.95]", "R^2"])
def test_for_sure_without_an_interval_nothing_is_decided(metric: str) -> None:
    """One image, or none that shows a difference: a bootstrap of no width is no proof."""
    some = np.random.default_rng(0).uniform(0.5, 1, 50)
    for first, second, most in ((some, some, "5.8 %"), (some[:1], some[:1], "95 %"), (some[:1], some[1:2], "100 %")):
        report = report_of(metric, first, second)
        assert report.passed is None
        assert isinstance(report.failure, Inconclusive)
        assert (
            f"b: has no known interval of what it loses of {metric} against a (95 %: at most {most} of" in report.unsure
        )
        assert "no difference that these images can tell. Too few images to tell whether within" in report.verdict
        assert replace(report, limits=Limits(0.9)).passed is True, "the measured value decides"
    assert report_of(metric, some, some - 0.1).passed is True


@pytest.mark.parametrize("metric", ["mIoU", "SSIM"])
def test_what_is_shown_as_nothing_is_no_difference(metric: str) -> None:
    """Rounding in float32 changes a continuous metric a little on every image, always to one side."""
    some = np.random.default_rng(0).uniform(0.5, 1, 50)
    assert "no difference that these images can tell" in report_of(metric, some, some - 1e-7).verdict
    assert "it is worse" in report_of(metric, some, some - 1e-3).verdict


def test_of_a_limit_that_fails_and_one_that_cannot_be_told_the_failure_counts(photos: Path, tmp_path: Path) -> None:
    names = ("moon", "sun")
    good, tie = by_brightness(tmp_path / "a.onnx", labels=names), by_brightness(tmp_path / "b.onnx", -1.0, names)
    report = evaluate(good, tie, data=str(photos), max_drop=0.8, min_metric=0.2, sure=True)
    assert (report.passed, type(report.failure)) == (False, CheckFailed)
    assert report.verdict.endswith(
        "NOT within --min-metric 0.2 --sure. Too few images to tell whether within --max-drop 0.8 --sure."
    )
    with pytest.raises(BadInput, match="--sure: holds a limit to the far end of its interval; give --max-drop or"):
        evaluate(good, tie, data=str(photos), sure=True)
    assert evaluate(good, data=str(photos), min_metric=0.7, sure=True).passed is None


def test_limits_that_say_nothing(photos: Path, tmp_path: Path) -> None:
    model = by_brightness(tmp_path / "a.onnx")
    assert evaluate(model, data=str(photos)).passed is None
    assert evaluate(model, data=str(photos), min_metric=0.8).passed is True
    assert evaluate(model, data=str(photos), min_metric=0.81).passed is False
    better = evaluate(by_brightness(tmp_path / "b.onnx", -1.0), model, data=str(photos), max_drop=0)
    assert better.passed is True
    with pytest.raises(BadInput, match="one model loses nothing; give two"):
        evaluate(model, data=str(photos), max_drop=0.1)
    with pytest.raises(BadInput, match="--min-metric 95: is no share; give a number from 0 to 1"):
        evaluate(model, data=str(photos), min_metric=95)


def test_the_same_model_twice_has_no_difference_that_can_be_told(photos: Path, tmp_path: Path) -> None:
    model = by_brightness(tmp_path / "a.onnx")
    report = evaluate(model, model, data=str(photos))
    assert report.difference is not None
    assert report.difference.low < 0 < report.difference.high
    assert report.verdict.endswith("no difference that these images can tell.")
    turned = evaluate(by_brightness(tmp_path / "b.onnx", -1.0), model, data=str(photos))
    assert turned.verdict.endswith("it is better.")


def test_a_pytorch_network_has_the_score_that_its_weights_were_saved_with() -> None:
    from edgecnn.networks.weights import load_weights

    report = evaluate("lenet5", data="digits", weights=LENET)
    about = load_weights(LENET)[1]
    assert about is not None
    assert report.models[0][1].value == about.test_score
    assert report.images == 359
    assert set(report.models[0][1].details) == {"top5"}
    assert report.seeded == ()


def test_random_weights_are_called_random(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "lenet5", "--data", "digits", "--limit", "30"]) == 0
    assert "lenet5: no --weights, so its weights are random" in capsys.readouterr().out


def test_a_bundle_as_its_model(photos: Path, tmp_path: Path) -> None:
    path = by_brightness(tmp_path / "m.onnx", labels=("moon", "sun"))
    images = np.zeros((1, 3, 16, 16), np.float32)
    about = {
        "name": "m", "task": "classification", "labels": ["moon", "sun"], "preprocess": READY.to_dict(),
        "created_by": "edgecnn 0", "chosen": "float",
        "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, 16, 16]},
        "output": {"name": "y", "dtype": "float32", "shape": ["N", 2]},
    }  # fmt: skip
    model = onnx.load(path)
    pack(tmp_path / "m.edge", model, about, [images], [open_session(model)({"x": images})["y"]], 0.0)
    assert evaluate(tmp_path / "m.edge", data=str(photos)).models[0][1].value == 16 / 20


def seg_model(path: Path) -> Path:
    """Logits of the image itself: the largest of three channels at each pixel."""
    text = """<ir_version: 9, opset_import: ["" : 20]>
    g (float[N, 3, 16, 16] x) => (float[N, 3, 16, 16] y) { y = Identity (x) }"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def det_model(path: Path) -> Path:
    """One box, the left half of the picture, of class 0, for one image at a time."""
    text = """<ir_version: 9, opset_import: ["" : 20]>
    g (float[1, 3, 16, 16] x) => (float[M, 4] boxes, float[M] scores, int64[M] labels, int64[M] image) {
       boxes = Constant <value = float[1, 4] {0.0, 0.0, 8.0, 16.0}> ()
       scores = Constant <value = float[1] {0.9}> ()
       labels = Constant <value = int64[1] {0}> ()
       image = Constant <value = int64[1] {0}> ()
    }"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def test_masks_and_boxes_from_an_npz_are_recognized_by_the_outputs(tmp_path: Path) -> None:
    order = np.random.default_rng(0)
    x = order.standard_normal((6, 3, 16, 16)).astype(np.float32)
    masks = x.argmax(1).astype(np.uint8)
    np.savez(tmp_path / "seg.npz", x=x, masks=masks)
    report = evaluate(seg_model(tmp_path / "s.onnx"), data=str(tmp_path / "seg.npz"))
    assert (report.metric, report.models[0][1].value) == ("mIoU", 1.0)
    boxes = np.array([[0, 0, 8, 16]] * 5, np.float32)
    np.savez(tmp_path / "det.npz", x=x, boxes=boxes, box_labels=np.zeros(5, int), box_image=np.arange(5))
    model = det_model(tmp_path / "d.onnx")
    report = evaluate(model, model, data=str(tmp_path / "det.npz"))
    assert report.metric == "mAP@[.5:.95]"
    # Six boxes of equal score, the last of them wrong: recall 1 is reached before it.
    assert report.models[0][1].value == pytest.approx(1.0, abs=1e-9)
    assert report.difference is not None
    assert report.difference.value == 0.0


def test_what_does_not_fit(photos: Path, tmp_path: Path) -> None:
    model = by_brightness(tmp_path / "m.onnx")
    with pytest.raises(BadInput, match=r"digits: has 10 classes, .*m.onnx 2, which it does not name; give its"):
        evaluate(model, data="digits")
    with pytest.raises(BadInput, match="photos: has no answers for segmentation; give images/"):
        evaluate(seg_model(tmp_path / "s.onnx"), data=str(photos))
    with pytest.raises(BadInput, match="classificatoin: unknown task; did you mean classification"):
        evaluate(model, data=str(photos), task="classificatoin")
    with pytest.raises(BadInput, match=r"--weights w\.pt: no model is a PyTorch network; leave it out"):
        evaluate(model, data=str(photos), weights=Path("w.pt"))
    with pytest.raises(BadInput, match=r"^w\.pt: no such file"):  # of the one of the two that takes weights
        evaluate(model, "lenet5", data=str(photos), weights=Path("w.pt"))
    text = """<ir_version: 9, opset_import: ["" : 20]> g (float[N, 3, 16, 16] x) => (float[N, 3, 16] y) {
       a = Constant <value_ints = [3]> ()
       y = ReduceMax <keepdims = 0> (x, a)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "odd.onnx")
    with pytest.raises(BadInput, match=r"odd.onnx: answers y \['N', 3, 16\], which no known task's .*--metric"):
        evaluate(tmp_path / "odd.onnx", data=str(photos))


def test_an_onnx_file_is_judged_without_torch(photos: Path, tmp_path: Path) -> None:
    model = by_brightness(tmp_path / "m.onnx", labels=("moon", "sun"))
    script = (
        "import sys; from edgecnn.cli import main; code = main(); print(code, 'torch' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, "evaluate", str(model), str(model), "--data", str(photos), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parent.parent)
    assert done.stderr.strip() == "0 False"
    assert json.loads(done.stdout)["difference"]["value"] == 0


def test_built_in_data_gives_the_part_that_was_never_trained_on(tmp_path: Path) -> None:
    model = det_model(tmp_path / "d.onnx")
    report = evaluate(model, data="shapes:40", seed=3)
    assert (report.images, report.data) == (8, "shapes")
    held = load_data("shapes:40", READY, split="test", task="detection")
    assert len(held) == 8
    assert evaluate(model, data="shapes:40", limit=5).images == 5


def test_nan_is_counted_and_said(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong answer, and not in silence: top-1 0 % of a network that is broken is not that of one that guesses."""
    good, wrong = by_brightness(tmp_path / "good.onnx"), by_brightness(tmp_path / "wrong.onnx", float("nan"))
    report = evaluate(good, wrong, data=str(photos))
    assert [score.value for _, score in report.models] == [0.8, 0.0]
    assert report.nonfinite == (0, 20)
    assert [row["nonfinite"] for row in report.to_dict()["models"]] == [0, 20]
    assert main(["evaluate", str(wrong), "--data", str(photos)]) == 0
    assert f"{wrong}: answers 20 of 20 images with NaN or infinity, which counts as wrong" in capsys.readouterr().out


def test_only_the_images_with_nan_are_counted() -> None:
    given = {"y": np.array([[0, 1], [np.nan, 1], [1, np.inf]], np.float32), "n": np.zeros(3, np.int64)}
    runner = Answers(lambda feeds: given)
    assert runner({"x": np.zeros((3, 1))}) is given
    assert runner.nonfinite == 2
    given["whole"] = np.array([np.nan, 1], np.float32)  # of no image, so of all
    runner({"x": np.zeros((3, 1))})
    assert runner.nonfinite == 5


def test_a_model_without_inputs_is_refused(photos: Path, tmp_path: Path) -> None:
    graph = "g () => (float[2] y) { y = Constant <value_floats = [1.0, 2.0]> () }"
    made = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {graph}')
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(BadInput, match=r"m\.onnx: takes no input, so there is nothing to score"):
        evaluate(tmp_path / "m.onnx", data=str(photos))


def test_the_pages_section_for_continuous_integration_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both commands pass for two equal models, and the one for accuracy fails for one that knows nothing."""
    text = (Path(__file__).parent.parent / "docs" / "train-and-evaluate.md").read_text("utf-8")
    section = text[text.index("## In CI") :]
    accuracy, speed = re.findall(r"^edgecnn (.*)$", section[: section.index("From Python:")], re.MULTILINE)
    assert main(["export", "lenet5", "--weights", str(LENET), "-o", str(tmp_path / "lenet5.onnx")]) == 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark, "PROBES", 1)
    model = onnx.load("lenet5.onnx")
    onnx.save(model, "int8.onnx")
    assert main(shlex.split(accuracy)) == 0
    assert main(shlex.split(speed)) == 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(0 * onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, "int8.onnx")
    capsys.readouterr()
    assert main(shlex.split(accuracy)) == 1
    assert "--max-drop allows 5.00; int8.onnx: top-1 " in capsys.readouterr().err


def test_a_model_that_is_no_better_than_chance_is_told(tmp_path: Path) -> None:
    """Always a tie, never right; the one that sees brightness always is. No picture is a copy of another."""
    y = np.arange(40) % 2
    pixels = np.broadcast_to((200 * y + np.arange(40)).astype(np.uint8)[:, None, None, None], (40, 16, 16, 3))
    np.savez(tmp_path / "d.npz", x=pixels, y=y)
    blind = evaluate(by_brightness(tmp_path / "blind.onnx", -1.0), data=str(tmp_path / "d.npz"))
    (line,) = blind.warnings
    assert "blind.onnx is right on 0.0 % of 40 images, no better than chance for 2 classes" in line
    assert blind.to_dict()["warnings"] == [line]
    assert evaluate(by_brightness(tmp_path / "m.onnx"), data=str(tmp_path / "d.npz")).warnings == ()


def test_arrays_need_not_show_the_highest_class_and_labels_from_one_are_named(photos: Path, tmp_path: Path) -> None:
    model = by_brightness(tmp_path / "m.onnx")
    dark = np.arange(5 * 768).reshape(5, 16, 16, 3).astype(np.uint8) // 8
    report = evaluate(model, data=(dark, np.zeros(5, int)))
    assert report.models[0][1].value == 1.0
    with pytest.raises(BadInput, match=r"labels go from 1 to 2, the model's 2 classes from 0 to 1; .* give y - 1"):
        evaluate(model, data=(dark, np.array([1, 2, 1, 2, 1])))
    (photos / "moon").rename(tmp_path / "moon")
    with pytest.raises(BadInput, match=r"photos: has 1 class, .* 2, which it does not name"):
        evaluate(model, data=str(photos))


def by_level(path: Path, names: Sequence[str]) -> Path:
    """Classes by brightness: output i is the largest where it is `names[i]` tenths of white."""
    levels = [int(name) / 5 - 1 for name in names]
    doubled, squared = (", ".join(map(str, row)) for row in ([2 * v for v in levels], [v * v for v in levels]))
    text = f"""<ir_version: 9, opset_import: ["" : 20]>
    g (float[N, 3, 16, 16] x) => (float[N, {len(names)}] y) <float[1, {len(names)}] a = {{{doubled}}},
       float[1, {len(names)}] b = {{{squared}}}, int64[1] one = {{1}}> {{
       m = GlobalAveragePool (x)
       f = Flatten (m)
       n = ReduceMean (f, one)
       s = Mul (n, a)
       y = Sub (s, b)
    }}"""
    model = onnx.parser.parse_model(text)
    write_identity(model, Identity("level", "classification", (), READY))
    onnx.save(model, path)
    return path


def test_folders_of_numbers_are_counted_as_imagefolder_does_and_that_is_told(tmp_path: Path) -> None:
    names = list(map(str, range(11)))
    for name in names:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            grey = np.full((16, 16, 3), round(int(name) * 25.5), np.uint8)
            grey[0, i] ^= 1
            Image.fromarray(grey).save(tmp_path / "photos" / name / f"{i}.png")
    data, labels = str(tmp_path / "photos"), tmp_path / "labels.txt"
    report = evaluate(by_level(tmp_path / "a.onnx", sorted(names)), data=data)
    assert report.models[0][1].value == 1.0
    (line,) = report.warnings
    assert line == (
        f"classes are counted by the folders of {data}, in alphabetical order, as ImageFolder counts, and not by "
        "number (0, 1, 10 ...); where the network counts otherwise, give the names in its order: --labels FILE"
    )
    report = evaluate(by_level(tmp_path / "b.onnx", names), data=data)
    assert report.models[0][1].value == 2 / 11  # 0 and 1 have the same place in both orders
    assert report.warnings[1] == (
        f"{tmp_path}/b.onnx is right on 18.2 % of 33 images with class folders in alphabetical order; counted by "
        "number it would be right on 100.0 %: give the names in its order, 0, 1, 2 ...: --labels FILE"
    )
    labels.write_text("\n".join(names))
    report = evaluate(tmp_path / "b.onnx", data=data, labels=labels)
    assert (report.models[0][1].value, report.warnings) == (1.0, ())


def test_an_order_that_folders_made_is_told(photos: Path, tmp_path: Path) -> None:
    (line,) = evaluate(by_brightness(tmp_path / "m.onnx"), data=str(photos)).warnings
    assert line.startswith(f"classes are counted by the folders of {photos}, in alphabetical order (moon, sun)")
    named = by_brightness(tmp_path / "n.onnx", labels=("moon", "sun"))
    assert evaluate(named, data=str(photos)).warnings == ()


@pytest.mark.parametrize(
    ("task", "y", "line"),
    [
        ("regression", np.full((6, 2), np.nan), "y is NaN or infinite"),
        ("multi-label", np.full((6, 2), 3.0), "y is 3 for label 0"),
        ("embedding", np.ones((6, 2)), "y is float64"),
    ],
)
def test_rows_that_are_no_answers_are_told(task: str, y: np.ndarray, line: str, tmp_path: Path) -> None:
    model = save(conv_net(8, 8), tmp_path / "net.onnx")
    with pytest.raises(BadInput, match=f"^data array: {line}"):
        evaluate(model, data=(np.zeros((6, 3, 8, 8), np.float32), y), task=task)
