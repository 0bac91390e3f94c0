"""R^2 is scikit-learn's; a constant has none; numbers are learned in any unit; a regressor goes the whole road."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import mean_absolute_error, r2_score

from digit_tables import NUMBERS, PICTURES, VALUES, nets, numbered, write_table
from edgecnn import api
from edgecnn.choosing.judge import Judge
from edgecnn.choosing.trial import Trial
from edgecnn.cli import main
from edgecnn.data.samples import Samples
from edgecnn.evaluation.chance import chance_warning
from edgecnn.evaluation.left_out import left_out
from edgecnn.evaluation.limits import Limits
from edgecnn.evaluation.report import EvaluateReport
from edgecnn.evaluation.scores import Difference, Score
from edgecnn.tasks import regression as task
from edgecnn.training.guard import Change
from edgecnn.training.learning import groups
from edgecnn.training.scaling import last_layer, scale_last
from edgecnn.words import PLAIN
from runtimes.base import Array, BadInput, Runner
from runtimes.bundle import open_bundle
from runtimes.session import open_session


def made(y: Array, names: tuple[str, ...] = ()) -> Samples:
    """Images whose only value is their own number."""
    ids = tuple(f"image {i}" for i in range(len(y)))
    return Samples("made", ids, lambda i: np.full((1, 2, 2), i, np.float32), None, names, truth=y)


def saying(rows: Array) -> Runner:
    """A network that answers image i with row i."""
    return lambda feeds: {"ages": rows[feeds["x"][:, 0, 0, 0].astype(int)]}


NUMBER = st.integers(-800, 800).map(lambda n: n / 8)
"""Differences that float64 holds exactly, far from zero too."""


@st.composite
def drawn(draw: st.DrawFn) -> tuple[Array, Array]:
    """(answers, y) of one shape, y with a number at least that varies."""
    shape = draw(st.tuples(st.integers(2, 20), st.integers(1, 4)))
    answers, y = (draw(arrays.arrays(np.float64, shape, elements=NUMBER)) for _ in range(2))
    y[0, 0], y[1, 0] = 0.0, draw(st.sampled_from([0.125, 1.0, 50.0]))
    return answers, y


@settings(max_examples=80, deadline=None)
@given(drawn(), st.sampled_from([0.0, 1e4]))
def test_it_is_sklearns(case: tuple[Array, Array], off: float) -> None:
    """Of the numbers that vary: of a constant, sklearn makes 0 or 1 up. Far from zero too."""
    answers, y = case[0] + off, case[1] + off
    found = task.score(saying(answers), made(y), "x", batch=7)
    vary = [k for k in range(y.shape[1]) if np.ptp(y[:, k]) > 0]
    assert found.value == pytest.approx(r2_score(y[:, vary], answers[:, vary]), rel=1e-9, abs=1e-9)
    assert found.details["mean_absolute_error"] == pytest.approx(mean_absolute_error(y, answers))
    assert found.resample(np.ones((1, len(y)))) == pytest.approx(found.value, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(drawn(), st.integers(0, 1000))
def test_a_weighting_counts_images_so_many_times(case: tuple[Array, Array], seed: int) -> None:
    answers, y = case
    weights = np.random.default_rng(seed).integers(0, 3, (3, len(y)))
    weights[:, 0] += 1
    for row, value in zip(weights, task.score(saying(answers), made(y), "x").resample(weights), strict=True):
        again, truth = np.repeat(answers, row, axis=0), np.repeat(y, row, axis=0)
        known = [k for k in range(y.shape[1]) if len(truth) and np.ptp(truth[:, k]) > 1e-3]
        if len(known) == y.shape[1]:
            assert value == pytest.approx(r2_score(truth, again), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("answer", "y"), [((6,), (6,)), ((6, 1), (6,)), ((6,), (6, 1)), ((6, 2, 3), (6, 2, 3)), ((6, 4), (6, 4))]
)
def test_answers_of_any_shape(answer: tuple[int, ...], y: tuple[int, ...]) -> None:
    order = np.random.default_rng(0)
    said, truth = order.normal(size=answer), order.normal(size=y)
    found = task.score(saying(said), made(truth), "x")
    assert found.value == pytest.approx(r2_score(truth.reshape(6, -1), said.reshape(6, -1)))


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.ones((4, 2)), "y is the same on all images, and a constant has no R.2; give images that differ in it"),
        (np.full((4, 2), np.nan), "y is NaN or infinite for image 0; mend it, or leave it out"),
        (np.ones((4, 2), bool), r"y is bool \[4, 2\]; regression needs numbers"),
        (np.arange(12.0).reshape(4, 3), r"y is \[4, 3\], the network answers \(N, 2\)"),
        (np.arange(4.0), r"y is \[4\], the network answers \(N, 2\)"),
    ],
)
def test_what_is_no_number_is_one_line(y: Array, words: str) -> None:
    with pytest.raises(BadInput, match=f"made: {words}"):
        task.score(saying(np.zeros((4, 2), np.float32)), made(y), "x")


def test_a_constant_among_others_is_left_out_and_said() -> None:
    y = np.float64([[1, 5], [2, 5], [4, 5]])
    found = task.score(saying(y + np.float64([0, 1])), made(y, ("age", "height")), "x")
    assert found.value == 1.0
    assert found.details == {
        "mean_absolute_error": 0.5,
        "r2": {"age": 1.0, "height": None},
        "mean_absolute_errors": {"age": 0.0, "height": 1.0},
    }
    assert left_out("regression", made(y, ("age", "height"))) == (
        "made: all images have the same height; R^2 is the mean of the other 1 number"
    )


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_is_wrong_by_the_whole_range(odd: float) -> None:
    y = np.float64([0, 1, 2, 7])
    said = y.copy()
    said[2] = odd
    found = task.score(saying(said), made(y), "x")
    assert found.value == pytest.approx(1 - 7**2 / np.sum((y - y.mean()) ** 2))


def test_no_better_than_the_mean_is_said() -> None:
    samples = made(np.arange(40.0))
    line = chance_warning("n", "R^2", -0.25, samples, None)
    assert line.startswith("n has R^2 -0.25 on 40 images, no better than always the mean")
    assert chance_warning("n", "R^2", 0.01, samples, None) == ""
    assert chance_warning("n", "R^2", -1.0, samples.subset(range(29)), None) == ""


# ------------------------------------------------------------------------------------------------------------- learning
def test_the_last_layer_is_found_only_where_its_numbers_are_the_answer() -> None:
    linear = torch.nn.Linear(4, 2)
    x = torch.ones(1, 4)
    assert last_layer(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), linear), x) is linear
    assert last_layer(torch.nn.Sequential(linear, torch.nn.Flatten(0)), x) is linear
    with torch.no_grad():
        linear.bias.fill_(-9.0)
    for tail in (torch.nn.ReLU(), torch.nn.ReLU(inplace=True), torch.nn.Sigmoid()):
        assert last_layer(torch.nn.Sequential(linear, tail), x) is None


def test_a_step_in_the_unit_of_the_data_is_a_step_on_standardized_numbers() -> None:
    """Oracle: the same network without scaling, trained on (y - mean) / s, then scaled."""
    torch.manual_seed(0)
    mean, s = np.float32([40, -3]), np.float32([12, 0.01])
    x, y = torch.randn(16, 5), np.float32(np.random.default_rng(0).normal(mean, s, (16, 2)))
    plain, scaled = torch.nn.Linear(5, 2), torch.nn.Linear(5, 2)
    scaled.load_state_dict(plain.state_dict())
    assert scale_last(scaled, x[:1], mean, s, fresh=True)
    one, two = (torch.optim.SGD(groups(m, 1e-3), 0.05, 0.9, nesterov=True) for m in (plain, scaled))
    for _ in range(20):
        for module, optimizer, wanted in (
            (plain, one, task.Wanted((y - mean) / s, np.ones(2, np.float32))),
            (scaled, two, task.Wanted(y, s)),
        ):
            optimizer.zero_grad()
            task.loss(module, x, wanted, 0.1).backward()
            optimizer.step()
    assert torch.allclose(scaled.weight / torch.from_numpy(s)[:, None], plain.weight, atol=1e-3)
    assert torch.allclose((scaled.bias - torch.from_numpy(mean)) / torch.from_numpy(s), plain.bias, atol=1e-3)


@pytest.mark.parametrize(
    ("layer", "picture", "axis"),
    [
        (torch.nn.Conv1d(3, 2, 1), (3, 5), 1),
        (torch.nn.Conv2d(3, 2, 1), (3, 5, 4), 1),
        (torch.nn.Linear(3, 2), (5, 3), -1),
    ],
    ids=["map per channel", "map of two axes", "row per place"],
)
def test_rows_of_different_units_have_scales_of_their_own(layer: Any, picture: tuple[int, ...], axis: int) -> None:
    """Degrees and pascals: with one scale for both, the steps of the degrees are 10,000 times too long."""
    before = layer.bias.detach().clone()
    shape = layer(torch.zeros(1, *picture)).shape[1:]
    units = torch.tensor([2.0, 20000.0])
    scale = units.reshape([2 if n == axis % (len(shape) + 1) - 1 else 1 for n in range(len(shape))]).expand(shape)
    assert scale_last(layer, torch.zeros(1, *picture), (3 * scale).numpy(), scale.numpy(), fresh=True)
    assert torch.allclose(layer.bias, before * units + 3 * units)
    layer(torch.ones(1, *picture)).sum().backward()
    assert torch.allclose(layer.bias.grad / units**2, torch.full((2,), float(scale.numel() // 2)))


def test_the_spread_is_numpys_and_1_for_what_is_always_the_same() -> None:
    y = np.float32([[1, 5, 0.5], [2, 5, 0.25], [4, 5, 0.75]])
    mean, spread = task.spread_of(y)
    assert mean == pytest.approx(y.mean(axis=0))
    assert spread == pytest.approx([y[:, 0].std(), 1, y[:, 2].std()])
    assert task.spread_of(y[:, 1])[1] == 1


def test_pictures_are_not_moved_for_a_number_may_be_a_place() -> None:
    images = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    wanted = task.Wanted(np.zeros((4, 2), np.float32), np.ones(2, np.float32))
    assert task.augment(images, wanted, np.random.default_rng(0), False)[0] is images
    assert not np.array_equal(task.augment(images, wanted, np.random.default_rng(0), True)[0], images)


# ------------------------------------------------------------------------------------------------------- the whole road
@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/ and val/, a trained regressor of it, and its graph."""
    root = tmp_path_factory.mktemp("numbers")
    nets(root)
    write_table(root / "photos" / "train", NUMBERS, numbered[:200], PICTURES[:200])
    write_table(root / "photos" / "val", NUMBERS, numbered[200:], PICTURES[200:])
    report = api.train(f"{root}/nets.py:Numbers", root / "photos", root / "w.safetensors", epochs=4)
    assert (report.task, report.metric, report.train_images) == ("regression", "R^2", 200)
    assert report.test_score > 0.5
    tuned = api.train(f"{root}/nets.py:Numbers", root / "photos", root / "q.safetensors", epochs=1, qat=True,
                      weights=root / "w.safetensors")  # fmt: skip
    assert tuned.judged is not None
    assert tuned.test_score > report.test_score - 0.05
    api.export(f"{root}/nets.py:Numbers", root / "n.onnx", weights=root / "w.safetensors")
    return root


def test_evaluate_says_r2_and_the_error_in_its_unit(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", str(trained / "n.onnx"), "--data", str(trained / "photos")]
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    session = open_session(onnx.load(trained / "n.onnx"))
    fed = (PICTURES[200:, None] / 127.5 - 1).astype(np.float32)
    said = session({session.inputs[0].name: fed})[session.outputs[0].name]
    assert (told["metric"], told["images"]) == ("R^2", 100)
    assert told["models"][0]["value"] == pytest.approx(r2_score(numbered[200:], said), abs=1e-4)
    assert told["models"][0]["mean_absolute_error"] == pytest.approx(
        mean_absolute_error(numbered[200:], said), rel=1e-3
    )
    assert list(told["models"][0]["r2"]) == list(NUMBERS)
    errors = told["models"][0]["mean_absolute_errors"]
    assert [*errors.values()] == pytest.approx(np.abs(numbered[200:] - said).mean(axis=0), rel=1e-3)
    assert main(asked) == 0
    shown = capsys.readouterr().out
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    value, each = told["models"][0]["value"], told["models"][0]["r2"]
    low, high = (told["models"][0][end] for end in ("low", "high"))
    assert low < value < high
    assert f"{trained}/n.onnx {value:.4f} {low:.4f} to {high:.4f}" in rows, (
        "a plain number, and no error over numbers of two units"
    )
    for name in NUMBERS:
        assert f"{name} {each[name]:.4f} {errors[name]:#.3g}" in rows
    assert f"n.onnx: R^2 {value:.4f} (95 %: {low:.4f} to {high:.4f}) on 100 images of" in shown
    assert "%" not in shown.replace("95 %", "")


@pytest.mark.parametrize(("count", "named"), [(1, False), (2, True), (64, True), (65, False)])
def test_a_few_numbers_have_an_error_each(count: int, named: bool) -> None:
    """A mean over metres and degrees is neither; one number needs no name, and many are one thing: a map, say."""
    y = np.random.default_rng(0).standard_normal((9, count))
    details = task.score(saying(y + 1), made(y), "x").details
    assert details["mean_absolute_error"] == pytest.approx(1.0)
    assert ("mean_absolute_errors" in details) == ("r2" in details) == named


def test_r2_is_a_plain_number_wherever_it_stands(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert task.METRIC in PLAIN
    model, photos = str(trained / "n.onnx"), str(trained / "photos")
    asked = ["evaluate", model, model, "--data", photos, "--max-drop", "0.01", "--min-metric", "0.9999"]
    assert main(asked) == 1
    out, err = capsys.readouterr()
    assert "n.onnx has +0.0000 of R^2 against " in out
    assert "--min-metric wants 0.9999" in err
    assert "points" not in out
    both, apart = (("a", scored(0.93)), ("b", scored(0.91))), Difference(-0.02, -0.03, -0.01, "")
    lost = EvaluateReport("regression", "d", both, apart, limits=Limits(0.01))
    assert lost.failures == ("b: loses 0.0200 of R^2 against a on 9 images of d, --max-drop allows 0.0100",)
    assert "b has -0.0200 of R^2 against a (95 %: -0.0300 to -0.0100)" in lost.verdict
    command = ["quantize", model, "-o", str(tmp_path / "a.edge"), "--calib", photos, "--data", photos, "--allow-slower",
               "--search-budget", "0"]  # fmt: skip
    assert main(command) == 0
    out = capsys.readouterr().out
    value = open_bundle(tmp_path / "a.edge").manifest["accuracy"]
    assert f"R^2 {value['int8']:.3f} against {value['float']:.3f}" in out
    assert any(line.split()[-1] == f"{value['float']:.3f}" for line in out.splitlines() if " float " in f" {line} ")
    api.report(tmp_path / "a.edge", tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text("utf-8")
    drop = open_bundle(tmp_path / "a.edge").manifest["accuracy"]["drop"]
    assert set(re.findall(rf'<data value="{re.escape(repr(drop))}">([^<]*)', text)) == {f"{drop:z.3f}"}
    page = re.sub("<[^>]*>", " ", text)
    assert f"{value['float']:.3f}" in page
    assert "R^2 lost" in page
    assert "points of R^2" not in page
    assert f"{100 * value['float']:.1f} %" not in page


def test_a_training_tells_r2_as_it_is() -> None:
    change = Change(0.91, 0.42, 90, "training images", False)
    assert change.words("R^2") == "0.9100 before, 0.4200 after, on 90 training images"
    assert change.words("top-1") == "91.00% before, 42.00% after, on 90 training images"
    assert "R^2 on 90 training images fell from 0.9100 to 0.4200" in change.warning("n", "R^2", 0.1)
    fell = Change(0.9, 0.9, 90, "held-back images", False).warning_of_test("n", "R^2", 0.9, 0.8, 0.2)
    assert "fell from 0.9000 to 0.8000" in fell


def scored(value: float) -> Score:
    return Score("R^2", value, 9, {}, lambda weights: weights[:, 0])


def test_the_budget_is_how_far_r2_may_fall(trained: Path, tmp_path: Path) -> None:
    photos = trained / "photos"
    kept = api.build(f"{trained}/nets.py:Numbers", tmp_path / "a.edge", weights=trained / "w.safetensors", calib=photos,
                     data=photos, search_budget=0, allow_slower=True)  # fmt: skip
    assert kept.chosen == "int8"
    assert "R^2 " in kept.verdict
    assert kept.judged_on == "100 labelled images of photos/val"
    (answer,) = api.run(tmp_path / "a.edge", PICTURES[0]).numbers
    assert answer.outputs[0].names == NUMBERS
    found = api.evaluate(trained / "n.onnx", tmp_path / "a.edge", data=photos, max_drop=0.01)
    assert found.passed
    assert found.difference is not None
    assert found.difference.low <= found.difference.value <= found.difference.high
    without = api.quantize(trained / "n.onnx", tmp_path / "b.onnx", photos, search_budget=0, allow_slower=True)
    assert "SNR" in without.verdict
    assert all(c.agreement is None for c in without.decision.candidates)


def test_a_budget_that_is_missed_keeps_float(trained: Path, tmp_path: Path) -> None:
    """Ranges of dark pictures clip all that tells digits apart."""
    report = api.quantize(trained / "n.onnx", tmp_path / "a.onnx", PICTURES[:16] // 64, data=trained / "photos",
                          search_budget=0, allow_slower=True)  # fmt: skip
    assert report.chosen == "float"
    assert re.search(r"loses \d\S* of R\^2 \(budget 0.01\): kept float", report.verdict)
    assert report.failure is not None


def test_several_outputs_have_no_r2(trained: Path, tmp_path: Path) -> None:
    model = onnx.load(trained / "n.onnx")
    model.graph.node.append(onnx.helper.make_node("Neg", [model.graph.output[0].name], ["minus"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("minus", onnx.TensorProto.FLOAT, ["batch", 2]))
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(BadInput, match="has 2 outputs, regression is scored on one; judge by"):
        api.evaluate(tmp_path / "two.onnx", data=trained / "photos")
    report = api.quantize(tmp_path / "two.onnx", tmp_path / "q.onnx", trained / "photos", data=trained / "photos",
                          search_budget=0, allow_slower=True)  # fmt: skip
    assert any("they are numbers, and answers of shape" in line and "are several" in line for line in report.warnings)


def test_what_snr_hardly_sees_costs_with_and_without_y(trained: Path) -> None:
    """Numbers that are 2 % off at a mean of a thousand: SNR hardly sees it; R^2 does, and what the answers vary by."""
    model = onnx.load(trained / "n.onnx")
    session, images = open_session(model), (PICTURES[:, None] / 127.5 - 1).astype(np.float32)
    samples = Samples("made", tuple(map(str, range(len(images)))), lambda i: images[i], truth=numbered)
    output = model.graph.output[0].name
    off = onnx.ModelProto()
    off.CopyFrom(model)
    off.graph.node[-1].output[0] = "before"
    off.graph.initializer.append(onnx.helper.make_tensor("more", onnx.TensorProto.FLOAT, [], [1.02]))
    off.graph.node.append(onnx.helper.make_node("Mul", ["before", "more"], [output]))
    name = session.inputs[0].name
    found = Judge(session, Trial(samples, name, 0.01, task="regression")).of(off)
    assert found.drop > 0.01
    assert found.words == f"loses {found.drop:.3g} of R^2 (budget 0.01)"
    alone = Judge(session, Trial(samples.without_answers(), name, 0.01, task="regression")).of(off)
    assert alone.snr_db is not None
    assert alone.snr_db > 30
    assert alone.drop > 0.1
    assert "noise in what its answers vary by" in alone.words
    assert alone.agreement is None


def test_y_of_an_npz_of_whole_numbers_or_of_another_shape(trained: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "age.npz", x=PICTURES, y=VALUES)
    where = f"{trained}/nets.py:Number"
    report = api.train(where, tmp_path / "age.npz", tmp_path / "w.safetensors", epochs=2, patience=2)
    assert report.metric == "R^2"
    assert report.test_score > 0.2
    value = api.evaluate(where, weights=tmp_path / "w.safetensors", data=(PICTURES, VALUES * 1.0)).models[0][1].value
    assert value > 0.2
    built = api.quantize(trained / "n.onnx", tmp_path / "o.onnx", trained / "photos", data=tmp_path / "age.npz",
                         search_budget=0, allow_slower=True)  # fmt: skip
    left = 300 - built.recipe.images  # the same pictures as in the folder
    assert any(f"y is [{left}], the network answers (N, 2)" in line for line in built.warnings)
    assert "SNR" in built.verdict
    with pytest.raises(
        BadInput, match=r"y is \[240\], the network answers \(N, 2\); let the answer of .* have as many"
    ):
        api.train(f"{trained}/nets.py:Numbers", tmp_path / "age.npz", tmp_path / "x.safetensors", epochs=1)
    np.savez(tmp_path / "same.npz", x=PICTURES, y=np.ones(300))
    with pytest.raises(BadInput, match=r"a constant has no R\^2"):
        api.train(where, tmp_path / "same.npz", tmp_path / "x.safetensors", epochs=1)
