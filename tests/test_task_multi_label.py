"""mAP over labels is scikit-learn's, ties and all; what is not 0 or 1 is told; a tagger goes the whole road."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score

from digit_tables import PICTURES, TAGS, nets, strip, tagged, write_table
from edgecnn import api
from edgecnn.choosing.judge import Judge
from edgecnn.choosing.trial import Trial
from edgecnn.cli import main
from edgecnn.data.samples import Samples
from edgecnn.evaluation.chance import chance_warning, random_precision
from edgecnn.evaluation.left_out import left_out
from edgecnn.evaluation.task_answers import as_task
from edgecnn.tasks import multi_label as task
from runtimes.base import Array, BadInput, Runner
from runtimes.session import open_session

COUNTS = st.integers(1, 3)


def made(y: Array, names: tuple[str, ...] = ()) -> Samples:
    """Images whose only value is their own number."""
    ids = tuple(f"image {i}" for i in range(len(y)))
    return Samples("made", ids, lambda i: np.full((1, 2, 2), i, np.float32), None, names, truth=y)


def saying(rows: Array) -> Runner:
    """A network that answers image i with row i."""
    return lambda feeds: {"logits": rows[feeds["x"][:, 0, 0, 0].astype(int)]}


@st.composite
def drawn(draw: st.DrawFn) -> tuple[Array, Array]:
    """(scores, of few values so that many are equal; labels), each label on one image at least."""
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 5)))
    scores = draw(arrays.arrays(np.int64, shape, elements=st.integers(-3, 3)))
    y = draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 1)))
    y[draw(st.integers(0, shape[0] - 1))] = 1
    return scores / 2, y


@settings(max_examples=60, deadline=None)
@given(drawn())
def test_it_is_sklearns(case: tuple[Array, Array]) -> None:
    scores, y = case
    found = task.score(saying(scores), made(y), "x", batch=7)
    assert found.value == pytest.approx(average_precision_score(y, scores, average="macro"), abs=1e-12)
    squashed = task.score(saying(1 / (1 + np.exp(-scores))), made(y), "x")
    assert squashed.value == pytest.approx(found.value, abs=1e-12)  # a Sigmoid ranks alike
    each = average_precision_score(y, scores, average=None)
    assert list(found.details["ap"].values()) == pytest.approx(np.atleast_1d(each).tolist(), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(drawn(), st.integers(0, 1000))
def test_a_weighting_counts_images_so_many_times(case: tuple[Array, Array], seed: int) -> None:
    scores, y = case
    weights = np.random.default_rng(seed).integers(0, 3, (3, len(y)))
    found = task.score(saying(scores), made(y), "x").resample(weights)
    for row, value in zip(weights, found, strict=True):
        again, truth = np.repeat(scores, row, axis=0), np.repeat(y, row, axis=0)
        known = [k for k in range(y.shape[1]) if len(truth) and truth[:, k].any()]
        if not known:
            assert np.isnan(value)
            continue
        wanted = np.mean([average_precision_score(truth[:, k], again[:, k]) for k in known])
        assert value == pytest.approx(wanted, abs=1e-12)


def test_a_label_that_no_image_has_is_left_out_and_said() -> None:
    y = np.uint8([[1, 0, 0], [0, 0, 1], [1, 0, 1]])
    scores = np.float32([[2, 9, 1], [1, 9, 2], [3, 9, 3]])
    found = task.score(saying(scores), made(y, ("a", "b", "c")), "x")
    assert found.details["ap"] == {"a": 1.0, "b": None, "c": 1.0}
    assert found.value == 1.0
    line = left_out("multi-label", made(y, ("a", "b", "c")))
    assert line == "made: no image has b; mAP is the mean of the other 2 labels"
    assert left_out("multi-label", made(y[:, :1])) == ""
    with pytest.raises(BadInput, match="made: none of its images has a label; nothing can be found in it"):
        task.score(saying(scores), made(np.zeros((3, 3), np.uint8)), "x")


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_wrong(odd: float) -> None:
    """An image that has the label comes last, one that has it not comes first."""
    y = np.uint8([[1], [1], [0], [0]])
    scores = np.float32([[3], [2], [1], [0]])
    broken = scores.copy()
    broken[0] = odd
    found = task.score(saying(broken), made(y), "x").value
    assert found == pytest.approx((1 / 1 + 2 / 4) / 2)
    broken = scores.copy()
    broken[3] = odd
    assert task.score(saying(broken), made(y), "x").value == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.arange(4), r"y is int64 \[4\]; multi-label needs \(images, labels\) of 0 and 1"),
        (np.full((4, 2), "a"), r"y is <U1 \[4, 2\]; multi-label needs"),
        (np.zeros((4, 2, 2)), r"y is float64 \[4, 2, 2\]; multi-label needs"),
        (np.float32([[0, 1], [1, 0.5], [1, 1], [0, 0]]), "y is 0.5 for label hat of image 1; multi-label needs 0 or 1"),
        (np.full((4, 2), 2), "y is 2 for label smile of image 0"),
        (np.full((4, 2), np.nan), "y is nan for label smile of image 0"),
        (np.ones((4, 3), bool), r"y has 3 labels, the network answers \(N, 2\)"),
    ],
)
def test_what_is_no_label_is_one_line(y: Array, words: str) -> None:
    with pytest.raises(BadInput, match=f"made: {words}"):
        task.score(saying(np.zeros((4, 2), np.float32)), made(y, ("smile", "hat")), "x")


def test_agreement_asks_which_side_of_a_half() -> None:
    logits = np.float32([[-1, 2], [3, -4], [0.1, 0.1]])
    other = np.float32([[-0.1, 5], [-1, -4], [0.2, np.nan]])
    feeds = made(np.zeros((3, 2))).feeds("x", 2)
    found = task.agreement(saying(logits), saying(other), feeds)
    expected = average_precision_score(logits.ravel() > 0, np.nan_to_num(other, nan=-9).ravel())
    assert (found.share, found.images, found.changed) == (pytest.approx(expected), 3, pytest.approx(2 / 6))
    behind = [as_task(saying(1 / (1 + np.exp(-v))), "multi-label", sigmoid=True) for v in (logits, other)]
    assert task.agreement(*behind, feeds) == found
    plain = as_task(saying(logits), "multi-label", sigmoid=False)
    assert plain({"x": made(np.zeros((3, 2))).stack()})["logits"] is not None
    one = as_task(saying(logits[:, :1]), "multi-label", sigmoid=False)
    assert one({"x": made(np.zeros((3, 1))).stack()})["logits"].shape == (3, 1)  # one label is not two classes


def test_a_random_order_has_what_the_formula_says() -> None:
    places = [np.isin(np.arange(7), where).astype(int) for where in combinations(range(7), 3)]
    every = [average_precision_score(y, -np.arange(7)) for y in places]
    assert random_precision(3, 7) == pytest.approx(np.mean(every), abs=1e-12)
    samples = made(np.tile([[1, 0], [0, 1], [0, 0]], (20, 1)))
    assert "no better than a random order, which has 37." in chance_warning("n", "mAP", 0.3, samples, None)
    assert chance_warning("n", "mAP", 0.5, samples, None) == ""
    assert chance_warning("n", "mAP", 0.3, samples.subset(range(29)), None) == ""


# ------------------------------------------------------------------------------------------------------------- learning
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_same_behind_a_sigmoid(smoothing: float) -> None:
    """Probabilities are told from logits by the graph of the answer; extremes stay finite."""
    torch.manual_seed(0)
    body = torch.nn.Linear(4, 3)
    images, y = torch.randn(8, 4), np.float32(np.random.default_rng(0).integers(0, 2, (8, 3)))
    wanted = torch.from_numpy(y) * (1 - smoothing) + smoothing / 2
    p = torch.sigmoid(body(images))
    oracle = -(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean().item()
    behind = torch.nn.Sequential(body, torch.nn.Sigmoid())
    for module in (body, behind, torch.nn.Sequential(*behind, torch.nn.Flatten())):
        assert task.loss(module, images, y, smoothing).item() == pytest.approx(oracle, rel=1e-5)
    far = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Sigmoid())
    with torch.no_grad():
        far[0].bias.fill_(1e4)
    lost = task.loss(far, images, np.zeros((8, 3), np.float32), 0.0)
    lost.backward()
    assert torch.isfinite(lost)
    assert all(torch.isfinite(p.grad).all() for p in far.parameters() if p.grad is not None)


def test_pictures_are_mirrored_only_where_that_is_allowed() -> None:
    images = np.zeros((64, 1, 32, 32), np.float32)
    images[..., :12] = 1  # moved by two pixels at most, it stays in its half
    labels = np.zeros((64, 2), np.float32)
    moved, same = task.augment(images, labels, np.random.default_rng(0), False)
    assert same is labels
    assert not np.array_equal(moved, images)
    assert not moved[..., 16:].any()
    mirrored = task.augment(images, labels, np.random.default_rng(0), True)[0][..., 16:].any(axis=(1, 2, 3))
    assert 16 < mirrored.sum() < 48


# ------------------------------------------------------------------------------------------------------- the whole road
@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labels.csv, a trained tagger of it (a Sigmoid at its end, no task in its code), and its graph."""
    root = tmp_path_factory.mktemp("tags")
    nets(root)
    write_table(root / "photos", TAGS, tagged)
    report = api.train(f"{root}/nets.py:Probabilities", root / "photos", root / "w.safetensors", epochs=2, rate=0.1,
                       task="multi-label")  # fmt: skip
    assert (report.task, report.metric, report.classes) == ("multi-label", "mAP", 4)
    assert report.test_score > 0.8
    api.export(f"{root}/nets.py:Probabilities", root / "n.onnx", weights=root / "w.safetensors")
    return root


def test_its_weights_know_the_task_and_the_names(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch_side = [f"{trained}/nets.py:Probabilities", "--weights", str(trained / "w.safetensors")]
    values = []
    for model in (torch_side, [str(trained / "n.onnx")]):
        assert main(["evaluate", *model, "--data", str(trained / "photos"), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["metric"], told["task"]) == ("mAP", "multi-label")
        assert list(told["models"][0]["ap"]) == list(TAGS)
        values.append(told["models"][0]["value"])
    assert values[0] == pytest.approx(values[1], abs=1e-5)
    session = open_session(onnx.load(trained / "n.onnx"))
    fed = (PICTURES[:, None] / 127.5 - 1).astype(np.float32)
    raw = session({session.inputs[0].name: fed})[session.outputs[0].name]
    (other := trained / "as others").mkdir()
    copied = shutil.copytree(trained / "photos", other / "photos")
    (copied / "notes.txt").write_text("one file more: another set than the one that was trained on, judged as a whole")
    whole = api.evaluate(trained / "n.onnx", data=copied)
    assert whole.images == len(tagged)
    assert whole.models[0][1].value == pytest.approx(average_precision_score(tagged, raw), abs=1e-6)
    assert api.evaluate(trained / "n.onnx", data=trained / "photos").images == len(tagged) // 5  # its held-out fifth
    assert main(["evaluate", str(trained / "n.onnx"), "--data", str(trained / "photos")]) == 0
    assert "above four" in capsys.readouterr().out


def test_the_order_of_columns_does_not_matter(trained: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "p", TAGS[::-1], tagged[:, ::-1])
    both = (trained / "photos", tmp_path / "p")
    one, two = (api.evaluate(trained / "n.onnx", data=where).models[0][1].value for where in both)
    assert one == two
    write_table(tmp_path / "q", TAGS[:3], tagged[:, :3])
    with pytest.raises(BadInput, match="has no column one, which the model answers"):
        api.evaluate(trained / "n.onnx", data=tmp_path / "q")
    write_table(tmp_path / "r", ("even", "hat"), tagged[:, :2])
    with pytest.raises(BadInput, match="hat: unknown class"):
        api.evaluate(trained / "n.onnx", data=tmp_path / "r")


def test_the_budget_is_points_of_map(trained: Path, tmp_path: Path) -> None:
    photos = trained / "photos"
    kept = api.quantize(trained / "n.onnx", tmp_path / "a.edge", photos, data=photos, search_budget=0,
                        allow_slower=True, limit=64)  # fmt: skip
    assert kept.chosen == "int8"
    assert "mAP 9" in kept.verdict
    assert kept.judged_on == f"60 labelled images of {photos.name}"  # the fifth that did not calibrate
    assert kept.decision.accuracy is not None
    assert abs(kept.decision.accuracy["drop"]) < 0.01
    answer = api.run(tmp_path / "a.edge", PICTURES[0]).labels[0]
    assert {a.label for a in answer.scores} == set(TAGS)
    without = api.quantize(
        trained / "n.onnx", tmp_path / "b.onnx", photos, search_budget=0, allow_slower=True, limit=64
    )
    assert "finds the float graph's labels with " in without.verdict
    assert "95 %: at least" in without.verdict
    api.report(tmp_path / "a.edge", tmp_path / "a.html")
    assert "mAP" in (tmp_path / "a.html").read_text()


def test_a_budget_that_is_missed_keeps_float(trained: Path, tmp_path: Path) -> None:
    """Ranges of dark pictures clip all that tells digits apart."""
    photos = trained / "photos"
    report = api.quantize(trained / "n.onnx", tmp_path / "a.onnx", PICTURES[:16] // 64, data=photos, search_budget=0,
                          allow_slower=True)  # fmt: skip
    assert report.chosen == "float"
    assert "points of mAP (budget 1.0): kept float" in report.verdict
    assert report.failure is not None


def test_the_judge_counts_points_and_decisions(trained: Path) -> None:
    """A graph whose last layer was turned around loses what it had: the judge says so in points of mAP."""
    model = onnx.load(trained / "n.onnx")
    samples = made(tagged)
    samples = Samples("made", samples.ids, lambda i: (PICTURES[i][None] / 127.5 - 1).astype(np.float32), truth=tagged)
    session = open_session(model)
    judge = Judge(session, Trial(samples, session.inputs[0].name, 0.01, task="multi-label", sigmoid=True))
    output = model.graph.output[0].name
    turned = onnx.ModelProto()
    turned.CopyFrom(model)
    turned.graph.node[-1].output[0] = "before"
    one = onnx.helper.make_tensor("one_", onnx.TensorProto.FLOAT, [], [1.0])
    turned.graph.initializer.append(one)
    turned.graph.node.append(onnx.helper.make_node("Sub", ["one_", "before"], [output]))
    found = judge.of(turned)
    assert found.drop > 0.3
    assert found.words.startswith("loses ")
    assert found.words.endswith("points of mAP (budget 1.0)")
    blind = Judge(
        session, Trial(samples.without_answers(), session.inputs[0].name, 0.01, task="multi-label", sigmoid=True)
    )
    told = blind.of(turned)
    assert told.agreement is not None
    assert told.agreement < 0.7
    assert told.drop > 0.98, "every label is another"
    assert blind.of(turned).drop_high == 1.0
    assert "labels, " in blind.of(turned).words
    assert "of all, on " in blind.of(turned).words


def test_a_rare_label_that_is_lost_costs_its_share_of_what_was_said() -> None:
    """Of 20 labels each is said of 1 % of the images: who says none has 99 % of all alike, and finds nothing."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-4, 1, (300, 20)).astype(np.float32)
    logits[rng.random((300, 20)) < 0.01] = 3
    feeds = made(np.zeros((300, 20))).feeds("x", 300)
    silent = task.agreement(saying(logits), saying(rng.normal(-4, 1, (300, 20)).astype(np.float32)), feeds)
    assert silent.changed is not None
    assert silent.changed < 0.02 < 0.5 < silent.lost
    one = logits.copy()
    one[:, 7] = -9
    said, of_all = (logits > 0)[:, 7].sum(), (logits > 0).sum()
    assert task.agreement(saying(logits), saying(one), feeds).lost == pytest.approx(said / of_all, abs=0.02)
    rounded = logits + rng.normal(0, 0.05, logits.shape).astype(np.float32)
    assert task.agreement(saying(logits), saying(rounded), feeds).lost < 0.001
    nothing = np.full((300, 20), -1, np.float32)
    assert task.agreement(saying(nothing), saying(nothing), feeds).share == 1.0


def test_a_file_that_says_nothing_is_taken_for_labels_where_it_ends_in_a_sigmoid(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = strip(trained / "n.onnx", tmp_path / "bare.onnx")
    photos = str(trained / "photos")
    asked = ["quantize", str(bare), "-o", str(tmp_path / "q.onnx"), "--calib", photos, "--data", photos, "--limit",
             "64", "--preprocess", "signed", "--search-budget", "0", "--allow-slower", "--json"]  # fmt: skip
    assert main(asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert any("taken for labels that do not exclude each other; --task classification" in w for w in told["warnings"])
    assert told["accuracy"]["float"] > 0.8
    assert main(["evaluate", str(bare), "--data", str(trained / "photos"), "--preprocess", "signed"]) == 2
    assert "its labels.csv is read with --task multi-label" in capsys.readouterr().err
    np.savez(tmp_path / "y.npz", x=PICTURES, y=tagged)
    assert main(["evaluate", str(bare), "--data", str(tmp_path / "y.npz"), "--preprocess", "signed"]) == 2
    assert "--task multi-label reads what is in y" in capsys.readouterr().err
    assert main(["evaluate", str(bare), "--data", str(tmp_path / "y.npz"), "--preprocess", "signed", "--task",
                 "multi-label", "--min-metric", "0.999"]) == 1  # fmt: skip
    assert "--min-metric wants 99.90%" in capsys.readouterr().err


def test_y_of_another_kind_leaves_agreement_and_a_line(trained: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "y.npz", x=PICTURES, y=np.linspace(0, 1, len(PICTURES)))
    report = api.quantize(trained / "n.onnx", tmp_path / "o.onnx", trained / "photos", data=tmp_path / "y.npz",
                          search_budget=0, allow_slower=True, limit=64)  # fmt: skip
    assert any("cannot be used: they are numbers, and y is float64" in line for line in report.warnings)
    assert report.decision.accuracy is None
    own = api.evaluate(trained / "n.onnx", data=tmp_path / "y.npz", metric=lambda answers, name, truth: float(truth))
    assert own.models[0][1].value == pytest.approx(0.5)
