"""What files that are given to others say of data: what it is called, and never where it lay."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from digit_tables import NUMBERS, PICTURES, numbered, write_table
from edgecnn import api
from edgecnn.data.built_in import recorded
from edgecnn.data.calibration_images import known_samples
from edgecnn.data.fingerprint import known_sets
from edgecnn.data.load import load_data
from edgecnn.networks.spec import unit_range
from edgecnn.networks.weights import load_weights
from edgecnn.runners import open_subject
from exporters.artifact import read_recipe
from runtimes.bundle import open_bundle
from test_seen_before import NET, foreign, photos


def contents(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def test_files_that_are_given_away_do_not_say_where_anything_lay(tmp_path: Path) -> None:
    home = tmp_path / "ada"
    photos(home / "photos"), photos(home / "judge", seed=3)
    (home / "net.py").write_text(NET)
    source, weights = f"{home}/net.py:Net", home / "w.safetensors"
    api.train(source, home / "photos", weights, epochs=1)
    api.export(source, home / "n.onnx", weights=weights)
    small = {"data": home / "judge", "search_budget": 0, "all_int8": True, "max_drop": 1.0}
    api.build(source, home / "n.edge", weights=weights, calib=home / "photos", **small)
    api.quantize(home / "n.onnx", home / "q.onnx", home / "photos", **small)
    api.quantize(home / "n.onnx", home / "q.edge", home / "photos", **small)
    api.report(home / "n.edge", home / "page.html")
    for name in ("w.safetensors", "n.onnx", "n.edge", "q.onnx", "q.edge", "page.html"):
        assert str(tmp_path).encode() not in contents(home / name), name
    about, manifest = load_weights(weights)[1], open_bundle(home / "n.edge").manifest
    assert about is not None
    assert (about.model, about.data, about.trained_on[0].name) == ("net.py:Net", "photos", "photos")
    assert manifest["weights"] == "w.safetensors"
    assert manifest["judged_on"].endswith("labelled images of judge")
    assert manifest["recipe"]["data"] == "photos"
    assert manifest["recipe"]["fingerprint"] == about.trained_on[0].fingerprint
    assert manifest["trained_on"] == [list(about.trained_on[0])]


def test_a_folder_is_not_recorded_as_the_built_in_set_of_that_name(tmp_path: Path) -> None:
    """`check` takes what an int8 model says that it was calibrated on."""
    model = foreign(tmp_path / "m.onnx", [*"abcdefghij"])
    for calib, written in ((photos(tmp_path / "digits"), "./digits"), ("digits", "digits")):
        api.quantize(model, tmp_path / "q.onnx", calib, all_int8=True, max_drop=1.0, search_budget=0, force=True)
        recipe = read_recipe(onnx.load(tmp_path / "q.onnx"))
        assert isinstance(recipe, dict)
        assert recipe["data"] == written
        sides = [open_subject(str(path), None, None, 1) for path in (model, tmp_path / "q.onnx")]
        assert (known_samples(sides, 3, 0) is not None) == (written == "digits")


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("digits", "digits"),
        ("builtin:shapes:9", "builtin:shapes:9"),
        ("./digits", "./digits"),
        ("/mnt/shapes", "./shapes"),
        ("../ada/photos/", "photos"),
        ("/home/ada/a.npz", "a.npz"),
        ("data array", "data array"),
        (".", "."),
    ],
)
def test_what_is_kept_of_a_name(typed: str, kept: str) -> None:
    assert recorded(typed) == kept == recorded(kept)
    assert known_sets([[typed, "1f"]]) == ((kept, "1f"),), "of older files, too"


def test_a_set_of_that_name_elsewhere_is_not_said_to_have_changed(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    photos(tmp_path / "a" / "photos"), photos(tmp_path / "b" / "photos", seed=1)
    source, weights = f"{tmp_path}/net.py:Net", tmp_path / "w.safetensors"
    api.train(source, tmp_path / "a" / "photos", weights, epochs=1)
    (line,) = api.evaluate(source, weights=weights, data=tmp_path / "b" / "photos").warnings
    assert "has changed since" in line
    assert "or is another set" in line
    assert np.isfinite(api.evaluate(source, weights=weights, data=tmp_path / "a" / "photos").models[0][1].value)


def test_a_part_of_a_set_is_called_by_both(tmp_path: Path) -> None:
    root = tmp_path / "shapes"
    write_table(root / "train", NUMBERS, numbered[:9], PICTURES[:9])
    write_table(root / "val", NUMBERS, numbered[9:12], PICTURES[9:12])
    ready = unit_range(8, 8, 1)
    parts = [load_data(root, ready, split=part, task="regression") for part in ("train", "test")]
    assert [samples.recorded for samples in parts] == ["./shapes/train", "./shapes/val"]
    assert parts[0].subset([0]).recorded == "./shapes/train"
    assert load_data(root / "val", ready, task="regression").recorded == "val"
    assert load_data(photos(tmp_path / "digits"), ready).recorded == "./digits"
    assert load_data("digits", ready).recorded == "digits"
