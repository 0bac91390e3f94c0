"""edgecnn/choosing/packing.py: a bundle of a model that came as a file, proven by the file's own answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from edgecnn import api, proof
from edgecnn.cli import main
from edgecnn.page.facts import Facts
from pass_examples import build, draw
from runtimes.base import BadInput, Tensors
from runtimes.bundle import open_bundle
from runtimes.proof.manifest import FLOAT_MODEL, GIVEN_MODEL, MODEL
from runtimes.session import TensorInfo

RNG = np.random.default_rng(8)
ROOT = Path(__file__).resolve().parent.parent
TEXT = """ g (float[N,3,16,16] x) => (float[N,10] y) {
    c1 = Conv <strides: ints = [2,2], pads: ints = [1,1,1,1]> (x, w1)
    r1 = Relu (c1)
    c2 = Conv <pads: ints = [1,1,1,1]> (r1, w2)
    r2 = Relu (c2)
    p = GlobalAveragePool (r2)
    f = Flatten (p)
    y = Gemm <transB: int = 1> (f, w3, b)
}"""
WEIGHTS = {"w1": draw(32, 3, 3, 3) / 5, "w2": draw(32, 32, 3, 3) / 17, "w3": draw(10, 32) / 6, "b": draw(10)}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as another tool would write it: no word of edgecnn in it."""
    model = build(TEXT, WEIGHTS)
    del model.metadata_props[:]
    path = tmp_path_factory.mktemp("given") / "theirs.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def made(given: Path) -> Path:
    path = given.with_name("mine.edge")
    api.quantize(given, path, "random:8", max_drop=1.0, allow_slower=True, search_budget=0)
    return path


def test_the_golden_answers_are_the_files_own(given: Path, made: Path) -> None:
    bundle = open_bundle(made)
    inputs, outputs = bundle.golden()
    theirs = onnxruntime.InferenceSession(str(given), providers=["CPUExecutionProvider"])
    want = np.concatenate([theirs.run(None, {"x": image[None]})[0] for image in inputs[0]])
    np.testing.assert_allclose(outputs[0], want, rtol=0, atol=1e-5)
    assert bundle.original == GIVEN_MODEL
    assert bundle.name == "theirs"
    assert bundle.manifest["weights"] == "those of theirs.onnx"
    assert bundle.chosen in ("int8", "mixed")
    assert api.verify(made).failure is None


def test_a_model_that_drifts_fails(made: Path, tmp_path: Path) -> None:
    """The proof is of these answers: with other weights in it the bundle is not right."""
    from exporters.load import parse_model
    from exporters.pack import pack
    from runtimes.base import CheckFailed

    bundle = open_bundle(made)
    model = parse_model(bundle.read(MODEL), "mine")
    inputs, outputs = bundle.golden()
    with pytest.raises(CheckFailed, match="golden outputs differ"):
        pack(tmp_path / "n.edge", model, bundle.manifest, inputs, [outputs[0] + 5], 0.01)


def test_pixels_as_input(given: Path, tmp_path: Path) -> None:
    """The bundle takes bytes; the file, which takes floats, got what its preprocessing makes of them."""
    path = tmp_path / "pixels.edge"
    api.quantize(given, path, "random:4", max_drop=1.0, allow_slower=True, search_budget=0, input="uint8-nhwc")
    bundle = open_bundle(path)
    inputs, outputs = bundle.golden()
    assert inputs[0].dtype == np.uint8
    assert inputs[0].shape[1:] == (16, 16, 3)
    assert bundle.preprocess is not None
    floats = np.stack([bundle.preprocess.floats(image) for image in inputs[0]])
    theirs = onnxruntime.InferenceSession(str(given), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(outputs[0], theirs.run(None, {"x": floats})[0], rtol=0, atol=1e-5)
    assert api.verify(path).failure is None


def test_it_says_so_wherever_it_is_shown(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Facts(open_bundle(made), "", 0).original == "the given model"
    api.report(made, tmp_path / "page.html", force=True)
    text = (tmp_path / "page.html").read_text()
    assert "the given model" in text
    assert "PyTorch" not in text
    about = subprocess.run([sys.executable, str(made)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "with the float model's own outputs" in about.stdout


def test_the_device_program_verifies_it(made: Path) -> None:
    done = subprocess.run([sys.executable, str(made), "verify", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["passed"]


def test_the_command_line(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", str(given), "-o", "n.edge", "--calib", "random:4", "--search-budget", "0", "--max-drop", "1"]
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        assert main(words) == 0
    finally:
        os.chdir(before)
    out = capsys.readouterr().out
    assert "edgecnn verify n.edge" in out
    assert api.verify(tmp_path / "n.edge").failure is None


@pytest.mark.parametrize("input", ["float32", "uint8-nhwc"])
def test_the_float_graph_is_kept_beside(input: str, given: Path, tmp_path: Path) -> None:
    """It takes what the chosen one takes, and is held to the same answers within a limit of its own."""
    report = api.quantize(given, tmp_path / "n.edge", "random:4", max_drop=1.0, target="arm", search_budget=0,
                          keep_float=True, input=input)  # fmt: skip
    assert report.to_dict()["keeps_float"] is True
    assert any("`python n.edge settle -o HERE.edge`" in note for note in report.notes)
    bundle = open_bundle(tmp_path / "n.edge")
    assert bundle.manifest["race"] is None
    assert bundle.limits(FLOAT_MODEL)["limit_max_abs"] < bundle.limits(MODEL)["limit_max_abs"] / 50
    session = bundle.session(member=FLOAT_MODEL)
    inputs, outputs = bundle.golden()
    for image, want in zip(inputs[0], outputs[0], strict=True):
        answer = next(iter(session({session.inputs[0].name: image[None]}).values()))
        np.testing.assert_allclose(answer[0], want, rtol=0, atol=1e-4)
    assert not [node for node in onnx.load_from_string(bundle.read(FLOAT_MODEL)).graph.node if "Quant" in node.op_type]
    settled = api.settle(tmp_path / "n.edge", tmp_path / "here.edge")
    assert settled.chosen in ("float", "int8", "mixed")
    assert api.verify(tmp_path / "here.edge").failure is None
    page = tmp_path / "page.html"
    api.report(tmp_path / "here.edge", page)
    assert "predicted, not measured" not in page.read_text()


def test_a_second_graph_needs_a_bundle(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", str(given), "-o", str(tmp_path / "n.onnx"), "--calib", "random:4", "--keep-float"]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("error: --keep-float: keeps both graphs in a bundle; end n.onnx with")
    api.quantize(given, tmp_path / "n.edge", "random:4", max_drop=0.0, search_budget=0, keep_float=True,
                 exclude=["*"])  # fmt: skip
    assert not open_bundle(tmp_path / "n.edge").keeps_float  # float was chosen, and one of it is enough


def test_the_program_can_be_left_out(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", str(given), "--calib", "random:4", "--no-runtime", "--max-drop", "1", "--search-budget", "0"]
    assert main([*words, "-o", str(tmp_path / "n.edge")]) == 0
    assert not [name for name in open_bundle(tmp_path / "n.edge").manifest["files"] if name.endswith(".py")]
    assert api.verify(tmp_path / "n.edge").failure is None
    capsys.readouterr()
    assert main([*words, "-o", str(tmp_path / "n.onnx")]) == 2
    assert capsys.readouterr().err.startswith("error: --no-runtime: leaves a bundle's program out, and n.onnx is no")


@pytest.mark.parametrize(
    ("words", "reason"),
    [(["--target", "tensorrt"], "end n.edge with .onnx"), (["-o", "n.zip"], "is no ONNX file's name")],
)
def test_what_cannot_be_packed(
    given: Path, tmp_path: Path, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["quantize", str(given), "-o", str(tmp_path / "n.edge"), "--calib", "random:4", *words])
    assert code == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


NO_ROWS = {
    "a number without a batch": "(float y) { p = Conv(x, w) y = ReduceSum <keepdims: int = 0> (p) }",
    "[3, 16] for one image": "(float[3,16] y) { p = Conv(x, w) z = ReduceMean <keepdims=0>(p, a) y = Expand(z, s) }",
}


@pytest.mark.parametrize(("shape", "end"), NO_ROWS.items())
def test_an_output_without_a_row_for_each_image_is_refused_before_the_race(
    shape: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"g (float[N,3,16,16] x) => {end}"
    numbers = {"w": draw(16, 3, 1, 1), "a": np.array([0, 2, 3]), "s": np.array([3, 16])}
    model = build(text, {name: value for name, value in numbers.items() if f"{name})" in text})
    onnx.save(model, tmp_path / "odd.onnx")
    monkeypatch.setattr("edgecnn.choosing.quantizing.contest_stage", lambda *_: pytest.fail("raced"))
    with pytest.raises(BadInput, match=rf"odd\.onnx: its output y is {re.escape(shape)}; .* write \.onnx, or cut"):
        api.quantize(tmp_path / "odd.onnx", tmp_path / "odd.edge", "random:4")
    assert not (tmp_path / "odd.edge").exists()


@pytest.mark.parametrize("said", [{"task": "other"}, {"task": "regression"}, {"labels": tuple("abcdefghij")}, {}])
def test_what_is_said_of_a_file_does_not_take_its_pixels_away(said: Any, tmp_path: Path) -> None:
    """A bundle of a file that says nothing is made ready as the pictures that calibrated it were."""
    model = build("g (float[N,3,16,16] x) => (float[N,10] y) { c = Conv(x, w) y = Flatten(c) }",
                  {"w": draw(10, 3, 16, 16)})  # fmt: skip
    onnx.save(model, tmp_path / "net.onnx")
    for i in range(4):
        Image.fromarray(np.uint8(RNG.integers(0, 256, (20, 20, 3)))).save(tmp_path / f"{i}.png")
    api.quantize(tmp_path / "net.onnx", tmp_path / "net.edge", tmp_path, search_budget=0, max_drop=1, **said)
    assert len(api.run(tmp_path / "net.edge", tmp_path / "0.png").predictions) == 1


def test_images_behind_another_axis_are_told_how_to_come_first(tmp_path: Path) -> None:
    """(T, N, classes), as PyTorch's CTC loss takes it."""
    columns = "(float[16,N,16] y) { p = Conv(x, w) z = ReduceMean <keepdims=0>(p, a) y = Transpose <perm=[2,0,1]>(z) }"
    model = build(f"g (float[N,3,16,16] x) => {columns}", {"w": draw(16, 3, 1, 1), "a": np.array([2])})
    onnx.save(model, tmp_path / "text.onnx")
    with pytest.raises(BadInput, match=r"y is \[16, 1, 16\] .* put the images first, answer\.transpose\(0, 1\) "):
        api.quantize(tmp_path / "text.onnx", tmp_path / "text.edge", "random:4")


def test_answers_of_several_shapes_are_proven_by_one(tmp_path: Path) -> None:
    """Rows of (1, K), where K is what an image makes of it."""
    answers = [{"y": np.full((1, i + 2), i, np.float32)} for i in range(3)]
    feeds = [{"x": np.full((1, 3), i, np.float32)} for i in range(3)]

    class Fake:
        inputs, outputs, subject = (
            (TensorInfo("x", "float32", ("N", 3)),),
            (TensorInfo("y", "float32", ("N", "K")),),
            "",
        )

        def __call__(self, feed: Tensors) -> Tensors:
            return answers[int(feed["x"][0, 0])]

    session: Any = Fake()
    inputs, outputs, far, _ = proof.golden(proof.GivenModel(session, feeds), session)
    assert [array.shape for array in (*inputs, *outputs)] == [(1, 3), (1, 2)]
    assert far == 0


def test_build_points_here(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(given), "-o", str(tmp_path / "n.edge"), "--calib", "random:4"]) == 2
    assert f"`edgecnn quantize {given} -o NAME.edge --calib DATA`" in capsys.readouterr().err


def shades(root: Path, names: tuple[str, ...]) -> Path:
    """Pictures of noise in a folder for each of `names`."""
    for i in range(6 * len(names)):
        path = root / names[i % len(names)] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    return root


def test_names_of_folders_are_packed_as_in_build(given: Path, tmp_path: Path) -> None:
    names = tuple("abcdefghij")
    data = shades(tmp_path / "photos", names)
    quick: dict[str, Any] = {"max_drop": 1.0, "allow_slower": True, "search_budget": 0}
    report = api.quantize(given, tmp_path / "m.edge", data, data=data, **quick)
    assert open_bundle(tmp_path / "m.edge").labels == names
    assert sum(f"classes are named after the folders of {data}, in alphabetical" in w for w in report.warnings) == 1
    api.quantize(given, tmp_path / "c.edge", data, **quick)
    assert open_bundle(tmp_path / "c.edge").labels == ()  # images that calibrate name nothing
    (tmp_path / "names.txt").write_text("\n".join("klmnopqrst"))
    other = shades(tmp_path / "other", tuple("tsrqponmlk"))
    told = api.quantize(given, tmp_path / "t.edge", other, data=other, labels=tmp_path / "names.txt", **quick)
    assert open_bundle(tmp_path / "t.edge").labels == tuple("klmnopqrst")
    assert not any("named after" in w for w in told.warnings)
    plain = api.quantize(given, tmp_path / "m.onnx", other, data=other, **quick)
    assert any("classes are counted by the folders" in w for w in plain.warnings)  # nothing there that would hold them


def test_names_of_columns_are_packed(given: Path, tmp_path: Path) -> None:
    names = tuple(f"label {i}" for i in range(10))
    shades(tmp_path, ("images",))
    rows = [f"{i}.png,{','.join(str((i + k) % 2) for k in range(10))}" for i in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join([f"file,{','.join(names)}", *rows]))
    api.quantize(given, tmp_path / "m.edge", tmp_path, data=tmp_path, task="multi-label",
                 max_drop=1.0, allow_slower=True, search_budget=0)  # fmt: skip
    assert open_bundle(tmp_path / "m.edge").labels == names


def test_names_of_masks_are_packed(tmp_path: Path) -> None:
    text = "g (float[N,3,16,16] x) => (float[N,3,16,16] y) { y = Conv <pads: ints = [1,1,1,1]> (x, w) }"
    model = build(text, {"w": draw(3, 3, 3, 3)})
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "maps.onnx")
    shades(tmp_path / "data", ("images",))
    (tmp_path / "data" / "masks").mkdir()
    for i in range(6):
        Image.fromarray(np.full((16, 16), i % 3, np.uint8)).save(tmp_path / "data" / "masks" / f"{i}.png")
    for names, packed in (("road\nsky\ntree", ("road", "sky", "tree")), ("road\nsky\ntree\nsea", ())):
        (tmp_path / "data" / "labels.txt").write_text(names)
        api.quantize(tmp_path / "maps.onnx", tmp_path / "m.edge", tmp_path / "data", data=tmp_path / "data",
                     max_drop=1.0, allow_slower=True, search_budget=0, force=True)  # fmt: skip
        assert open_bundle(tmp_path / "m.edge").labels == packed
