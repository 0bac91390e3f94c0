"""Without --data, an int8 model is compared on what it was made with, where that is on record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecnn import api
from edgecnn.data.known import known_samples
from edgecnn.data.load import load_data
from edgecnn.runners import open_subject
from exporters.artifact import RECIPE_KEY, Identity, write_identity
from exporters.graph import set_meta
from exporters.load import load_model
from runtimes.bundle import open_bundle
from runtimes.imaging.preprocess import Preprocess
from small_nets import conv_net, save

READY = Preprocess((8, 8), mean=(0.5,), std=(0.5,))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float file, an int8 file and an int8 bundle of it, calibrated on the built-in digits."""
    folder = tmp_path_factory.mktemp("known")
    net = conv_net()
    write_identity(net, Identity("net", preprocess=READY))
    save(net, folder / "float.onnx")
    for name in ("int8.onnx", "int8.edge"):
        api.quantize(folder / "float.onnx", folder / name, "digits", allow_slower=True, search_budget=0, limit=16)
    return folder


def test_a_file_that_was_calibrated_on_digits_sees_digits(made: Path) -> None:
    report = api.diff(made / "float.onnx", made / "int8.onnx", samples=4)
    assert report.data == "digits"
    subjects = [open_subject(str(made / name)) for name in ("float.onnx", "int8.onnx")]
    found = known_samples(subjects, 4, 0)
    wanted = load_data("builtin:digits", READY, limit=4, split="test", seed=0)
    assert found is not None
    assert found.ids == wanted.ids, "of the part that never calibrated"
    assert np.array_equal(found.stack(), wanted.stack())
    assert api.check(made / "float.onnx", made / "int8.onnx").data == "digits"


@pytest.mark.parametrize("order", [1, -1])
def test_a_bundle_sees_its_golden_inputs(made: Path, order: int) -> None:
    paths = [made / "float.onnx", made / "int8.edge"][::order]
    report, found = api.check(*paths), api.diff(*paths, samples=2)
    assert report.data == found.data == f"golden inputs of {made / 'int8.edge'}"
    assert report.warnings == (), "numbers that nobody gave need no mending"
    golden = open_bundle(made / "int8.edge").golden()[0][0]
    assert report.parity.images == len(golden) + 3, "and a batch of three of them"
    assert report.parity.snr_db > 25


@pytest.mark.parametrize("data", ["./digits", "photos", "random noise (32 samples, seed 0)", "digits.npz", "", 7, None])
def test_other_names_are_no_built_in_data(data: object, made: Path, tmp_path: Path) -> None:
    model = load_model(made / "int8.onnx")
    set_meta(model, {RECIPE_KEY: json.dumps({"data": data})})
    subjects = [open_subject(str(p)) for p in (made / "float.onnx", save(model, tmp_path / "q.onnx"))]
    assert known_samples(subjects, 4, 0) is None


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"data": ["digits"]}', "[" * 9999])
def test_a_damaged_record_is_none(text: str, made: Path, tmp_path: Path) -> None:
    model = load_model(made / "int8.onnx")
    set_meta(model, {RECIPE_KEY: text})
    subjects = [open_subject(str(p)) for p in (made / "float.onnx", save(model, tmp_path / "q.onnx"))]
    assert known_samples(subjects, 4, 0) is None


def test_only_integer_models_need_it(made: Path) -> None:
    """A float graph is compared on made pictures, whatever its bundle holds: they tell more layers apart."""
    subjects = [replace(open_subject(str(made / name)), quantized=False) for name in ("float.onnx", "int8.edge")]
    assert known_samples(subjects, 4, 0) is None


def test_float_models_and_other_sizes_see_made_pictures(made: Path) -> None:
    assert api.check(made / "float.onnx", made / "float.onnx").data == "made pictures (seed 0)"
    shape = api.diff(made / "float.onnx", made / "int8.edge", input_shape="3,8,8")
    assert shape.data == "made pictures (seed 0)", "a size that was asked for is made"
