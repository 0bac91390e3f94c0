"""Floats that were never normalized are told, by every command that feeds them; and what else is fed as one picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from data_folders import picture
from edgecnn import api, doubts
from edgecnn.cli import main
from edgecnn.data.load import from_array, load_data
from edgecnn.networks.spec import IMAGENET, unit_range
from exporters.artifact import read_identity
from exporters.load import load_model
from runtimes.base import BadInput
from runtimes.execution.feeds import TensorInfo
from runtimes.imaging.preprocess import FLOAT32_NHWC, Preprocess
from small_nets import conv_net, save

READY = unit_range(8, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, floats of 0..255, and the same normalized."""
    place = tmp_path_factory.mktemp("doubts")
    save(conv_net(), place / "net.onnx")
    rng = np.random.default_rng(0)
    values, labels = rng.integers(0, 256, (12, 3, 8, 8)).astype(np.float32), rng.integers(0, 10, 12)
    np.savez(place / "pixels.npz", x=values, y=labels)
    np.savez(place / "ready.npz", x=values / 127.5 - 1, y=labels)
    return place


COMMANDS = {
    "evaluate": ["evaluate", "{model}", "--data", "{data}", "--task", "classification"],
    "check": ["check", "{model}", "{model}", "--data", "{data}", "--snr-db", "90"],
    "diff": ["diff", "{model}", "{model}", "--data", "{data}"],
    "quantize": ["quantize", "{model}", "-o", "{out}", "--calib", "{data}", "--search-budget", "0", "--max-drop", "1",
                 "--allow-slower"],
    "half": ["half", "{model}", "-o", "{out}", "--calib", "{data}", "--allow-slower"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", [None, "unit"])
def test_floats_of_pixels_are_told(
    how: str | None, command: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data, odd in (("pixels.npz", True), ("ready.npz", False)):
        places = {"model": str(folder / "net.onnx"), "data": str(folder / data), "out": str(tmp_path / f"{data}.onnx")}
        words = [word.format(**places) for word in COMMANDS[command]]
        assert main([*words, *(["--preprocess", how] if how else []), "--json"]) == 0
        said = capsys.readouterr()
        about = "0 to 1 by the model's preprocessing" if how else "-2.1 to 2.6 by the usual preprocessing"
        line = f"warning: {folder / data}: holds 0 to 255, pixels become {about}; of pictures give uint8 pixels"
        assert (line in said.err) is odd
        assert any("holds 0 to 255" in one for one in json.loads(said.out)["warnings"]) is odd


def test_one_far_sample_is_enough_and_pixels_and_noise_are_not_doubted() -> None:
    values = np.zeros((100, 3, 8, 8), np.float32)
    values[99] = 255
    assert doubts.of_range(from_array("a", values, READY), READY) != ""
    assert doubts.of_range(from_array("a", values[:99], READY), READY) == ""
    assert doubts.of_range(from_array("a", values, READY), None) == ""
    assert doubts.of_range(from_array("a", np.full((2, 8, 8, 3), 255, np.uint8), READY), READY) == ""
    assert doubts.of_range(load_data("random", READY), READY) == ""
    caffe = Preprocess((8, 8), std=(1 / 255,))
    assert doubts.of_range(from_array("a", values, caffe), caffe) == ""


def test_build_tells_it_too(folder: Path) -> None:
    from edgecnn.networks.sources import resolve
    from edgecnn.road import named

    network = resolve("lenet5", None, None)
    np.save(folder / "grey.npy", np.full((2, *network.input_shape), 255, np.float32))
    assert any("holds 255 to 255" in line for line in named(network, str(folder / "grey.npy"), None)[1])


@pytest.mark.parametrize(("count", "said"), [(1, "1 image is few"), (7, "7 images are few"), (8, "")])
def test_few_images_are_told(count: int, said: str) -> None:
    line = doubts.of_few(from_array("a.npy", np.zeros((count, 3, 8, 8), np.float32), READY))
    assert line.startswith(f"a.npy: {said} to calibrate on; give 32 and more") if said else line == ""


# --------------------------------------------------------------------------------------------------------- one picture
def test_a_picture_is_data_of_one_image(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "photo.JPG")
    samples = load_data(tmp_path / "photo.JPG", READY)
    assert (len(samples), samples.labels, samples.as_is) == (1, None, False)
    assert samples[0].shape == (3, 8, 8)
    out = tmp_path / "int8.onnx"
    report = api.quantize(
        folder / "net.onnx", out, str(tmp_path / "photo.JPG"), search_budget=0, allow_slower=True, max_drop=1
    )
    assert out.exists()
    assert any("does not say its preprocessing" in line for line in report.warnings)


def test_a_picture_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"photo.png: is not an image or is damaged"):
        load_data(tmp_path / "photo.png", READY)[0]
    with pytest.raises(BadInput, match=r"photo.pngg: unknown data; did you mean .*/photo.png\?"):
        load_data(tmp_path / "photo.pngg", READY)
    with pytest.raises(BadInput, match=r"takes \[N, 7\], no pictures"):
        load_data(tmp_path / "photo.png", (7,))


# ---------------------------------------------------------------------------------------------------------------- half
def test_half_prepares_pictures_as_it_is_told(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "a.png")
    out = tmp_path / "half.onnx"
    report = api.half(
        folder / "net.onnx", out, calib=str(tmp_path / "photos"), preprocess="imagenet", allow_slower=True
    )
    assert report.warnings == ()
    known = read_identity(load_model(out))
    assert known is not None
    assert known.preprocess == Preprocess((8, 8), mean=IMAGENET.mean, std=IMAGENET.std)
    assert known.preprocess.input != FLOAT32_NHWC
    plain = api.half(folder / "net.onnx", tmp_path / "b.onnx", calib=str(tmp_path / "photos"), allow_slower=True)
    assert any("does not say its preprocessing" in line for line in plain.warnings)
    assert read_identity(load_model(tmp_path / "b.onnx")) is None
    made = api.half(folder / "net.onnx", tmp_path / "c.onnx", preprocess="unit", allow_slower=True)
    assert made.data.startswith("made pictures")


def test_masks_of_a_network_that_takes_no_pictures_are_told(tmp_path: Path) -> None:
    """A class for every sample of sound: (N, 512) is no mask of a picture."""
    clips, masks = np.zeros((3, 1, 512), np.float32), np.zeros((3, 512), np.int64)
    np.savez(tmp_path / "a.npz", x=clips, masks=masks)
    samples = load_data(str(tmp_path / "a.npz"), (1, 512))
    assert doubts.of_masks(samples) == (
        f"{tmp_path}/a.npz: its masks are not used: they are read beside pictures, (N, H, W), and this network takes "
        "samples of shape [1, 512]; saved as y they are for a function of yours: --metric FILE.py:NAME"
    )
    assert doubts.of_masks(samples.without_answers()) == ""
    np.savez(tmp_path / "b.npz", x=clips)
    assert doubts.of_masks(load_data(str(tmp_path / "b.npz"), (1, 512))) == ""


@pytest.mark.parametrize(
    ("image", "answer", "sigmoid", "told"),
    [
        ((64, 64, 3), (64, 64, 5), False, "(N, 64, 64, 5)"),
        ((3, 64, 64), (64, 64, 3), False, "(N, 64, 64, 3)"),
        ((3, 64, 48), (21, 64, 48), False, "(N, 21, 64, 48)"),
        (("h", "w", 3), ("a", "b", 4), False, "(N, ?, ?, 4)"),
        ((64, 64, 3), (64, 64, 1), True, "(N, 64, 64, 1)"),
        ((64, 64, 3), (64, 64, 1), False, ""),
        ((3, 64, 64), (256, 8, 8), False, ""),
        ((3, 64, 64), (10,), False, ""),
        ((64, 64, 3), ("a", "b", 4), False, ""),
    ],
)
def test_answers_that_may_be_classes_of_pixels(
    image: tuple[int | str, ...], answer: tuple[int | str, ...], sigmoid: bool, told: str
) -> None:
    inputs, outputs = ([TensorInfo("t", "float32", ("N", *sizes))] for sizes in (image, answer))
    line = doubts.of_maps("net.onnx", inputs, outputs, sigmoid)
    hint = f"net.onnx: does not say its task and answers {told}: a class for each pixel? --task segmentation says so; "
    assert line.startswith(hint) if told else line == ""


def test_quantize_asks_whether_a_map_is_of_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '<ir_version: 9, opset_import: ["" : 17]> net (float[N, 8, 8, 3] x) => (float[N, 8, 8, 5] y) {'
    made = onnx.parser.parse_model(text + "y = MatMul (x, w) }")
    weight = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    save(made, tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype(np.float32))
    road = ["quantize", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "q.onnx"), "--calib", str(tmp_path / "x.npy")]
    road += ["--search-budget", "0", "--max-drop", "1", "--allow-slower", "--force"]
    assert main(road) == 0
    assert "does not say its task and answers (N, 8, 8, 5): a class for each pixel?" in capsys.readouterr().err
    assert main([*road, "--task", "segmentation"]) == 0
    assert "a class for each pixel" not in capsys.readouterr().err
