"""The workflow in docs/train-and-evaluate.md can be copied: each command of it runs, and fails where it should."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn import api
from edgecnn.cli import main
from exporters.artifact import Identity, write_identity
from runtimes.imaging.preprocess import Preprocess
from small_nets import conv_net, save

PAGE = (Path(__file__).parent.parent / "docs/train-and-evaluate.md").read_text("utf-8")
(RECIPE,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STEPS = [line.split("- run: ", 1)[1] for line in RECIPE.splitlines() if "- run: " in line]
COMMANDS = [shlex.split(step.partition(" > ")[0])[1:] for step in STEPS if step.startswith("edgecnn ")]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page says that a repository holds."""
    rng, names = np.random.default_rng(0), tuple(f"c{i}" for i in range(10))
    for i in range(40):
        path = tmp_path / "photos" / names[i % 10] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(path)
    net = conv_net()
    write_identity(net, Identity("net", "classification", names, Preprocess((8, 8), mean=(0.5,), std=(0.5,))))
    monkeypatch.chdir(tmp_path)
    save(net, Path("float.onnx"))
    api.quantize("float.onnx", "int8.onnx", "photos", allow_slower=True, search_budget=0, max_drop=1)
    return tmp_path


def test_it_is_a_workflow() -> None:
    assert len(RECIPE.splitlines()) < 30
    assert "\t" not in RECIPE
    assert all((len(line) - len(line.lstrip())) % 2 == 0 for line in RECIPE.splitlines())
    assert [words[0] for words in COMMANDS] == ["doctor", "check", "evaluate", "bench"]
    assert [step.split()[:2] for step in STEPS if not step.startswith("edgecnn ")] == [["pip", "install"]]


def test_the_commands_run(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in COMMANDS:
        assert main(words) == 0, (words, capsys.readouterr().err)


def test_the_gates_close(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another network under the name of the int8 one: answers are wrong."""
    save(conv_net(seed=9), Path("int8.onnx"))
    codes = {words[0]: main(words) for words in COMMANDS if words[0] in ("check", "evaluate")}
    assert codes["check"] == 1
    assert codes["evaluate"] in (0, 1), "chance may lose nothing against chance"
