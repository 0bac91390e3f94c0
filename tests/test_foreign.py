"""Models of other frameworks are told by every command in one line, with the way to an ONNX file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from edgecnn import api
from edgecnn.cli import main
from runtimes.base import BadInput
from small_nets import conv_net, save

KERAS = "is a Keras model; make an ONNX file of it: `python -m tf2onnx.convert --keras {} --output model.onnx`"
COMMANDS = {
    "inspect": ["inspect", "{}"],
    "bench": ["bench", "{}"],
    "profile": ["profile", "{}"],
    "check": ["check", "{net}", "{}"],
    "diff": ["diff", "{}", "{net}"],
    "evaluate": ["evaluate", "{}", "--data", "digits"],
    "fold": ["fold", "{}", "-o", "{out}.onnx"],
    "simplify": ["simplify", "{}", "-o", "{out}.onnx"],
    "half": ["half", "{}", "-o", "{out}.onnx"],
    "decode": ["decode", "{}", "-o", "{out}.onnx", "--head", "yolov8"],
    "quantize": ["quantize", "{}", "-o", "{out}.edge", "--calib", "digits"],
    "build": ["build", "{}", "-o", "{out}.edge", "--calib", "digits"],
    "export": ["export", "{}", "-o", "{out}.onnx"],
    "train": ["train", "{}", "--data", "digits", "-o", "{out}.safetensors"],
    "run": ["run", "{}", "photo.png"],
    "verify": ["verify", "{}"],
    "settle": ["settle", "{}", "-o", "{out}.edge"],
    "report": ["report", "{}", "-o", "{out}.html"],
}


@pytest.fixture
def keras(tmp_path: Path) -> str:
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    return str(tmp_path / "net.keras")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_knows_keras(
    command: str, keras: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = str(save(conv_net(), tmp_path / "net.onnx"))
    args = [arg.format(keras, net=net, out=tmp_path / "out") for arg in COMMANDS[command]]
    assert main(args) == 2
    assert capsys.readouterr().err == f"error: {keras}: {KERAS.format('net.keras')} (docs/tensorflow.md)\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("net.h5", b"\x89HDF\r\n", "a Keras model; make an ONNX file of it: `python -m tf2onnx.convert --keras"),
        ("net.HDF5", b"\x89HDF\r\n", "a Keras model; make an ONNX"),
        ("net.tflite", b"\0\0\0\0TFL3", "a TensorFlow Lite model; .*tf2onnx.convert --tflite"),
        ("net.pb", b"\n\x05", "a frozen graph of TensorFlow; .*--graphdef .*net.pb --inputs IN:0 --outputs OUT:0"),
        ("saved_model.pb", b"\x08\x01", "a SavedModel of TensorFlow; .*--saved-model"),
        ("net.xml", b"<?xml", "an OpenVINO model, which no tool makes an ONNX file of again: give the ONNX file"),
        ("net.mlmodel", b"\x08", "a Core ML model, which no tool"),
        ("net.engine", b"ftrt", "a TensorRT engine, which no tool"),
        ("net.plan", b"ftrt", "a TensorRT engine, which no tool"),
        ("net.pth", b"PK\x03\x04", "a PyTorch file, no ONNX model or bundle; .*`edgecnn export FILE.py:NAME --weights"),
    ],
)
def test_what_it_is_and_the_way_to_onnx(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=rf"^{tmp_path / name}: is {words}"):
        api.inspect(tmp_path / name)


def test_a_folder_is_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(BadInput, match=r"net: is a SavedModel of TensorFlow; .*--saved-model net --output"):
        api.export(str(tmp_path / "net"), tmp_path / "o.onnx")
    (tmp_path / "net.mlpackage").mkdir()
    with pytest.raises(BadInput, match=r"net\.mlpackage: is a Core ML model, which no tool"):
        api.bench([tmp_path / "net.mlpackage"])


def test_torchscript_is_exported_by_torch(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.trace(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)).save(str(path))  # type: ignore[no-untyped-call]
    with pytest.raises(BadInput, match=r"is a TorchScript model; .*`torch\.onnx\.export\(torch\.jit\.load\("):
        api.build(str(path), tmp_path / "o.edge", calib="digits")


def test_an_onnx_model_may_be_called_anything(tmp_path: Path) -> None:
    """Older files of ONNX end in .pb; and of several bundles each is reported by itself."""
    assert api.inspect(save(conv_net(), tmp_path / "net.pb")).params > 0
    (tmp_path / "net.h5").write_bytes(b"\x89HDF")
    assert len(api.verify([str(tmp_path / "net.h5"), str(tmp_path / "net.h5")]).failures) == 2
