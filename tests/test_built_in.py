"""A name of built-in data never hides a file or folder of the user's that is called the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecnn import api
from edgecnn.cli import main
from edgecnn.data.built_in import built_in, require_one
from edgecnn.data.data_argument import given
from edgecnn.data.load import load_data
from edgecnn.data.parts import part
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess
from small_nets import conv_net, save

READY = Preprocess(size=(8, 8), channels=3)
NAMES = ["digits", "shapes", "random", "random:3", "shapes:12"]
RNG = np.random.default_rng(0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pictures(folder: Path, count: int = 2) -> Path:
    folder.mkdir()
    for i in range(count):
        Image.fromarray(RNG.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_name_alone_is_built_in_where_nothing_is_called_so(name: str, here: Path) -> None:
    size = Preprocess(size=(32, 32), channels=3)
    plain, spelled = load_data(name, size), load_data(f"builtin:{name}", size)
    assert (plain.name, plain.ids) == (spelled.name, spelled.ids)
    assert np.array_equal(plain[1], spelled[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_that_name_is_never_passed_over(name: str, here: Path) -> None:
    pictures(here / name)
    with pytest.raises(BadInput) as caught:
        load_data(name, READY)
    assert str(caught.value) == (
        f"{name}: is a folder here and the name of built-in data; "
        f"write ./{name} for the folder, builtin:{name} for what is built in"
    )
    assert load_data(f"./{name}", READY).ids == (f"{name}/0.png", f"{name}/1.png")
    assert load_data(f"./{name}", READY).name == f"./{name}", "reports do not call it as they call the built-in set"
    assert len(load_data(f"builtin:{name}", Preprocess(size=(32, 32), channels=3))) > 2
    assert load_data(Path(name), READY).ids == (f"{name}/0.png", f"{name}/1.png"), "a Path is no name"


def test_a_file_and_a_dangling_link_count_as_well(here: Path) -> None:
    (here / "digits").write_bytes(b"x")
    (here / "shapes").symlink_to("nowhere")
    for name in ("digits", "shapes"):
        with pytest.raises(BadInput, match=f"{name}: is a file here"):
            given(name)
    assert given("photos/digits") == "photos/digits"
    assert given(Path("random")) == "random", "nothing is called so here"


def test_only_what_is_built_in_can_be_asked_for(here: Path) -> None:
    with pytest.raises(BadInput, match="builtin:cats: no such data is built in; write builtin:digits, builtin:shapes"):
        load_data("builtin:cats", READY)
    with pytest.raises(BadInput, match="digits:7: has no number"):
        load_data("digits:7", READY)
    assert built_in("digits.npz") is None
    assert require_one("builtin:digits") == "builtin:digits"


def test_both_spellings_have_the_same_parts() -> None:
    for spec, wanted in (("digits", "train"), ("shapes:9", "train"), ("random", "all"), ("photos", "all")):
        assert part("train", spec, None) == wanted
        assert part("train", f"builtin:{spec}" if spec != "photos" else "./photos", None) == wanted


COMMANDS = {
    "train": ["lenet5", "-o", "w.safetensors"],
    "build": ["lenet5", "-o", "n.edge", "--calib", "digits"],
    "quantize": ["n.onnx", "-o", "q.onnx", "--calib", "digits"],
    "half": ["n.onnx", "-o", "h.onnx", "--calib", "digits"],
    "evaluate": ["n.onnx", "--data", "digits"],
    "check": ["n.onnx", "n.onnx", "--data", "digits"],
    "diff": ["n.onnx", "n.onnx", "--data", "digits"],
}
"""Also `train` without --data, whose default is a name."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_the_name_of_both(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(here / "digits")
    save(conv_net(), here / "n.onnx")
    assert main([command, *COMMANDS[command]]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == [
        "error: digits: is a folder here and the name of built-in data; "
        "write ./digits for the folder, builtin:digits for what is built in"
    ]


def test_the_python_calls_refuse_it_too(here: Path) -> None:
    pictures(here / "digits")
    save(conv_net(), here / "n.onnx")
    calls: list[Any] = [
        lambda: api.check("n.onnx", "n.onnx", data="digits"),
        lambda: api.quantize("n.onnx", "q.onnx", "digits"),
        lambda: api.evaluate("n.onnx", data="digits"),
    ]
    for call in calls:
        with pytest.raises(BadInput, match=r"write \./digits for the folder, builtin:digits"):
            call()
    assert api.check("n.onnx", "n.onnx", data="./digits").parity.images == 2
    assert api.check("n.onnx", "n.onnx", data=Path("digits")).parity.images == 2
