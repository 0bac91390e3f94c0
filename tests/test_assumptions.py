"""What is assumed of a network's input is said, and only that."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn import doubts
from edgecnn.cli import main
from edgecnn.data.picture_size import common_size
from edgecnn.networks.assumptions import Assumed, sentence
from edgecnn.networks.overrides import told
from edgecnn.networks.sources import resolve
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess
from small_nets import conv_net, save

NET = """
from torch import nn
class Net(nn.Sequential):
    ATTRIBUTES
    def __init__(self):
        super().__init__(nn.Conv2d(CHANNELS, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


def source(folder: Path, attributes: str = "pass", channels: int = 3) -> str:
    path = folder / "nets.py"
    path.write_text(NET.replace("ATTRIBUTES", attributes).replace("CHANNELS", str(channels)))
    return f"{path}:Net"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.fromarray(np.full((20, 24, 3), i, np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("attributes", "channels", "expected"),
    [
        ("pass", 3, "says neither its input size nor its preprocessing: 3x224x224 and ImageNet's mean and deviation"),
        ("pass", 1, "says neither its input size nor its preprocessing: 1x224x224 and x/127.5 - 1 are assumed"),
        ("pass", 4, "does not say its input size: 4x224x224 is assumed; --input-shape C,H,W says otherwise"),
        ("input_shape = (3, 32, 32)", 3, "does not say its preprocessing: ImageNet's mean and deviation are assumed"),
        ("input_shape = (1, 32, 32)", 1, "does not say its preprocessing: x/127.5 - 1 is assumed; --preprocess says"),
        ("input_shape = (3, 9, 9); preprocess = dict(size=[9, 9], mean=[.3], std=[.2])", 3, ""),
        ("input_shape = (3, 9, 9); preprocess = dict(size=[8, 8], mean=[.3], std=[.2])", 3, ""),
        ("input_shape = (1, 9, 9); preprocess = dict(size=[9, 9], mean=[.3], std=[.2])", 1, ""),
        ("preprocess = dict(size=[9, 9], mean=[.3], std=[.2])", 1, ""),
    ],
)  # fmt: skip
def test_what_a_network_does_not_say_is_said(tmp_path: Path, attributes: str, channels: int, expected: str) -> None:
    where = source(tmp_path, attributes, channels)
    line = resolve(where).assumption()
    assert line.startswith(f"{where}: {expected}") if expected else line == ""


@pytest.mark.parametrize("attributes", ["input_shape = (1, 9, 12)", "pass"])
def test_what_a_grey_network_says_of_its_pixels_is_used(tmp_path: Path, attributes: str) -> None:
    """`channels` left out is the network's: x/255, not what is assumed where nothing is said."""
    said = "preprocess = dict(size=[9, 12], mean=[0.0], std=[1.0])"
    network = resolve(source(tmp_path, f"{attributes}; {said}", 1))
    assert network.input_shape == (1, 9, 12)
    assert network.preprocess == Preprocess(size=(9, 12), channels=1, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "size=[9, 9], mean=[.1, .2, .3], std=[1]",
            "mean (0.1, 0.2, 0.3); 1 or 1 finite numbers are needed; the",
        ),
        ("size=[9, 9], channels=3, mean=[0], std=[1]", "is for 3 channels, the network takes 1; mend one"),
    ],
)
def test_what_it_says_of_other_pixels_is_refused(tmp_path: Path, said: str, cause: str) -> None:
    with pytest.raises(BadInput, match=re.escape(f"Net.preprocess: {cause}")):
        resolve(source(tmp_path, f"preprocess = dict({said})", 1))


def test_what_the_user_says_is_not_assumed(tmp_path: Path) -> None:
    network = told(resolve(source(tmp_path), input_shape="3,32,32"), None, "unit")
    assert network.assumption() == ""
    assert resolve("lenet5").assumption() == ""
    assert resolve("resnet8", input_shape="3,64,64").assumption() == ""


def test_the_size_of_the_pictures_is_named_where_it_is_another(tmp_path: Path, photos: Path) -> None:
    line = doubts.of_input(resolve(source(tmp_path)), str(photos), None)
    assert line.endswith(
        "are assumed, though all the pictures given are 20x24; --input-shape 3,20,24 and --preprocess say otherwise"
    )
    assert "though" not in sentence("n", (3, 20, 24), None, Assumed(size=True), (20, 24))


def test_a_common_size_is_that_of_all_pictures(tmp_path: Path, photos: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 20, 24, 3), np.uint8))
    np.save(tmp_path / "b.npy", np.zeros((2, 24, 20, 3), np.uint8))
    np.save(tmp_path / "f.npy", np.zeros((2, 3, 8, 8), np.float32))
    assert common_size([str(photos), None, str(tmp_path / "a.npy")]) == (20, 24)
    assert common_size([str(photos), str(tmp_path / "b.npy")]) is None
    assert common_size([str(tmp_path / "f.npy")]) is None
    assert common_size(["digits", "random:3", str(tmp_path / "none")]) is None


def test_a_turned_photograph_has_the_size_in_which_it_is_seen(photos: Path) -> None:
    upright = Image.fromarray(np.zeros((24, 20, 3), np.uint8))
    exif = upright.getexif()
    exif[0x0112] = 6
    upright.save(photos / "turned.jpg", exif=exif)
    assert common_size([str(photos)]) == (20, 24)


def test_the_command_line_says_it_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", source(tmp_path), "-o", str(tmp_path / "m.onnx"), "--json"]) == 0
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert "neither its input size nor its preprocessing" in line
    assert '"warnings": [' in out


LONG = {
    "export": "edgecnn.stages.float_road",
    "build": "edgecnn.stages.float_road",
    "quantize": "edgecnn.choosing.quantizing.ready_for_int8",
    "evaluate": "edgecnn.evaluation.evaluate.score",
    "check": "edgecnn.checking.compare.compare",
    "diff": "edgecnn.checking.diff.find",
}
"""Where the long work of a command begins."""


@pytest.mark.parametrize("command", LONG)
def test_it_is_said_before_the_work(
    command: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever reads it can stop there; at the end of a minute it is too late."""
    net, plain = source(tmp_path), save(conv_net(), tmp_path / "plain.onnx")
    for label in ("cat", "dog", "owl"):
        (photos / label).mkdir()
        (photos / f"{len(label) - 3 + 'cdo'.index(label[0])}.png").rename(photos / label / "1.png")
    arguments = {
        "export": [net, "-o", "m.onnx"],
        "build": [net, "-o", "m.edge", "--calib", str(photos)],
        "quantize": [str(plain), "-o", "q.onnx", "--calib", str(photos)],
        "evaluate": [net, "--data", str(photos)],
        "check": [net, net, "--data", str(photos)],
        "diff": [net, net, "--data", str(photos)],
    }[command]

    def begins(*args: object, **given: object) -> None:
        raise BadInput("the long work begins")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LONG[command], begins)
    assert main([command, *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "error: the long work begins"
    assumed = [line for line in lines[:-1] if line.startswith("warning: ") and "assumed" in line]
    assert len(assumed) == 1, lines


def test_what_was_said_is_not_said_again(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = source(tmp_path, "input_shape = (3, 16, 16)")
    assert main(["check", net, net, "--data", str(photos), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.count("does not say its preprocessing") == 1
    assert len(json.loads(out)["warnings"]) == 1
