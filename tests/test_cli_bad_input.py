"""Whatever is wrong with what a user gives: exit 2, one line that names it, nothing on stdout, nothing half-written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecnn.cli import main
from small_nets import conv_net, save

GOOD = conv_net(channels=8, size=8)


def write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


BAD_FILES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "empty": write(b""),
    "text": write(b"not a model\n" * 10),
    "truncated": write(GOOD.SerializeToString()[:200]),
    "zeros": write(bytes(1000)),
    "folder": lambda path: path.mkdir(),
    "fifo": lambda path: os.mkfifo(path),
    "loop": lambda path: path.symlink_to(path),
}
COMMANDS = (
    ["fold", "MODEL", "-o", "OUT"],
    ["simplify", "MODEL", "-o", "OUT"],
    ["quantize", "MODEL", "-o", "OUT", "--calib", "digits"],
    ["check", "MODEL", "GOOD"],
    ["check", "GOOD", "MODEL"],
    ["bench", "GOOD", "MODEL"],
    ["inspect", "MODEL"],
    ["run", "MODEL", "x.npy"],
    ["verify", "MODEL"],
)


def fails(args: list[str], folder: Path, capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """Run `edgecnn ARGS`; assert what holds for every bad input and return the line."""
    before = sorted(os.listdir(folder))
    assert main(args) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert len(err) < 301
    assert sorted(os.listdir(folder)) == before
    return err


@pytest.mark.parametrize("suffix", [".onnx", ".edge"])
@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command[0]}-{command.index('MODEL')}")
def test_bad_files(
    command: list[str], kind: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / f"bad{suffix}"
    BAD_FILES[kind](bad)
    good = save(GOOD, tmp_path / "good.onnx")
    places = {"MODEL": str(bad), "GOOD": str(good), "OUT": str(tmp_path / "out.onnx")}
    line = fails([places.get(word, word) for word in command], tmp_path, capsys)
    assert str(bad) in line


@pytest.mark.parametrize(
    ("command", "place", "message"),
    [
        (command, place, message)
        for command in (COMMANDS[0], COMMANDS[1], COMMANDS[2], ["export", "lenet5", "-o", "OUT"],
                        ["build", "lenet5", "--calib", "digits", "-o", "OUT"], ["train", "lenet5", "-o", "OUT"])
        for place, message in (("there.onnx", "exists already"), (".", "is a folder"), ("no/x.onnx", "no such folder"))
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)  # fmt: skip
def test_outputs_that_cannot_be_written(
    command: list[str], place: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.onnx").write_bytes(b"precious")
    places = {"MODEL": str(save(GOOD, tmp_path / "good.onnx")), "OUT": str(tmp_path / place)}
    assert message in fails([places.get(word, word) for word in command], tmp_path, capsys)
    assert (tmp_path / "there.onnx").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["export", "resnt18", "-o", "x.onnx"], "did you mean resnet18"),
        (["build", "lenet", "--calib", "digits", "-o", "x.edge"], "did you mean lenet5"),
        (["train", "lenet6", "-o", "x.safetensors"], "did you mean lenet5"),
        (["inspect", "lenet55"], "did you mean lenet5"),
        (["export", "nets.py:Net", "-o", "x.onnx"], "nets.py"),
        (["export", "no.such.module:f", "-o", "x.onnx"], "no"),
        (["export", "lenet5", "-o", "x.onnx", "--weights", "none.pt"], "none.pt: no such file"),
        (["export", "lenet5", "-o", "x.onnx", "--input-shape", "1,3,x"], "shape"),
        (["export", "lenet5", "-o", "x.onnx", "--opset", "1"], "opset"),
        (["bench", "good.onnx", "--provider", "cudaa"], "unknown provider; did you mean cuda"),
        (["bench", "good.onnx", "--input-shape", "1,3,9,9"], "wants float32"),
        (["check", "good.onnx", "good.onnx", "--atol", "y"], "--atol y: not a number"),
        (["check", "good.onnx", "good.onnx", "--data", "none/"], "none/"),
        (["quantize", "good.onnx", "-o", "x.onnx", "--calib", "digitz"], "did you mean digits"),
        (["quantize", "good.onnx", "-o", "x.onnx", "--calib", "digits", "--calibrator", "minmaxx"], "minmax"),
        (["quantize", "good.onnx", "-o", "x.onnx", "--calib", "nan.npy"], "nan.npy"),
        (["quantize", "good.onnx", "-o", "x.onnx", "--calib", "digits", "--max-drop", "2"], "--max-drop 2: give a"),
        (["build", "lenet5", "-o", "x.edge", "--calib", "empty"], "empty: "),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_names_and_values_that_mean_nothing(
    args: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(GOOD, tmp_path / "good.onnx")
    np.save(tmp_path / "nan.npy", np.full((2, 3, 8, 8), np.nan, np.float32))
    (tmp_path / "empty").mkdir()
    assert message in fails(args, tmp_path, capsys)


def test_a_library_that_is_not_installed_is_exit_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # Python's way to say: there is no such module
    line = fails(["export", "timm:resnet18", "-o", str(tmp_path / "x.onnx")], tmp_path, capsys, code=4)
    assert "pip install timm" in line


def test_a_name_full_of_control_characters_is_one_safe_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(["inspect", f"{tmp_path}/a\n\x1b[31m\x07b.onnx"], tmp_path, capsys)
    assert line.rstrip("\n").isprintable()
    assert "a\\n\\x1b[31m\\x07b.onnx: no such file" in line
