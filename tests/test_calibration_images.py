"""Without --data, an int8 model is compared on what it was made with, where that is on record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgecnn import api
from edgecnn.data.calibration_images import known_samples
from edgecnn.data.feeding import alike, make_feeds, other_sizes
from edgecnn.data.load import load_data
from edgecnn.data.resized import in_shape
from edgecnn.runners import open_subject
from exporters.artifact import RECIPE_KEY, Identity, write_identity
from exporters.graph import set_meta
from exporters.load import load_model
from runtimes.base import BadInput
from runtimes.bundle import open_bundle
from runtimes.imaging.preprocess import Preprocess
from small_nets import conv_net, model, save

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


def test_float_models_see_made_pictures(made: Path) -> None:
    assert api.check(made / "float.onnx", made / "float.onnx").data == "made pictures (seed 0)"


def test_another_size_is_made_of_what_is_known(tmp_path: Path) -> None:
    """Not of noise, which may leave what the network was made for."""
    text = '<ir_version: 9, opset_import: ["" : 20]> g (float[n,3,h,w] x) => (float[n,4,h,w] y) { y = Conv (x, k) }'
    net = model(text, k=np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32))
    write_identity(net, Identity("net", preprocess=READY, task="other"))
    save(net, tmp_path / "float.onnx")
    for name in ("int8.onnx", "int8.edge"):
        api.quantize(tmp_path / "float.onnx", tmp_path / name, "digits", allow_slower=True, search_budget=0, limit=16)
    for way in (api.check, api.diff):
        bundle = way(tmp_path / "float.onnx", tmp_path / "int8.edge", input_shape="3,12,20")
        assert bundle.data == f"golden inputs of {tmp_path / 'int8.edge'}, resized to 3x12x20"
        assert way(tmp_path / "float.onnx", tmp_path / "int8.onnx", input_shape="1,3,12,20").data == "digits"
    subjects = [open_subject(str(tmp_path / name)) for name in ("float.onnx", "int8.edge")]
    same, other = (make_feeds(subjects, None, 4, 0, shape, 1)[0] for shape in (None, "2,3,12,20"))
    assert next(iter(other))["x"].shape == (2, 3, 12, 20)
    low, high = (float(edge(next(iter(same))["x"])) for edge in (np.min, np.max))
    grown = alike(other_sizes(subjects, same[0], 0), same)
    assert [given["x"].shape for given in grown] == [(3, 3, 8, 8), (1, 3, 11, 11)]
    assert all(low <= given["x"].min() <= given["x"].max() <= 1 for given in grown), "what is tried besides, too"
    assert high <= 1


@pytest.mark.parametrize("size", [(5, 9), (16, 16), (8, 3), (1, 1)])
def test_the_type_and_the_place_of_the_channels_stay(size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).random((2, 3, 8, 6), np.float32)
    wanted = functional.interpolate(torch.from_numpy(images), size, mode="bilinear", antialias=True).numpy()
    assert np.abs(in_shape(images, (3, *size)) - wanted).max() < 1e-5
    last = in_shape(np.ascontiguousarray(images.transpose(0, 2, 3, 1)), (*size, 3))
    assert np.abs(last.transpose(0, 3, 1, 2) - wanted).max() < 1e-5
    pixels = in_shape((images * 255).astype(np.uint8), (3, *size))
    assert pixels.dtype == np.uint8
    assert np.abs(pixels - wanted * 255).max() < 1.51
    with pytest.raises(BadInput, match="cannot be resized"):
        in_shape(images, (4, *size))
