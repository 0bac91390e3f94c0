"""The page for users of Keras: its lines of edgecnn run on a file as tf2onnx writes one, those of TensorFlow do not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from edgecnn.cli import main
from edgecnn.data.pixels import NAMES
from edgecnn.foreign import TF
from runtimes.session import open_session

PAGE = (Path(__file__).parent.parent / "docs/tensorflow.md").read_text("utf-8")
DIGITS = """<ir_version: 8, opset_import: ["" : 17]> net (float[N, 8, 8, 1] picture) => (float[N, 10] digit) {
    s = Mul (picture, u) t = Reshape (s, grey) c = Conv <pads = [1, 1, 1, 1]> (t, w) r = Relu (c)
    f = Flatten (r) d = MatMul (f, v) digit = Softmax (d)
}"""


def digits() -> onnx.ModelProto:
    """What `x / 255`, a convolution and a Dense layer become, with random weights."""
    rng = np.random.default_rng(0)
    made = onnx.parser.parse_model(DIGITS)
    values = {"w": rng.normal(size=(8, 1, 3, 3)), "v": rng.normal(size=(512, 10)) / 8, "u": np.array(1 / 255)}
    for name, value in values.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 1, 8, 8]), "grey"))
    return made


def test_its_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(digits(), "digits.onnx")
    x = np.random.default_rng(1).integers(0, 256, (60, 8, 8, 1))
    for i, picture in enumerate(x[..., 0].astype(np.uint8)):
        folder = tmp_path / "photos" / str(i % 10)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i}.png")
    fed = x.astype(np.float32)
    (answers,) = open_session(Path("digits.onnx"))({"picture": fed}).values()
    np.savez("answers.npz", x=fed, y=answers)
    lines = re.findall(r"^edgecnn (.*)$", PAGE.partition("\n## To a bundle\n")[2], re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["inspect", "quantize", "verify", "run"]
    for line in lines:
        assert main(shlex.split(line)) == 0, line
    capsys.readouterr()
    _, direct, bundle = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for block in (direct, bundle):
        exec(compile(block, "docs/tensorflow.md", "exec"), {})
    difference, alike = map(float, capsys.readouterr().out.split())
    assert difference < 1e-6
    assert alike > 0.9


def test_its_presets_exist() -> None:
    section = PAGE.partition("\n## Pixels\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `.*\| `(\w+)`", section, re.MULTILINE)) == {"raw", "signed", "caffe", "imagenet"}
    assert {"raw", "signed", "caffe", "imagenet"} < set(NAMES)


def test_every_way_that_an_error_names_is_there() -> None:
    assert all(option in PAGE for option in ("--saved-model", "--graphdef", *(option for _, option in TF.values())))
