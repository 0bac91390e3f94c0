"""Models side by side see the same pixels and count the same classes, told once; oracle: scores of known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

from edgecnn.checking.compare import check
from edgecnn.checking.diff import diff
from edgecnn.choosing.quantizing import quantize
from edgecnn.cli import main
from edgecnn.evaluation.evaluate import evaluate
from edgecnn.road import export
from exporters.load import load_model
from runtimes.base import BadInput

NET = """
import torch
from torch import nn

class Dark(nn.Module):
    '''Class 0 where the mean of its input is below 0, else class 1: right for pixels of mean 0.4 alone.'''
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([[-1.0, 1.0]]))

    def forward(self, x):
        return x.mean((1, 2, 3))[:, None] * self.scale
"""
DARK_AND_BRIGHT = (94, 110)
"""Of 255: between them lie 0.4 (102), but neither ImageNet's mean (0.485, 0.456, 0.406) nor 0.5."""


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NET)
    return f"{tmp_path / 'nets.py'}:Dark"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Dark ones in `night`, bright ones in `day`: the network counts night, day; the alphabet day, night."""
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "photos" / ("night", "day")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(-3, 4, (16, 16, 3))
        Image.fromarray((DARK_AND_BRIGHT[i % 2] + noise).astype(np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def how(tmp_path: Path) -> str:
    (tmp_path / "how.json").write_text('{"mean": [0.4], "std": [0.5]}')
    return str(tmp_path / "how.json")


@pytest.fixture
def names(tmp_path: Path) -> Path:
    (tmp_path / "names.txt").write_text("night\nday\n")
    return tmp_path / "names.txt"


@pytest.fixture
def exported(source: str, how: str, names: Path, tmp_path: Path) -> Path:
    """Knows its pixels and its classes."""
    export(source, tmp_path / "known.onnx", input_shape="3,16,16", preprocess=how, labels=names)
    return tmp_path / "known.onnx"


@pytest.fixture
def foreign(exported: Path, tmp_path: Path) -> Path:
    """The same from elsewhere: without metadata."""
    model = load_model(exported)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    return tmp_path / "foreign.onnx"


def values(report: object) -> list[float]:
    return [score.value for _, score in report.models]  # type: ignore[attr-defined]


def test_the_user_says_how_a_foreign_model_sees(foreign: Path, photos: Path, how: str, names: Path) -> None:
    said = evaluate(foreign, data=str(photos), preprocess=how, labels=names)
    assert values(said) == [1.0]
    assert said.warnings == ()
    guessed = evaluate(foreign, data=str(photos), labels=names)
    assert values(guessed) != [1.0]
    assert any("foreign.onnx: does not say its preprocessing" in line for line in guessed.warnings)
    swapped = evaluate(foreign, data=str(photos), preprocess=how)
    assert values(swapped) == [0.0]
    assert any("alphabetical order (day, night)" in line for line in swapped.warnings)


def test_a_source_takes_pixels_size_and_names_from_the_model_that_knows(
    source: str, exported: Path, photos: Path
) -> None:
    assert values(evaluate(source, exported, data=str(photos))) == [1.0, 1.0]
    assert values(evaluate(exported, source, data=str(photos))) == [1.0, 1.0]
    assert evaluate(exported, source, data=str(photos)).warnings == ()


@pytest.mark.parametrize("turned", [False, True])
def test_check_and_diff_feed_both_what_one_knows(turned: bool, source: str, exported: Path, photos: Path) -> None:
    """The answers are of one size only where the mean of 0.4 was taken off: the largest is 0.03 / 0.5."""
    pair = (exported, source) if turned else (source, exported)
    report = check(*map(str, pair), data=str(photos), snr_db=60)
    assert report.passed
    assert report.warnings == ()
    assert diff(*map(str, pair), data=str(photos)).warnings == ()


def test_check_feeds_the_recorded_pixels(
    source: str, exported: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    from edgecnn.checking import compare

    real = compare.compare

    def spy(reference: object, candidate: object, feeds: object, *rest: object) -> object:
        seen.extend(value for feed in feeds for value in feed.values())  # type: ignore[attr-defined]
        return real(reference, candidate, feeds, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(compare, "compare", spy)
    check(source, str(exported), data=str(photos))
    means = sorted({round(float(value.mean()), 1) for value in seen})
    assert means == [-0.1, 0.1]  # (94 / 255 - 0.4) / 0.5 and (110 / 255 - 0.4) / 0.5; with ImageNet's -0.4 and -0.1
    assert any(
        "neither its input size nor its preprocessing" in line
        for line in check(source, source, data=str(photos)).warnings
    )


def test_preprocess_beside_a_model_that_takes_pixels_says_whose_the_other_gets(
    source: str, exported: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # short names: the middle of a long line is left out
    quantize(exported, "px.edge", str(photos), input="uint8-nhwc", allow_slower=True, max_drop=1, search_budget=0)
    with pytest.raises(BadInput) as caught:
        evaluate("nets.py:Dark", "px.edge", data="photos", preprocess="unit")
    assert str(caught.value) == (
        "--preprocess unit: px.edge takes uint8 pixels and normalizes them; leave it out: "
        "nets.py:Dark is then given its pixels normalized as they are there"
    )
    assert values(evaluate("nets.py:Dark", "px.edge", data="photos"))[0] == 1.0, "as the line says"
    with pytest.raises(BadInput, match=r"leave it out: known.onnx is then given its own$"):
        evaluate("known.onnx", "px.edge", data="photos", preprocess="unit")
    with pytest.raises(BadInput, match=r"normalizes them; leave it out$"):
        evaluate("px.edge", data="photos", preprocess="unit")


def test_floats_are_fed_as_they_are_and_nothing_is_assumed(foreign: Path, tmp_path: Path) -> None:
    y = np.arange(40) % 2
    x = np.broadcast_to((y * 2.0 - 1)[:, None, None, None], (40, 3, 16, 16)).astype(np.float32)
    x[:, 0, 0, 0] += np.arange(40) / 100  # no image is a copy of another
    np.savez(tmp_path / "f.npz", x=x, y=y)
    report = evaluate(foreign, data=str(tmp_path / "f.npz"))
    assert values(report) == [1.0]
    assert report.warnings == ()


def pixel_model(path: Path, shape: str, dtype: str = "uint8", axes: str = "1, 2, 3") -> Path:
    """Class 1 where the mean of what it is fed is above 102."""
    text = f"""<ir_version: 9, opset_import: ["" : 20]>
    g ({dtype}[N, {shape}] x) => (float[N, 2] y) <float limit = {{102.0}}, float[1, 2] sign = {{-1.0, 1.0}}> {{
       f = Cast <to = 1> (x)
       axes = Constant <value_ints = [{axes}]> ()
       m = ReduceMean (f, axes)
       d = Sub (m, limit)
       two = Constant <value_ints = [-1, 1]> ()
       r = Reshape (d, two)
       y = Mul (r, sign)
    }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.mark.parametrize("shape", ["16, 16, 3", "3, 16, 16"])
@pytest.mark.parametrize("data", ["photos", "hwc.npz", "own.npz"])
def test_a_uint8_input_gets_the_pixels(shape: str, data: str, photos: Path, names: Path, tmp_path: Path) -> None:
    y = np.arange(40) % 2
    pixels = np.broadcast_to(np.take(DARK_AND_BRIGHT, y)[:, None, None, None], (40, 16, 16, 3)).astype(np.uint8)
    pixels[:, 0, 0, 0] += np.arange(40, dtype=np.uint8)  # no picture is a copy of another
    np.savez(tmp_path / "hwc.npz", x=pixels, y=y)
    own = pixels if shape.endswith(" 3") else pixels.transpose(0, 3, 1, 2)
    np.savez(tmp_path / "own.npz", x=own, y=y)
    model = pixel_model(tmp_path / "u8.onnx", shape)
    labels = names if data == "photos" else None
    report = evaluate(model, data=str(tmp_path / data), labels=labels)
    assert values(report) == [1.0]
    assert report.warnings == ()


def test_a_float16_input_takes_float32(tmp_path: Path) -> None:
    model = pixel_model(tmp_path / "half.onnx", "3, 16, 16", "float16")
    y = np.arange(40) % 2
    for dtype in (np.float32, np.float16):
        x = np.broadcast_to(np.take(DARK_AND_BRIGHT, y)[:, None, None, None], (40, 3, 16, 16)).astype(dtype)
        np.savez(tmp_path / "d.npz", x=x, y=y)
        assert values(evaluate(model, data=str(tmp_path / "d.npz"))) == [1.0]
    full = pixel_model(tmp_path / "full.onnx", "3, 16, 16", "float")
    assert check(model, full).passed
    assert check(full, model, snr_db=40).passed


def test_what_cannot_be_told(tmp_path: Path, photos: Path, how: str) -> None:
    pixels = pixel_model(tmp_path / "u8.onnx", "3, 16, 16")
    with pytest.raises(BadInput, match=r"u8.onnx takes uint8 pixels and normalizes them; leave it out"):
        evaluate(pixels, data=str(photos), preprocess=how)
    none = pixel_model(tmp_path / "none.onnx", "16, 16, 4", "float")
    with pytest.raises(BadInput, match=r"takes \[N, 16, 16, 4\], no pictures"):
        evaluate(none, data=str(photos))
    with pytest.raises(BadInput, match="takes no pictures of known size"):
        check(none, none, data=str(photos), preprocess="unit")


def test_the_options_are_there(foreign: Path, photos: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And what a plain `check` assumes is on stderr."""
    for command in ("check", "diff"):
        assert main([command, str(foreign), str(foreign), "--data", str(photos), "--preprocess", how]) == 0
        assert "warning" not in capsys.readouterr().err
        assert main([command, str(foreign), str(foreign), "--data", str(photos)]) == 0
        assert "warning: " in capsys.readouterr().err
