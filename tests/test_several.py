"""Networks of several inputs: their data by the name of the input, the same sample for each, through every command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn import api
from edgecnn.cli import main
from edgecnn.data.data_argument import given
from edgecnn.data.load import load_data
from edgecnn.data.several import load_several, lost_in, several
from runtimes.base import Array, BadInput, Tensors
from runtimes.imaging.several import Several
from runtimes.session import TensorInfo, open_session
from small_nets import model, save

IMAGE, META = TensorInfo("image", "float32", ("N", 3, 8, 8)), TensorInfo("meta", "float32", ("N", 4))
WANTED = Several((IMAGE, META))
NET = """
<ir_version: 9, opset_import: ["" : 20]>
two (float[N, 3, 8, 8] image, float[N, 4] meta) => (float[N, 3] y) {
    c = Conv <pads = [1, 1, 1, 1]> (image, w)
    r = Relu (c)
    d = Conv <pads = [1, 1, 1, 1]> (r, v)
    e = Relu (d)
    g = GlobalAveragePool (e)
    f = Flatten (g)
    j = Concat <axis = 1> (f, meta)
    y = Gemm <transB = 1> (j, u)
}
"""


def net() -> onnx.ModelProto:
    rng = np.random.default_rng(40)
    shapes = {"w": (16, 3, 3, 3), "v": (16, 16, 3, 3), "u": (3, 20)}
    return model(NET, **{name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()})


def arrays(count: int = 12) -> dict[str, Array]:
    """Sample i holds i / 4 in every place of `meta`; its class is what the network says."""
    rng = np.random.default_rng(1)
    made = {
        "image": rng.standard_normal((count, 3, 1, 1), np.float32) + rng.standard_normal((count, 3, 8, 8), np.float32),
        "meta": np.repeat(np.arange(count, dtype=np.float32)[:, None] / 4, 4, axis=1),
    }
    return made | {"y": open_session(net())(made)["y"].argmax(1)}


def row_of(feed: Tensors) -> int:
    return round(float(feed["meta"][0, 0]) * 4)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(net(), tmp_path / "two.onnx")
    np.savez(tmp_path / "d.npz", **arrays())
    return tmp_path


# --------------------------------------------------------------------------------------------------------------- data
@pytest.mark.parametrize("source", ["file", "dict"])
def test_rows_stay_together_whatever_is_drawn(files: Path, source: str) -> None:
    samples = load_data(given("d.npz") if source == "file" else arrays(), WANTED, limit=5, seed=3)
    assert len(samples) == 5
    everything = arrays()
    for feed, label in zip(samples.feeds("image", 1), samples.labels, strict=True):
        row = row_of(feed)
        assert np.array_equal(feed["image"][0], everything["image"][row])
        assert label == everything["y"][row]
    (batch, *_) = samples.remembered().feeds("image", 4)
    assert batch["image"].shape == (4, 3, 8, 8)
    assert batch["meta"].shape == (4, 4)


def test_one_number_for_each_sample_stays_one() -> None:
    wanted = Several((IMAGE, TensorInfo("id", "int64", ("N",))))
    samples = load_data({"image": arrays()["image"], "id": np.arange(12)}, wanted)
    for kept in (samples, samples.remembered()):
        assert [feed["id"].tolist() for feed in kept.feeds("image", 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        assert kept.feeds("image", 1)[5]["id"].shape == (1,)


def test_both_parts_of_a_split_are_whole_samples() -> None:
    train, test = (load_data(arrays(), WANTED, split=part) for part in ("train", "test"))
    seen = [row_of(feed) for part in (train, test) for feed in part.feeds("image", 1)]
    assert sorted(seen) == list(range(12))
    assert 0 < len(test) < len(train)


def test_noise_is_seeded_and_differs_between_samples() -> None:
    one, again, other = (load_data("random:3", WANTED, seed=seed).feeds("image", 3)[0] for seed in (0, 0, 1))
    for name in ("image", "meta"):
        assert np.array_equal(one[name], again[name])
        assert not np.array_equal(one[name], other[name])
        assert not np.array_equal(one[name][0], one[name][1])


def test_whole_numbers_of_any_width_are_taken_where_the_network_wants_such() -> None:
    wanted = Several((IMAGE, TensorInfo("rows", "int64", ("N", 2))))
    data = {"image": arrays()["image"], "rows": np.ones((12, 2), np.int32)}
    feed = load_data(data, wanted).feeds("image", 2)[0]
    assert feed["rows"].dtype == np.int64
    assert feed["image"].dtype == np.float32
    with pytest.raises(BadInput, match=r"rows is float32 .12, 2.; the model is fed int64 .N, 2. as it is"):
        load_data({**data, "rows": np.ones((12, 2), np.float32)}, wanted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"meta": None},
            "d: holds image, no meta; the model takes image float32 .N, 3, 8, 8., meta .*: name the arrays after",
        ),
        ({"meta": np.zeros((5, 4), np.float32)}, "d: holds 12 rows of image, 5 rows of meta; give as many of each"),
        ({"meta": np.zeros((12, 3), np.float32)}, "meta is float32 .12, 3.; the model is fed float32 .N, 4. as it is"),
        ({"image": np.zeros((12, 3, 8, 8), np.uint8)}, "image is uint8 .12, 3, 8, 8.; the model is fed float32"),
        ({"y": np.zeros(12)}, "labels are float64 .12.; one whole number"),
    ],
)
def test_arrays_that_do_not_fit_are_named(change: dict[str, Array | None], words: str, tmp_path: Path) -> None:
    data = {**arrays(), **change}
    if "y" not in change:
        del data["y"]
    path = tmp_path / "d.npz"
    np.savez(path, **{name: value for name, value in data.items() if value is not None})
    with pytest.raises(BadInput, match=words.replace("d: ", f"{path}: ")):
        load_data(str(path), WANTED)


@pytest.mark.parametrize("name", ["image", "meta"])
def test_what_is_not_finite_is_named_when_it_is_met(name: str) -> None:
    data = arrays()
    data[name][7] = np.nan
    feeds = load_data(data, WANTED).feeds("image", 1)
    assert feeds[6]
    with pytest.raises(BadInput, match=rf"data array: {name}\[7\].*NaN or infinity|data array\[7\].*NaN or infinity"):
        feeds[7]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("digits", "digits: the model takes image .*; give an .npz file with an array for each, or random"),
        (np.zeros((3, 3, 8, 8), np.float32), "data array: is one array; .*; give a dict of arrays by input"),
        ("random:0", "random:0: write random or random:N with N from 1 to 100,000"),
        ("random:many", "random:many: write random or random:N with N from 1 to 100,000"),
    ],
)
def test_other_data_is_refused(data: str | Array, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        load_data(data, WANTED)


def test_sizes_must_be_known_but_for_the_batch() -> None:
    with pytest.raises(BadInput, match=r"net: its input image is \[N, 3, \?, \?\].*edgecnn simplify --input-shape"):
        several("net", [TensorInfo("image", "float32", ("N", 3, None, None)), META])
    with pytest.raises(BadInput, match=r"net: its input k is \[\].*a row for each sample"):
        several("net", [IMAGE, TensorInfo("k", "int64", ())])


def test_one_input_takes_the_images_of_a_dict() -> None:
    data = {"y": np.array([0, 1, 1]), "x": np.arange(12, dtype=np.float32).reshape(3, 4)}
    samples = load_data(data, (4,))
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 1]
    assert samples[2].tolist() == [8.0, 9.0, 10.0, 11.0]


# ---------------------------------------------------------------------------------------------------------- commands
def test_the_integer_graph_answers_both_inputs(files: Path) -> None:
    report = api.quantize(
        "two.onnx", "q.onnx", arrays(), data="d.npz", max_drop=0.2, allow_slower=True, search_budget=0
    )
    assert report.chosen != "float"
    assert report.decision.metric == "top-1"
    assert "arrays given are fed as they are" in report.pixels
    data = arrays()
    del data["y"]
    base, int8 = (open_session(Path(name).read_bytes())(data)["y"] for name in ("two.onnx", "q.onnx"))
    noise = float(np.square(base - int8).sum() / np.square(base).sum())
    assert noise < 0.01, "20 dB"
    assert api.check("two.onnx", "q.onnx", data="d.npz").passed
    found = api.diff("two.onnx", "q.onnx", data=data)
    assert (found.samples, found.first) == (3, None)


def test_a_second_input_that_matters_is_not_left_out(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that ignores `meta` answers the same only where `meta` is not fed."""
    other = net()
    weight = next(t for t in other.graph.initializer if t.name == "u")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[:, 16:] = 0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "u"))
    save(other, files / "blind.onnx")
    assert main(["check", "two.onnx", "blind.onnx", "--data", "d.npz", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["outputs"][0]["snr_db"] < 20


def test_answers_are_scored(files: Path) -> None:
    report = api.evaluate("two.onnx", data="d.npz")
    ((_, score),) = report.models
    assert (score.value, score.images) == (1.0, 12)


def test_a_metric_of_ones_own_judges_it(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "own.py").write_text("def largest(answers, name):\n    return float(answers['y'].max() > 0)\n")
    assert main(["evaluate", "two.onnx", "--data", "d.npz", "--metric", "own.py:largest", "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["models"][0]["value"] <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "q.onnx", "--preprocess", "imagenet"], "--preprocess imagenet: the model takes image float32"),
        (["-o", "q.onnx", "--input-shape", "image:3,8,8"], "the model has several inputs"),
        (["-o", "q.onnx", "--input", "uint8"], "takes no pictures"),
    ],
)
def test_what_needs_one_input_says_so(
    files: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["quantize", "two.onnx", "--calib", "d.npz", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(files.glob("q.*"))


@pytest.mark.parametrize(
    ("inputs", "lost"),
    [
        ({"x": ("N", 8, 8, 3), "net/Sub/y:0": (1, 1, 1, 3), "net/Sqrt/x:0": (1, 1, 1, 3)}, "Sub/y:0 and 1 other look"),
        ({"x": ("N", 8, 8, 3), "mean": (1, 1, 1, 3)}, "mean looks like a constant that the converter lost: convert"),
        ({"x": (1, 8, 8, 3), "net/Sub/y:0": (1, 1, 1, 3)}, "Sub/y:0 looks"),
        ({"x:0": ("N", 8, 8, 3), "meta:0": ("N", 4)}, ""),
        ({"x": (1, 8, 8, 3), "meta": (1, 4)}, ""),
        ({"a/x": ("N", 8, 8, 3), "a/meta": ("N", 4)}, ""),
    ],
)  # fmt: skip
def test_constants_that_a_converter_made_inputs(inputs: dict[str, tuple[int | str, ...]], lost: str) -> None:
    infos = [TensorInfo(name, "float32", shape) for name, shape in inputs.items()]
    assert lost_in(infos).startswith(lost)
    assert bool(lost_in(infos)) == bool(lost)
    with pytest.raises(BadInput, match=f"; {lost}" if lost else "or random$"):
        load_several("photos", Several(tuple(infos)), 0)
