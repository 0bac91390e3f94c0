"""What a graph does first with its input tells where the channels are, and whether it takes pixels of 0..255."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from edgecnn.cli import main
from edgecnn.data.pixels import read_preprocess
from edgecnn.networks.entry import entry_of
from edgecnn.networks.layout import Entry
from runtimes.bundle import open_bundle
from small_nets import save

BEHIND = "c = Conv (IN, w) g = GlobalAveragePool (c) y = Flatten (g)"


def graph(shape: str, text: str, channels: int = 3, constants: dict[str, object] | None = None) -> onnx.ModelProto:
    """`text` and a 1x1 convolution of `channels` behind it, for float input `x` of `shape`."""
    head = f'<ir_version: 9, opset_import: ["" : 17]> net (float[{shape}] x) => (float[N, 4] y)'
    made = onnx.parser.parse_model(f"{head} {{ {text} }}")
    weight = np.random.default_rng(0).normal(size=(4, channels, 1, 1)).astype(np.float32)
    for name, value in {"w": weight, **(constants or {})}.items():
        array = np.asarray(value) if isinstance(value, list) else np.asarray(value, np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return made


def chain(*steps: str) -> str:
    """Nodes one behind the other: each reads what the one before makes."""
    name, made = "x", []
    for i, step in enumerate(steps):
        operator, _, others = step.partition("|")
        made.append(f"t{i} = {operator} ({', '.join([name, others] if others else [name])})")
        name = f"t{i}"
    return " ".join([*made, BEHIND.replace("IN", name)])


TURNED = "Transpose <perm = [0, 3, 1, 2]>"


@pytest.mark.parametrize(
    ("shape", "steps", "channels", "last"),
    [
        ("N, 3, 32, 3", (TURNED,), 3, True),
        ("N, 3, 32, 3", ("Mul|k", "Add|k", "Cast <to = 1>", TURNED), 3, True),
        ("N, 3, 32, 3", (TURNED, "Sub|k", "Div|k"), 3, True),
        ("N, 3, 32, 3", (), 3, False),
        ("N, 3, 32, 3", ("Mul|k",), 3, False),
        ("N, 3, 32, 3", ("Sigmoid",), 3, None),
        ("N, 3, 32, 3", ("Mul|x",), 3, None),
        ("N, 64, 64, 4", (TURNED,), 4, True),
        ("N, 32, 24, 1", ("Reshape|grey",), 1, True),
        ("N, 1, 32, 24", ("Reshape|grey",), 1, False),
        ("N, 400, 2", ("Unsqueeze|one", TURNED), 2, True),
        ("N, 400, 1", ("Unsqueeze|one", "Reshape|sound"), 1, True),
        ("N, 2, 400", ("Unsqueeze|two",), 2, False),
    ],
)
def test_where_channels_are(shape: str, steps: tuple[str, ...], channels: int, last: bool | None) -> None:
    constants = {"k": 2.0, "grey": [-1, 1, 32, 24], "sound": [-1, 1, 1, 400], "one": [1], "two": [2]}
    assert entry_of(graph(shape, chain(*steps), channels, constants)) == Entry(last)


@pytest.mark.parametrize(
    ("steps", "levels"),
    [
        (("Mul|u",), "divides by 255"),
        (("Div|d", "Sub|m"), "divides by 255"),
        (("Cast <to = 1>", "Mul|s", "Add|m", TURNED), "divides by 127.5"),
        (("Sub|b", "Mul|k"), "subtracts 77.43"),
        (("Mul|k", "Add|c"), "subtracts 123.7"),
        (("Mul|n", "Sub|m"), ""),
        (("Sub|m",), ""),
        ((), ""),
    ],
)
def test_pixels_that_a_graph_brings_down_itself(steps: tuple[str, ...], levels: str) -> None:
    numbers = {"u": 1 / 255, "d": 255.0, "s": 1 / 127.5, "m": [[[0.4]]], "b": 77.43, "k": 0.0171, "c": -2.115, "n": 2.0}
    constants = {name: np.float32(value) for name, value in numbers.items()}
    assert entry_of(graph("N, 8, 8, 3", chain(*steps), 3, dict(constants))).levels == levels


def test_a_layer_and_a_transpose_that_disagree_tell_nothing() -> None:
    text = f"{chain(TURNED)} d = Conv (x, w)".replace("=> (float[N, 4] y)", "")
    assert entry_of(graph("N, 3, 32, 3", text)).last is None


@pytest.fixture
def photos(tmp_path: Path) -> str:
    rng = np.random.default_rng(1)
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (3, 32, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    return str(tmp_path / "photos")


@pytest.mark.parametrize("told", [[], ["--preprocess", "unit"]])
def test_the_graph_decides_between_sizes(
    told: list[str], tmp_path: Path, photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of (N, 3, 32, 3): a network of channels last sees the pictures that it would see of a plain (N, 32, 3, 3)."""
    model, bundle = str(save(graph("N, 3, 32, 3", chain(TURNED)), tmp_path / "odd.onnx")), str(tmp_path / "odd.edge")
    road = ["--calib", photos, "--search-budget", "0", "--max-drop", "1", "--allow-slower", *told]
    assert main(["quantize", model, "-o", bundle, *road]) == 0
    assert "channels first" not in capsys.readouterr().err
    assert main(["run", bundle, f"{photos}/0.png", "--json"]) == 0
    capsys.readouterr()
    assert main(["inspect", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layout"] == "NHWC"
    ready = open_bundle(Path(bundle)).preprocess
    assert ready is not None
    assert ready.shape == (3, 32, 3)
    assert ready.channels_last


def test_a_layout_in_doubt_is_told_beside_a_preprocessing(
    tmp_path: Path, photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "s = Sigmoid (x) " + BEHIND.replace("IN", "s")
    model, said = str(save(graph("N, 3, 32, 3", text), tmp_path / "odd.onnx")), tmp_path / "p.json"
    road = ["quantize", model, "-o", str(tmp_path / "q.onnx"), "--calib", photos, "--search-budget", "0"]
    doubt = f"warning: {model}: does not say which end of [3, 32, 3] are the channels: the first is assumed; in a .json"
    assert main(["check", model, model, "--data", photos, "--preprocess", "unit"]) == 0
    assert doubt in capsys.readouterr().err
    assert main([*road, "--input", "uint8", "--preprocess", "unit"]) == 0
    assert doubt in capsys.readouterr().err
    said.write_text('{"input": "float32"}')
    assert main(["check", model, model, "--data", photos, "--preprocess", str(said)]) == 0
    assert "does not say" not in capsys.readouterr().err


def test_a_graph_that_divides_by_255_is_given_pixels_of_0_to_255(
    tmp_path: Path, photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = graph("N, 3, 32, 32", chain("Mul|u"), 3, {"u": 1 / 255})
    model, bundle = str(save(made, tmp_path / "keras.onnx")), str(tmp_path / "keras.edge")
    line = "does not say its preprocessing: pixels of 0 to 255 are assumed, for its graph divides by 255 itself; --prep"
    assert main(["check", model, model, "--data", photos]) == 0
    assert f"warning: {model}: {line}" in capsys.readouterr().err
    road = ["--calib", photos, "--search-budget", "0", "--max-drop", "1", "--allow-slower"]
    assert main(["quantize", model, "-o", bundle, *road]) == 0
    assert f"warning: {model}: {line}" in capsys.readouterr().err
    ready = open_bundle(Path(bundle)).preprocess
    assert ready == read_preprocess("raw", (3, 32, 32))
    assert ready is not None
    assert ready.bounds == (0.0, 255.0)
