"""`--input-shape` with a model file: honoured where height and width are open, refused where they are fixed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from edgecnn.asked_size import asked_shapes, at_size, pixels_at
from edgecnn.checking.compare import check
from edgecnn.checking.diff import diff
from edgecnn.checking.sides import open_side
from edgecnn.evaluation.evaluate import evaluate
from edgecnn.networks.spec import unit_range
from edgecnn.numbers.inspect import inspect
from edgecnn.runners import open_subject
from exporters.artifact import Identity, write_identity
from exporters.pack import pack
from runtimes.base import BadInput
from runtimes.execution.feeds import TensorInfo
from runtimes.imaging.preprocess import FLOAT32_NHWC
from runtimes.session import open_session
from test_open_sizes import open_bundle_of

TALL = """<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, HEIGHT, W] x) => (float[N, 2] y)
  <int64[1] third = {2}, float[1] limit = {40.0}, float[1, 2] sign = {-1.0, 1.0}, int64[3] axes = {1, 2, 3}> {
   sizes = Shape (x)
   whole = Gather (sizes, third)
   height = Cast <to = 1> (whole)
   over = Sub (height, limit)
   said = Mul (over, sign)
   mean = ReduceMean <keepdims = 0> (x, axes)
   nothing = Sub (mean, mean)
   column = Unsqueeze (nothing, one)
   y = Add (column, said)
}"""
NAMES = ("low", "tall")


def by_height(path: Path, height: str = "H", known: bool = True) -> Path:
    """Class 1 for an input of over 40 rows, class 0 for others."""
    text = TALL.replace("HEIGHT", height).replace("int64[3] axes", "int64[1] one = {1}, int64[3] axes")
    model = onnx.parser.parse_model(text)
    if known:
        write_identity(model, Identity("tall", "classification", NAMES, unit_range(32, 24)))
    onnx.save(model, path)
    return path


def bundled(path: Path, model: Path) -> Path:
    x = np.zeros((1, 3, 32, 24), np.float32)
    about = {
        "name": "tall", "task": "classification", "labels": list(NAMES), "preprocess": unit_range(32, 24).to_dict(),
        "created_by": "edgecnn 0", "chosen": "float",
        "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, "H", "W"]},
        "output": {"name": "y", "dtype": "float32", "shape": ["N", 2]},
    }  # fmt: skip
    pack(path, onnx.load(model), about, [x], [open_session(model)({"x": x})["y"]], 0.0)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """Four, all of the class that a model sees in tall inputs alone."""
    (tmp_path / "photos" / "tall").mkdir(parents=True)
    (tmp_path / "photos" / "low").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        picture = Image.fromarray(rng.integers(0, 255, (50, 30, 3), np.uint8))
        picture.save(tmp_path / "photos" / ("low" if i == 3 else "tall") / f"{i}.png")
    return str(tmp_path / "photos")


@pytest.mark.parametrize("suffix", [".onnx", ".edge"])
def test_evaluate_sees_pictures_at_the_size_that_is_asked_for(suffix: str, pictures: str, tmp_path: Path) -> None:
    path = by_height(tmp_path / "m.onnx")
    path = path if suffix == ".onnx" else bundled(tmp_path / "m.edge", path)
    own = evaluate(path, data=pictures)
    assert own.models[0][1].value == 1 / 4
    asked = evaluate(path, data=pictures, input_shape="3,48,40")
    assert asked.models[0][1].value == 3 / 4
    both = evaluate(path, by_height(tmp_path / "n.onnx"), data=pictures, input_shape=["x:1,3,48,40"])
    assert [score.value for _, score in both.models] == [3 / 4, 3 / 4]


def test_a_foreign_model_of_open_size_is_evaluated_at_the_size_that_is_asked_for(pictures: str, tmp_path: Path) -> None:
    path = by_height(tmp_path / "m.onnx", known=False)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    with pytest.raises(BadInput, match="fix it with --input-shape"):
        evaluate(path, data=pictures, labels=tmp_path / "names.txt")
    found = evaluate(path, data=pictures, labels=tmp_path / "names.txt", input_shape="3,48,40")
    assert found.models[0][1].value == 3 / 4
    assert any("does not say its preprocessing" in line for line in found.warnings)


def test_a_name_that_no_model_has_is_refused(pictures: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"xs: unknown input; did you mean x\?"):
        evaluate(by_height(tmp_path / "m.onnx"), data=pictures, input_shape="xs:3,48,40")


def test_a_fixed_size_that_differs_is_refused_by_every_command(pictures: str, tmp_path: Path) -> None:
    path, asked = by_height(tmp_path / "m.onnx", "32"), "3,48,40"
    line = r"m\.onnx: input x wants float32 \[N, 3, 32, W\], the shape given is \[1, 3, 48, 40\]; give an --input-shape"
    for call in (
        lambda: evaluate(path, data=pictures, input_shape=asked),
        lambda: check(path, path, data=pictures, input_shape=asked),
        lambda: diff(path, path, data=pictures, input_shape=asked),
        lambda: inspect(path, input_shape=asked),
    ):
        with pytest.raises(BadInput, match=line):
            call()


@pytest.mark.parametrize("suffix", [".onnx", ".edge"])
def test_models_side_by_side_see_data_at_the_size_that_is_asked_for(suffix: str, tmp_path: Path) -> None:
    path = by_height(tmp_path / "m.onnx")
    path = path if suffix == ".onnx" else bundled(tmp_path / "m.edge", path)
    for side in (open_subject(str(path), None, "3,48,40"), open_side(str(path), None, "3,48,40", 1)):
        assert side.preprocess is not None
        assert side.preprocess.size == (48, 40)
        assert side.inputs[0].shape == ("N", 3, "H", "W")  # other sizes are still tried


def test_check_compares_data_at_the_size_that_is_asked_for(pictures: str, tmp_path: Path) -> None:
    path = by_height(tmp_path / "m.onnx")
    assert check(path, path, data=pictures, input_shape="3,48,40").sizes == ((1, 3, 48, 40),)


def test_of_a_size_that_a_bundle_does_not_take_the_nearest_is_named(pictures: str, tmp_path: Path) -> None:
    path = open_bundle_of(tmp_path / "n.edge")
    with pytest.raises(BadInput, match=r"^--input-shape 3,97,161: .*n\.edge does not run at 97x161; 3,96,160 works$"):
        evaluate(path, data=pictures, input_shape="3,97,161")


def test_shapes_by_name_then_by_place() -> None:
    inputs = [TensorInfo("a", "float32", ("N", 3, "H", "W")), TensorInfo("b", "float32", ("N", 4))]
    assert asked_shapes(inputs, ["b:4", "a:3,8,8"]) == {"a": (1, 3, 8, 8), "b": (1, 4)}
    assert asked_shapes(inputs, ["other:3,8,8", "b:4"]) == {"a": (1, 3, 8, 8), "b": (1, 4)}
    sized = at_size("m", inputs, "3,8,6")
    assert [info.shape for info in sized] == [("N", 3, 8, 6), ("N", 4)]
    assert pixels_at(unit_range(4, 4), sized) == unit_range(4, 4)  # of several inputs none is made ready
    assert pixels_at(unit_range(4, 4), sized[:1]) == unit_range(4, 4).at((8, 6))
    last = replace(unit_range(4, 4), input=FLOAT32_NHWC)
    ready = pixels_at(last, [TensorInfo("x", "float32", ("N", 8, 6, 3))])
    assert ready is not None
    assert ready.shape == (8, 6, 3)
