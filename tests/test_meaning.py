"""What answers are taken for where nobody said it, and what a named task does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn import api, tasks
from edgecnn.cli import main
from edgecnn.meaning import is_unit, of_answers, why_no_logits
from edgecnn.networks.sources import resolve
from edgecnn.networks.unstated_task import meant
from edgecnn.road import named
from runtimes.base import Array, BadInput
from runtimes.session import open_session
from small_nets import model as onnx_model

RNG = np.random.default_rng(4)
LOGITS = RNG.normal(0, 6, (16, 10)).astype(np.float32)
PICTURES = RNG.integers(0, 256, (24, 8, 8), np.uint8)


def softmax(x: Array) -> Array:
    return np.asarray(np.exp(x) / np.exp(x).sum(1, keepdims=True))


ORDINARY: dict[str, tuple[Array, str]] = {
    "logits": (LOGITS, ""),
    "probabilities": (softmax(LOGITS), "Softmax"),
    "probabilities of one hot": (np.eye(10, dtype=np.float32)[:8], "Softmax"),
    "log probabilities": (np.log(softmax(LOGITS)), "LogSoftmax"),
    "an untrained network": (LOGITS / 1000, ""),
    "logits that are never negative": (abs(LOGITS), ""),
    "sure logits": (LOGITS * 3, ""),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_a_classifier_stays_one_and_nothing_is_said(kind: str) -> None:
    answers, ending = ORDINARY[kind]
    assert of_answers("m", (None, 10), ending, answers, labelled=False, names=0) == ("classification", "")


@pytest.mark.parametrize(
    ("answers", "ending", "task", "words"),
    [
        (LOGITS / np.linalg.norm(LOGITS, axis=1)[:, None], "", "embedding", "(N, 10) output always has length 1"),
        (1 / (1 + np.exp(-LOGITS)), "Sigmoid", "multi-label", "do not exclude each other"),
        (LOGITS[:, :1], "", "regression", "(N, 1) output is taken for a number"),
        (LOGITS[:, 0], "", "regression", "(N) output is taken for a number"),
        (LOGITS[:, :1], "Sigmoid", "classification", "taken for the score of two classes; --task regression"),
        (LOGITS + 150, "", "classification", "for class scores, though it holds numbers from 1"),
        (48 + LOGITS, "", "classification", "though its numbers stay near means of their own above 0"),
        ((48 + LOGITS) / 96, "", "classification", "as coordinates do; --task regression if it is not"),
        (np.maximum(LOGITS, 0), "Relu", "classification", "though it ends in a Relu; --task regression if it is not"),
    ],
)
def test_what_else_it_is_taken_for_is_told(answers: Array, ending: str, task: str, words: str) -> None:
    found, line = of_answers("m", ("N", *answers.shape[1:]), ending, answers, labelled=False, names=0)
    assert found == task
    assert line.startswith("m: does not say its task; its (")
    assert words in line
    labelled = of_answers("m", ("N", *answers.shape[1:]), ending, answers, True, 0)
    assert labelled == ((task, line) if task == "embedding" else ("classification", ""))


def test_names_speak_for_classes() -> None:
    assert of_answers("m", (None, 1), "", LOGITS[:, :1], False, names=2) == ("classification", "")
    assert of_answers("m", (None, 10), "", LOGITS + 150, False, names=10) == ("classification", "")
    assert not is_unit(np.eye(3, dtype=np.float32))
    assert why_no_logits(np.float32([[np.nan, 200]]), "") == ""


NETS = """
import torch
from torch import nn
class Net(nn.Module):
    input_shape = (1, 8, 8)
    ATTRIBUTES
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Flatten(), nn.Linear(64, OUT))
    def forward(self, x):
        x = self.f(x)
        return TAIL
"""


def source(folder: Path, attributes: str = "pass", out: int = 5, tail: str = "x") -> str:
    path = folder / "nets.py"
    path.write_text(NETS.replace("ATTRIBUTES", attributes).replace("OUT", str(out)).replace("TAIL", tail))
    return f"{path}:Net"


@pytest.mark.parametrize("task", [*sorted({*tasks.NUMBERS} - {tasks.IMAGE, tasks.KEYPOINTS}), "classification"])
def test_a_task_is_said_by_the_class_or_by_the_caller(task: str, tmp_path: Path) -> None:
    said = resolve(source(tmp_path, f"task = {task!r}", tail="torch.sigmoid(x)"))
    told = resolve(source(tmp_path, "task = 'segmentation'", tail="torch.sigmoid(x)"), task=task)
    for network in (said, told):
        assert (network.task, network.tasked, network.ending, network.classes) == (task, True, "Sigmoid", 5)
        assert meant(network) == (network, "")


def test_an_unknown_task_is_refused_with_the_nearest(tmp_path: Path) -> None:
    where = source(tmp_path, "task = 'regresion'")
    with pytest.raises(BadInput, match=r"nets.py:Net.task: regresion: unknown task; did you mean regression"):
        resolve(where)
    with pytest.raises(BadInput, match=r"--task: multilabel: unknown task; did you mean multi-label"):
        resolve(where, task="multilabel")
    with pytest.raises(BadInput, match=r"--task: regresion: unknown task; did you mean regression"):
        api.evaluate(scores(tmp_path), data=PICTURES, task="regresion")


@pytest.mark.parametrize(
    ("out", "tail", "y", "task", "classes"),
    [
        (1, "x", None, "regression", None),
        (1, "x", np.arange(24) % 2, "classification", 2),
        (1, "x[:, 0]", np.arange(24) % 2, "classification", 2),
        (1, "x", np.arange(24), "regression", None),  # no two classes
        (1, "x", np.linspace(0, 1, 24), "regression", None),
        (1, "torch.sigmoid(x)", None, "classification", 2),
        (5, "torch.sigmoid(x)", None, "multi-label", 5),
        (5, "torch.sigmoid(x)", np.arange(24) % 5, "classification", 5),
        (5, "nn.functional.normalize(x)", None, "embedding", 5),
        (5, "nn.functional.normalize(x)", np.arange(24) % 3, "embedding", 5),
        (5, "x * 1000 + 500", None, "classification", 5),
        (5, "x.softmax(1)", None, "classification", 5),
    ],
)
def test_data_and_answers_speak_where_the_code_does_not(
    out: int, tail: str, y: Array | None, task: str, classes: int | None, tmp_path: Path
) -> None:
    """A line is told where something was assumed: never where the data has classes, or for an ordinary classifier."""
    network = resolve(source(tmp_path, out=out, tail=tail))
    arrays = {"x": PICTURES} if y is None else {"x": PICTURES, "y": y}
    np.savez(tmp_path / "d.npz", **arrays)
    spec = str(tmp_path / "d.npz")
    after, heard = named(network, spec, spec)
    assert (after.task, after.classes) == (task, classes)
    assumed = [line for line in heard if "does not say its task" in line]
    ordinary = tail == "x.softmax(1)" or (task == "classification" and y is not None)
    assert len(assumed) == (0 if ordinary else 1)


def test_folders_of_calibration_images_are_no_classes(tmp_path: Path) -> None:
    from PIL import Image

    for i in range(2):
        (tmp_path / "photos" / str(i)).mkdir(parents=True)
        Image.fromarray(PICTURES[i]).save(tmp_path / "photos" / str(i) / "a.png")
    network, _ = named(resolve(source(tmp_path, tail="torch.sigmoid(x)")), str(tmp_path / "photos"), None)
    assert network.task == "multi-label"


class AsManyAsItCounts(nn.Module):
    """Its answer is as long as its numbers say."""

    input_shape = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.conv(x).mean((2, 3))
        return seen[:, : 2 + int(seen.abs().sum() * 9) % 5]


def test_answers_may_have_another_size_for_another_image(tmp_path: Path) -> None:
    net = AsManyAsItCounts().eval()
    report = api.export(net, tmp_path / "net.onnx")
    assert report.stages[-1].snr_db is not None
    session, sizes = open_session(tmp_path / "net.onnx"), set()
    for seed in range(8):
        x = 9 * np.random.default_rng(seed).standard_normal((1, 3, 8, 8)).astype(np.float32)
        (found,), wanted = session({session.inputs[0].name: x}).values(), net(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        sizes.add(found.shape)
    assert len(sizes) > 1


def test_export_writes_what_was_assumed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    report = api.export(source(tmp_path, tail="torch.sigmoid(x)"), tmp_path / "n.onnx")
    assert any("ends in a Sigmoid" in line for line in report.warnings)
    from exporters.artifact import read_identity
    from exporters.load import load_model

    identity = read_identity(load_model(tmp_path / "n.onnx"))
    assert identity is not None
    assert (identity.task, identity.sigmoid) == ("multi-label", True)


# ----------------------------------------------------------------------------------------------- a file, to its answers
def scores(folder: Path, ending: str = "y = Mul (g, big)") -> Path:
    path = folder / "net.onnx"
    values = ", ".join(f"{v:.4f}" for v in np.random.default_rng(9).normal(0, 0.3, 4 * 9))
    heads = ", ".join(f"{v:.4f}" for v in np.random.default_rng(8).normal(0, 0.3, 3 * 4 * 36))
    made = onnx_model(f"""<ir_version: 9, opset_import: ["" : 18]>
    g (float[N,1,8,8] x) => (float[N,3] y) <float[4,1,3,3] w = {{{values}}}, float[144,3] v = {{{heads}}},
        float big = {{100.0}}> {{
        c = Conv (x, w)
        r = Relu (c)
        f = Flatten (r)
        g = MatMul (f, v)
        {ending}
    }}""")
    path.write_bytes(made.SerializeToString())
    return path


def test_regression_is_judged_by_snr_and_its_numbers_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file without a task is taken for class scores, and a line says so."""
    model, bundle = scores(tmp_path), tmp_path / "n.edge"
    np.save(tmp_path / "x.npy", PICTURES)
    (tmp_path / "names.txt").write_text("x\ny\nangle\n")
    asked = ["quantize", str(model), "-o", str(bundle), "--calib", str(tmp_path / "x.npy"), "--search-budget", "0",
             "--preprocess", "signed", "--allow-slower", "--json", "--force", "--max-drop", "0.1"]  # fmt: skip
    assert main(asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert any("is taken for class scores, though it holds numbers from" in line for line in told["warnings"])
    assert any(c["agreement"] is not None for c in told["candidates"])

    assert main([*asked, "--task", "regression", "--labels", str(tmp_path / "names.txt")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["warnings"] == []
    assert all(c["agreement"] is None for c in told["candidates"])
    assert "SNR" in told["verdict"]

    found = api.run(bundle, PICTURES[:3]).numbers
    session = api.run(bundle, PICTURES[:3]).to_dict()["predictions"]
    values = found[0].outputs[0].values
    assert values is not None
    assert max(map(abs, values)) > 10  # no softmax
    assert session[0]["outputs"][0]["values"] == values
    assert main(["run", str(bundle), str(tmp_path / "x.npy")]) == 0
    shown = capsys.readouterr().out
    assert "%" not in shown
    assert "angle" in shown
    api.report(bundle, tmp_path / "n.html")
    page = (tmp_path / "n.html").read_text()
    assert "Numbers of each side, sample 1" in page
    assert "gives the same class" not in page
    (saved,) = api.run(bundle, PICTURES[0], save=tmp_path / "saved").numbers
    assert [Path(file).suffix for file in saved.files] == [".npz"]
    with pytest.raises(BadInput, match=r"data array: has no answers for regression; give a labels.csv .*--metric"):
        api.evaluate(bundle, data=PICTURES)
    assert api.evaluate(bundle, data=PICTURES, metric=lambda answers, name: 1.0).models[0][1].value == 1.0


def test_labels_that_do_not_exclude_each_other_have_a_score_each(tmp_path: Path) -> None:
    model, bundle = scores(tmp_path, "y = Sigmoid (g)"), tmp_path / "n.edge"
    report = api.quantize(
        model, bundle, PICTURES, search_budget=0, allow_slower=True, preprocess="signed", max_drop=0.1
    )
    assert any("ends in a Sigmoid: taken for labels" in line for line in report.warnings)
    for one in api.run(bundle, PICTURES).labels:
        chances = {answer.label: answer.score for answer in one.scores}
        assert set(one.labels) == {label for label, score in chances.items() if score > 0.5}
        assert len(chances) == 3
    sums = [sum(a.score for a in one.scores) for one in api.run(bundle, PICTURES).labels]
    assert max(abs(s - 1) for s in sums) > 0.1  # no softmax
    api.report(bundle, tmp_path / "n.html")
    assert "gives the same labels" in (tmp_path / "n.html").read_text()


def test_logits_of_labels_start_at_zero(tmp_path: Path) -> None:
    model, bundle = scores(tmp_path, "y = Identity (g)"), tmp_path / "n.edge"
    api.quantize(
        model,
        bundle,
        PICTURES,
        search_budget=0,
        allow_slower=True,
        preprocess="signed",
        task="multi-label",
        max_drop=0.1,
    )
    from runtimes.bundle import open_bundle

    session = open_bundle(bundle).session()
    for picture, one in zip(PICTURES, api.run(bundle, PICTURES).labels, strict=True):
        raw = session({"x": (picture[None, None] / 127.5 - 1).astype(np.float32)})["y"][0]
        assert set(one.labels) == {str(i) for i in np.flatnonzero(raw > 0)}
