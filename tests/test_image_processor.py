"""Files that say how Hugging Face's networks are fed, read as preprocessing: sizes, and numbers computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn import api
from edgecnn.data.pixels import in_words, read_preprocess
from runtimes.base import BadInput
from runtimes.bundle import open_bundle
from small_nets import conv_net, save

VIT: dict[str, Any] = {
    "do_normalize": True, "do_resize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2],
    "image_processor_type": "ViTImageProcessor", "resample": 2, "size": {"height": 32, "width": 48},
}  # fmt: skip
RESNET = {**VIT, "image_processor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "resample": 3}
CROPPED = {**VIT, "image_processor_type": "MobileNetV2ImageProcessor", "size": {"shortest_edge": 40},
           "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}  # fmt: skip


def ready(values: dict[str, Any], *shape: int) -> Any:
    return read_preprocess(json.dumps(values), (3, *shape) if shape else (3, 32, 32))


@pytest.mark.parametrize(
    ("values", "shape", "words"),
    [
        (VIT, (32, 48), "RGB, stretched to 32x48, (x/255 - 0.5 0.4 0.3) / 0.5 0.25 0.2"),
        ({**VIT, "size": 32}, (32, 32), "RGB, stretched to 32x32, (x/255 - 0.5 0.4 0.3) / 0.5 0.25 0.2"),
        (CROPPED, (32, 32), "RGB, shorter side to 40, centre 32x32, (x/255 - 0.5 0.4 0.3) / 0.5 0.25 0.2"),
        ({**CROPPED, "size": 40, "crop_size": 32}, (32, 32), "RGB, shorter side to 40, centre 32x32, "),
        (
            {**RESNET, "size": {"shortest_edge": 224}},
            (224, 224),
            "RGB, shorter side to 256, centre 224x224 (bicubic), ",
        ),
        ({**RESNET, "size": {"shortest_edge": 384}}, (384, 384), "RGB, stretched to 384x384 (bicubic), "),
        ({**VIT, "do_resize": False}, (8, 9), "RGB, stretched to 8x9, (x/255 - 0.5"),
        ({**VIT, "resample": 0}, (32, 48), "RGB, stretched to 32x48 (nearest), "),
    ],
)
def test_how_a_picture_is_made_to_fit(values: dict[str, Any], shape: tuple[int, int], words: str) -> None:
    assert in_words(ready(values, *shape)).startswith(words)


@pytest.mark.parametrize(
    ("values", "red"),
    [
        ({}, (100 / 255 - 0.5) / 0.5),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, (100 / 127.5 - 1 - 0.5) / 0.5),
        ({"do_rescale": False, "image_mean": [90, 1, 1], "image_std": [50, 1, 1]}, (100 - 90) / 50),
        ({"do_normalize": False}, 100 / 255),
        ({"do_normalize": False, "do_rescale": False}, 100),
        ({"include_top": True}, (100 / 255 - 0.5) / 0.25),
        ({"image_mean": 0.2, "image_std": 0.1}, (100 / 255 - 0.2) / 0.1),
        ({"do_flip_channel_order": True}, (150 / 255 - 0.5) / 0.5),
    ],
)
def test_what_a_pixel_becomes(values: dict[str, Any], red: float) -> None:
    pixel = np.broadcast_to(np.array([100, 120, 150], np.uint8), (20, 30, 3))
    assert ready({**VIT, **values}, 32, 48)(pixel)[0, 5, 5] == pytest.approx(red, rel=1e-5)


def test_a_processor_that_does_not_speak_of_normalizing_does_not() -> None:
    mobile = {
        k: v for k, v in {**CROPPED, "image_processor_type": "MobileViTImageProcessor"}.items() if k != "do_normalize"
    }
    assert in_words(ready(mobile)).endswith("centre 32x32, x/255")
    plain = {"image_mean": [0.5], "image_std": [0.25], "size": 32}
    assert in_words(ready(plain)) == "RGB, stretched to 32x32, (x/255 - 0.5) / 0.25"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"image_processor_type": "LevitImageProcessor"},
            "is of a LevitImageProcessor, which is not known here; write mean",
        ),
        ({"resample": 1}, r"resample 1; 0 \(nearest\), 2 \(bilinear\) and 3 \(bicubic\) are known"),
        ({"size": {"shortest_edge": 32}}, "keeps the proportions of a picture and cuts nothing out; "),
        ({"do_center_crop": True, "crop_size": 16}, "stretches pictures and cuts the centre out; "),
        ({"size": {"longest_edge": 32}}, r"is no preprocessor_config.json that is understood \(KeyError\('height'\)\)"),
        ({"image_mean": "half"}, "is no preprocessor_config.json that is understood"),
        ({"rescale_factor": 0}, "is no preprocessor_config.json that is understood"),
        ({"size": 24}, "makes 3x24x24, the network takes 3x32x32; give --input-shape"),
    ],
)
def test_what_is_not_understood_is_told_with_the_file(values: dict[str, Any], line: str, tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**VIT, **values}))
    with pytest.raises(BadInput, match=rf"^{path}: {line}"):
        read_preprocess(str(path), (3, 32, 32))


def test_such_a_file_is_a_preprocess(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**VIT, "size": {"height": 8, "width": 8}}))
    model = save(conv_net(), tmp_path / "net.onnx")
    api.quantize(model, tmp_path / "net.edge", "random:8", preprocess=path, search_budget=0, max_drop=1)
    assert in_words(open_bundle(tmp_path / "net.edge").preprocess).startswith(
        "RGB, stretched to 8x8, (x/255 - 0.5 0.4 0.3)"
    )
