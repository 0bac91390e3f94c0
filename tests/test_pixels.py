"""What users say about pixels, and what they are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgecnn.data.pixels import in_words, read_preprocess
from edgecnn.networks.spec import IMAGENET
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "scale", "shift"),
    [("unit", 1 / 255, 0.0), ("signed", 1 / 127.5, -1.0), ("raw", 1.0, 0.0)],
)
def test_the_names_are_the_usual_formulas(name: str, scale: float, shift: float) -> None:
    wanted = torch.from_numpy(PICTURE).permute(2, 0, 1).float() * scale + shift
    got = read_preprocess(name, (3, 32, 32))(PICTURE)
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-6, atol=1e-6)  # float32 rounding of the same formula


def test_caffe_is_what_keras_makes_of_pixels_for_its_resnets() -> None:
    """`keras.applications.resnet50.preprocess_input`: RGB becomes BGR, and each channel loses its mean."""
    wanted = PICTURE[:, :, ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)
    found = read_preprocess("caffe", (3, 32, 32))
    np.testing.assert_allclose(found(PICTURE), wanted.transpose(2, 0, 1), atol=1e-4)
    assert in_words(found) == "BGR, stretched to 32x32, x - 103.939 116.779 123.68"


def test_imagenet_is_imagenets() -> None:
    assert read_preprocess("imagenet", (3, 224, 224)) == IMAGENET
    assert read_preprocess("imagenet", (3, 32, 32)) == replace(IMAGENET, size=(32, 32), resize=None)


def test_yolo_is_a_letterbox_on_grey_114() -> None:
    tall = np.random.default_rng(1).integers(0, 256, (32, 16, 3), np.uint8)
    found = read_preprocess("yolo", (3, 32, 32))(tall)
    np.testing.assert_allclose(found[:, :, 8:24], tall.transpose(2, 0, 1) / 255, atol=1e-6)
    np.testing.assert_allclose(found[:, :, [0, 7, 24, 31]], 114 / 255, atol=1e-6)


def test_a_file_says_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"mean": [0.1, 0.2, 0.3], "std": [0.5], "resize": 40}')
    found = read_preprocess(str(tmp_path / "p.json"), (3, 32, 32))
    assert found == Preprocess(size=(32, 32), channels=3, resize=40, mean=(0.1, 0.2, 0.3), std=(0.5,))
    (tmp_path / "p.json").write_text('{"mean": 0.0, "std": 0.5}')
    assert read_preprocess(str(tmp_path / "p.json"), (3, 8, 8)) == Preprocess((8, 8), mean=(0.0,), std=(0.5,))


@pytest.mark.parametrize(
    ("text", "shape", "complaint"),
    [
        ("imagent", (3, 8, 8), "imagent: unknown preprocessing; did you mean imagenet"),
        ("imagenet", (1, 8, 8), "is for RGB, the network takes 1 channel"),
        ("caffe", (1, 8, 8), "is for RGB, the network takes 1 channel"),
        ("unit", (4, 8, 8), "the network takes 4 channels; pictures have 1 or 3"),
        ("unit", (2, 64), r"the network takes \[2, 64\], no pictures; leave it out"),
        ("none.json", (3, 8, 8), "none.json: no such file"),
        ("[1]", (3, 8, 8), "is not an object"),
        ("{", (3, 8, 8), "is not JSON"),
        ('{"mean": "1"}', (3, 8, 8), "p.json: preprocess: mean '1'; a number, or a list is needed"),
        ('{"men": [1]}', (3, 8, 8), "men: unknown preprocess setting; did you mean mean"),
        ('{"size": [9, 9]}', (3, 8, 8), "makes 3x9x9, the network takes 3x8x8"),
    ],
)
def test_what_cannot_be_used(text: str, shape: tuple[int, ...], complaint: str, tmp_path: Path) -> None:
    if text[0] in "[{":
        (tmp_path / "p.json").write_text(text)
        text = str(tmp_path / "p.json")
    with pytest.raises(BadInput, match=complaint):
        read_preprocess(text, shape)


def test_words_tell_every_setting_apart() -> None:
    settings = [IMAGENET, replace(IMAGENET, resize=None), replace(IMAGENET, mean=(0.5,)), replace(IMAGENET, std=(0.5,))]
    boxed = replace(IMAGENET, resize=None, letterbox=114)
    settings += [replace(IMAGENET, bgr=True), boxed, replace(boxed, letterbox=0), replace(boxed, corner=True)]
    settings += [replace(IMAGENET, interpolation="bicubic"), replace(IMAGENET, interpolation="nearest")]
    settings += [replace(IMAGENET, antialias=False)]
    assert len({in_words(p) for p in [*settings, None]}) == len(settings) + 1


@pytest.mark.parametrize(
    ("text", "name", "tells"),
    [
        ('{"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}', "mean 123.675", "mean becomes 0.485 "),
        ('{"mean": [0.5], "std": [127.5]}', "std 127.5", "std becomes 0.5 "),
        ('{"std": [255]}', "std 255", "std becomes 1 "),
        ('{"mean": [-103.9], "std": [0.0039]}', "mean -103.9", "mean becomes -0.4075 "),
    ],
)
def test_numbers_of_0_to_255_are_refused(text: str, name: str, tells: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(BadInput, match=f"p.json: {name} is of pixels in 0..255; .* divide both by 255, {tells}"):
        read_preprocess(str(tmp_path / "p.json"), (3, 32, 32))


def test_unusual_numbers_are_not(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"mean": [0.4, 1.0, -1.5], "std": [0.0039215686, 4.0, 1.0]}')
    assert read_preprocess(str(tmp_path / "p.json"), (3, 8, 8)).std[1] == 4.0
