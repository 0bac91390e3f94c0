"""Arrays in memory are data as files are: the same samples, the same numbers, one line for what is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from edgecnn import api
from edgecnn.cli import main
from edgecnn.data.data_argument import InMemory, given
from edgecnn.data.feeding import ready_shape
from edgecnn.data.load import load_data
from edgecnn.data.material import material_for
from edgecnn.data.one_set import both
from edgecnn.data.picture_size import common_size
from runtimes.base import BadInput
from runtimes.bundle import open_bundle
from runtimes.imaging.open_sizes import OPEN
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import TensorInfo
from small_nets import conv_net, model, save

READY = Preprocess(size=(8, 8), channels=3)
RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (20, 12, 12, 3), np.uint8)
FLOATS = RNG.standard_normal((20, 3, 8, 8)).astype(np.float32)
LABELS = np.arange(20) % 10
CLIPS = RNG.standard_normal((12, 2, 40)).astype(np.float32)
"""What the network below takes: sequences, no pictures."""
AUDIO = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 2, 40] x) => (float[N, 4] y) {
    a = Conv <kernel_shape = [5], strides = [2]> (x, w)
    b = Relu (a)
    c = GlobalAveragePool (b)
    d = Flatten (c)
    y = MatMul (d, v)
}
"""


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(1).standard_normal
    made = model(AUDIO, w=draw((16, 2, 5)).astype(np.float32) / 2, v=draw((16, 4)).astype(np.float32))
    return save(made, tmp_path_factory.mktemp("audio") / "audio.onnx")


@pytest.fixture(scope="module")
def bundle(audio: Path) -> Path:
    path = audio.with_name("audio.edge")
    api.quantize(audio, path, CLIPS, search_budget=0)
    return path


@pytest.mark.parametrize("images", [PIXELS, FLOATS, FLOATS.astype(np.float64)], ids=["uint8", "float32", "float64"])
def test_an_array_is_read_as_its_file_is(images: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=images, y=LABELS)
    np.save(tmp_path / "a.npy", images)
    for data, file in ((images, "a.npy"), ((images, LABELS), "a.npz")):
        for split in ("all", "train", "test"):
            ours = load_data(data, READY, limit=9, seed=3, split=split)
            theirs = load_data(tmp_path / file, READY, limit=9, seed=3, split=split)
            assert np.array_equal(ours.stack(), theirs.stack())
            assert (ours.labels is None) == (theirs.labels is None) == (file == "a.npy")
            assert ours.labels is None or ours.labels.tolist() == theirs.labels.tolist()  # type: ignore[union-attr]
            assert (ours.class_names, ours.as_is) == (theirs.class_names, theirs.as_is)
    assert load_data(images, READY).ids[3] == "data array[3]"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (7, r"^calib: is a int; give a path or name, an array, the arrays \(images, labels\) or a dict of arrays$"),
        ([PIXELS], "^calib: is a list; "),
        ((PIXELS, [1, 2]), "^calib: is a tuple of ndarray, list; "),
        ((PIXELS, LABELS, LABELS), "^calib: is a tuple of ndarray, ndarray, ndarray; "),
        (np.array(["a"]), "^calib array: holds <U1, not numbers; "),
        (np.zeros((0, 3, 8, 8)), r"^calib array: is empty, shape \[0, 3, 8, 8\]; "),
        (np.zeros((2, 5)), r"^calib array: is float64 \[2, 5\]; this network needs float \[N, 3, 8, 8\] or uint8 "),
        ((PIXELS, LABELS[:3]), r"^calib array: y has 3 rows, x has [0-9]+; give one for each$"),
    ],
    ids=str,
)
def test_what_is_no_data_is_told_in_a_line(data: Any, line: str, tmp_path: Path) -> None:
    net = save(conv_net(), tmp_path / "net.onnx")
    with pytest.raises(BadInput, match=line) as told:
        api.quantize(net, tmp_path / "out.onnx", data, search_budget=0)
    assert "\n" not in str(told.value)


def test_one_set_given_twice_is_split_and_two_are_not() -> None:
    one = material_for(conv_net(), None, FLOATS, (FLOATS, LABELS), 64, 0)
    assert one.judged.labels is not None
    assert (len(one.calibration), len(one.judged)) == (10, 10)
    assert not set(one.calibration.ids) & set(one.judged.ids)
    two = material_for(conv_net(), None, FLOATS, FLOATS + 1, 64, 0)
    assert (len(two.calibration), len(two.judged)) == (20, 20)
    assert two.judged_on.startswith("20 images without labels: ")
    assert two.judged.name != two.calibration.name
    alone = material_for(conv_net(), None, FLOATS, None, 16, 0)
    assert alone.judged_on.startswith("4 images without labels that did not calibrate: ")


def test_text_and_paths_stay_text() -> None:
    assert given("digits") == "digits"
    assert given(Path("a/b.npz")) == "a/b.npz"
    assert both("digits", None) == ("digits", None)
    assert InMemory("a", PIXELS) == InMemory("b", PIXELS)
    assert InMemory("a", PIXELS) != InMemory("a", PIXELS.copy())
    assert common_size([InMemory("a", PIXELS)]) == (12, 12)
    assert common_size([InMemory("a", FLOATS)]) is None


def test_every_call_that_takes_data_takes_arrays(tmp_path: Path) -> None:
    float32 = save(conv_net(), tmp_path / "net.onnx")
    labelled = (FLOATS, LABELS)
    np.savez(tmp_path / "a.npz", x=FLOATS, y=LABELS)
    made = api.quantize(float32, tmp_path / "q.onnx", FLOATS, data=labelled, search_budget=0, max_drop=1)
    assert made.judged_on == "10 labelled images of calib array"
    scores = [api.evaluate(float32, data=data).models[0][1].value for data in (labelled, tmp_path / "a.npz")]
    assert scores[0] == scores[1]
    checked = api.check(float32, tmp_path / "q.onnx", data=FLOATS, snr_db=500)
    assert (checked.data, checked.parity.images) == ("data array", 20)
    assert checked.next_command.endswith("--data ARRAY.npy --snr-db 500")
    assert api.diff(float32, tmp_path / "q.onnx", data=FLOATS, samples=2).data == "data array"
    assert api.half(float32, tmp_path / "h.onnx", calib=FLOATS, allow_slower=True).data == "calib array"


def test_training_and_building_take_arrays(tmp_path: Path) -> None:
    grey = RNG.integers(0, 256, (20, 28, 28), np.uint8)
    report = api.train("lenet5", (grey, LABELS), tmp_path / "w.safetensors", epochs=1)
    assert (report.data, report.classes, report.train_images + report.test_images) == ("data array", 10, 20)
    with pytest.raises(BadInput, match=r"^data array: has no classes to learn"):
        api.train("lenet5", grey, tmp_path / "v.safetensors", epochs=1)


def test_building_takes_arrays(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    labelled = (PIXELS, LABELS)
    built = api.build(net, tmp_path / "net.edge", input_shape=(3, 8, 8), calib=PIXELS, data=labelled, search_budget=0)
    assert built.judged_on == "10 labelled images of calib array"
    assert open_bundle(tmp_path / "net.edge").labels == tuple("0123456789")
    with pytest.raises(BadInput, match=r"^data: is a dict; give a path"):
        api.build(net, tmp_path / "b.edge", input_shape=(3, 8, 8), calib=PIXELS, data={})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- networks that take no pictures
@pytest.mark.parametrize(
    ("shape", "names"),
    [((2, 40), ["c.npy"]), ((1, 2, 40), ["c.npy[0]"]), ((3, 2, 40), ["c.npy[0]", "c.npy[1]", "c.npy[2]"])],
)
def test_run_takes_one_sequence_or_several(
    shape: tuple[int, ...], names: list[str], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clips = np.resize(CLIPS, shape)
    np.save("c.npy", clips)
    answers = api.run(bundle, "c.npy").predictions
    assert [answer.input for answer in answers] == names
    alone = [api.run(bundle, clip).predictions[0].top for clip in clips.reshape(-1, 2, 40)]
    assert [answer.top for answer in answers] == alone
    assert [answer.top for answer in api.run(bundle, clips).predictions] == alone


@pytest.mark.parametrize("shape", [(40,), (2, 41), (3, 2, 41), (1, 1, 2, 40)])
def test_run_names_the_shape_that_was_given(shape: tuple[int, ...], bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.zeros(shape, np.float32))
    held = str(list(shape)).replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(
        BadInput, match=rf"c\.npy: is float32 {held}; this network needs float \[2, 40\] or \[N, 2, 40\]$"
    ):
        api.run(bundle, tmp_path / "c.npy")


def test_check_diff_and_evaluate_take_sequences(audio: Path, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "clips.npy", CLIPS)
    for data in (tmp_path / "clips.npy", CLIPS):
        assert api.check(audio, bundle, data=data).parity.images == 12
        assert api.diff(audio, bundle, data=data).data in (str(data), "data array")
    assert api.evaluate(audio, data=(CLIPS, np.arange(12) % 4)).models[0][1].value <= 1
    with pytest.raises(BadInput, match=r"digits: this network takes \[N, 2, 40\], no pictures; give float arrays"):
        api.check(audio, audio, data="digits")
    with pytest.raises(BadInput, match=r"data array: is float32 \[20, 3, 8, 8\]; this .* needs float \[N, 2, 40\]$"):
        api.diff(audio, audio, data=FLOATS)


def test_a_size_that_is_open_takes_that_of_the_data_asked_for(tmp_path: Path) -> None:
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 2, L] x) => (float[N, 2, L] y) { y = Relu (x) }'
    path = save(model(head), tmp_path / "open.onnx")
    assert api.check(path, path, data=CLIPS, input_shape="2,40").sizes == ((1, 2, 40),)
    assert ready_shape("net", [TensorInfo("x", "float32", ("N", 2, "L"))]) == (2, OPEN)
    for inputs, way in (
        ([TensorInfo("x", "float32", ("N", 3, "H", "W"))], "give --input-shape"),
        ([TensorInfo("x", "int64", ("N", 2))], "give another model"),
        ([], "give another model"),
    ):
        with pytest.raises(BadInput, match=f"^net: takes .*; data fits a float32 input of known size, {way}$"):
            ready_shape("net", inputs)


def test_what_is_printed_to_go_on_with_works(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("ARRAY.npy", CLIPS)
    words = ["quantize", str(audio), "-o", "a.edge", "--calib", "ARRAY.npy", "--search-budget", "0"]
    assert main(words) == 0
    told = capsys.readouterr().out.partition("go on with:")[2].splitlines()[:2]
    assert [line.split() for line in told] == [
        ["edgecnn", "verify", "a.edge"], ["edgecnn", "run", "a.edge", "ARRAY.npy"],
    ]  # fmt: skip
    assert [main(line.split()[1:]) for line in told] == [0, 0]
    shown = subprocess.run([sys.executable, "a.edge"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "go on with: " in shown
    assert "a.edge run ARRAY.npy\n" in shown
    command = [sys.executable, "a.edge", "run", "ARRAY.npy", "--json"]
    device = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert len(device["predictions"]) == len(CLIPS)


def test_one_number_for_each_sequence_is_answered_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    one = AUDIO.replace("float[N, 4] y", "float[N, 1] y")
    save(model(one, w=np.ones((16, 2, 5), np.float32), v=np.ones((16, 1), np.float32)), Path("one.onnx"))
    np.save("clips.npy", CLIPS)
    assert main(["quantize", "one.onnx", "-o", "one.edge", "--calib", "clips.npy", "--search-budget", "0"]) == 0
    told, warned = capsys.readouterr()
    assert "edgecnn run one.edge ARRAY.npy" in told
    assert "is taken for a number; --task classification" in warned
    assert main(["run", "one.edge", "clips.npy"]) == 0
    assert "%" not in capsys.readouterr().out
