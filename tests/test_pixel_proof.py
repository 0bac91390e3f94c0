"""`verify` finds pictures that are made ready otherwise than when a bundle was packed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.cli import main
from exporters.pack import pack
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from runtimes.base import BadInput
from runtimes.bundle import open_bundle, verify
from runtimes.imaging import preprocess as imaging
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof.archive import Changed
from runtimes.proof.pixels import NUMBERS, numbers_of, picture
from runtimes.session import open_session

WAYS = [
    Preprocess((8, 8), mean=(0.4, 0.5, 0.6), std=(0.2,)), Preprocess((8, 8), resize=9, input="float32-nhwc"),
    Preprocess((8, 8), letterbox=114, bgr=True, antialias=False), Preprocess((8, 8), input="uint8"),
    Preprocess((8, 8), channels=1, interpolation="bicubic"),
]  # fmt: skip
OTHERS: list[dict[str, Any]] = [
    {"mean": [0.41, 0.5, 0.6]}, {"std": [0.21]}, {"resize": 10}, {"letterbox": 0}, {"bgr": True}, {"antialias": False},
    {"interpolation": "bicubic"}, {"interpolation": "nearest"},
]  # fmt: skip


def packed(path: Path, preprocess: Preprocess | None) -> Path:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    about = {
        "name": "made", "task": "classification", "labels": [], "created_by": "edgecnn 0", "chosen": "float",
        "preprocess": preprocess.to_dict() if preprocess else None,
        "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8]},
        "output": {"name": "y", "dtype": "float32", "shape": ["N", 4, 8, 8]},
    }  # fmt: skip
    pack(path, model, about, [x], [open_session(model)({"x": x})["y"]], 0.0)
    return path


def edited(path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """The bundle `path` with another manifest, written as it was."""
    with zipfile.ZipFile(path) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in members.items():
            if info.filename == "manifest.json":
                manifest = json.loads(data)
                edit(manifest)
                data = json.dumps(manifest).encode()
            archive.writestr(info, data)
    return path


@pytest.mark.parametrize("way", WAYS)
def test_the_numbers_are_those_of_the_preprocessing(way: Preprocess) -> None:
    ready = way(picture(way.channels)).reshape(-1)
    found = numbers_of(way)
    assert len(found) == NUMBERS
    assert found[0] == pytest.approx(float(ready[0]), abs=1e-6)
    assert found[-1] == pytest.approx(float(ready[-1]), abs=1e-6)
    assert len(set(found)) > 8
    assert numbers_of(Preprocess.from_dict(json.loads(json.dumps(way.to_dict())))) == found


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_any_other_setting_is_found(other: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = packed(tmp_path / "m.edge", WAYS[0])
    assert verify(open_bundle(path)).passed
    edited(path, lambda manifest: manifest["preprocess"].update(other))
    with pytest.raises(Changed, match="made ready otherwise than when it was packed: a number is"):
        verify(open_bundle(path))
    assert main(["verify", str(path)]) == 1
    assert "made ready otherwise" in capsys.readouterr().err


def test_another_reader_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, resize = packed(tmp_path / "m.edge", WAYS[0]), imaging.resize
    monkeypatch.setattr(imaging, "resize", lambda image, size, *how: resize(image, size, "bicubic"))
    with pytest.raises(Changed, match="made ready otherwise"):
        verify(open_bundle(path))


def test_older_bundles_and_those_without_pictures_have_no_numbers(tmp_path: Path) -> None:
    path = packed(tmp_path / "m.edge", None)
    assert "pixels" not in open_bundle(path).manifest
    assert verify(open_bundle(path)).passed
    old = edited(packed(tmp_path / "o.edge", WAYS[0]), lambda manifest: manifest.pop("pixels"))
    assert verify(open_bundle(old)).passed


@pytest.mark.parametrize("wrong", ["x", [1, 2], [True] * NUMBERS, ["1"] * NUMBERS, {}])
def test_numbers_that_are_none(wrong: object, tmp_path: Path) -> None:
    path = edited(packed(tmp_path / "m.edge", WAYS[0]), lambda manifest: manifest.update(pixels=wrong))
    with pytest.raises(BadInput, match=r"m.edge: manifest.json has no proper 'pixels'"):
        verify(open_bundle(path))
