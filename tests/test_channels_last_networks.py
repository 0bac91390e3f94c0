"""PyTorch networks that take channels last: edgecnn/networks/own_attributes.py, overrides.py and sources.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from data_folders import picture
from edgecnn import api
from edgecnn.networks.overrides import told
from edgecnn.networks.sources import resolve
from edgecnn.networks.spec import Beside
from edgecnn.numbers.torch_numbers import torch_runner
from exporters.artifact import read_identity
from runtimes.base import BadInput
from runtimes.bundle import open_bundle
from runtimes.imaging.images import read_image
from runtimes.imaging.preprocess import FLOAT32, FLOAT32_NHWC, UINT8_NHWC, Preprocess

NETS = """
import torch
from torch import nn

class Ready(nn.Module):
    input_shape = (16, 20, 3)
    def __init__(self):
        super().__init__()
        self.a, self.l = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)
    def forward(self, x):
        return self.l(self.a(x.permute(0, 3, 1, 2)).relu().mean((2, 3)))

class Last(Ready):
    preprocess = {"input": "float32-nhwc", "mean": [0.25], "std": [0.5]}

class Grey(nn.Module):
    input_shape = (16, 20, 1)
    preprocess = {"input": "float32-nhwc"}
    def forward(self, x):
        return x.mean((1, 2)).repeat(1, 3)

class Sized(Ready):
    input_shape = None
    preprocess = {"input": "float32-nhwc", "size": [16, 20]}

class Cut(Ready):
    preprocess = {"input": "float32-nhwc", "resize": 24}

class Wrong(Ready):
    input_shape = (3, 16, 20)
    preprocess = {"input": "float32-nhwc"}
"""
SAID = Preprocess((16, 20), mean=(0.25,), std=(0.5,), input=FLOAT32_NHWC)
QUICK = {"search_budget": 0, "allow_slower": True, "max_drop": 1}


@pytest.fixture
def nets(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NETS)
    return str(tmp_path / "nets.py")


@pytest.fixture
def photos(tmp_path: Path) -> str:
    for i in range(10):
        picture(tmp_path / "photos" / f"{i}.png", 20 + i, 30, seed=i)
    return str(tmp_path / "photos")


# ------------------------------------------------------------------------------------------------------------ pictures
def test_its_code_says_that_channels_are_last(nets: str) -> None:
    network = resolve(f"{nets}:Last")
    assert (network.preprocess, network.input_shape, network.planes) == (SAID, (16, 20, 3), (3, 16, 20))
    grey, sized = resolve(f"{nets}:Grey"), resolve(f"{nets}:Sized")
    assert grey.preprocess == Preprocess((16, 20), 1, input=FLOAT32_NHWC)
    assert (sized.preprocess, sized.input_shape) == (Preprocess((16, 20), input=FLOAT32_NHWC), (16, 20, 3))
    larger = resolve(f"{nets}:Last", input_shape="24,32,3")
    assert (larger.preprocess, larger.input_shape) == (SAID.at((24, 32)), (24, 32, 3))
    assert resolve(f"{nets}:Ready").preprocess is None
    assert resolve(f"{nets}:Cut").preprocess == Preprocess((16, 20), resize=24, input=FLOAT32_NHWC)
    with pytest.raises(BadInput, match=r"^Wrong.preprocess: .*'; the network takes \[3, 16, 20\]: mend one"):
        resolve(f"{nets}:Wrong")


def test_the_user_says_how_its_pixels_are_prepared(nets: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"input": FLOAT32_NHWC, "mean": [0.25], "std": [0.5]}))
    ready, last = resolve(f"{nets}:Ready"), resolve(f"{nets}:Last")
    unit = Preprocess((16, 20), input=FLOAT32_NHWC)
    assert told(ready, None, "unit").preprocess == told(last, None, "unit").preprocess == unit
    assert told(ready, None, str(tmp_path / "p.json")).preprocess == SAID
    assert told(resolve("lenet5"), None, "unit").preprocess == Preprocess((32, 32), 1, input=FLOAT32)


@pytest.mark.parametrize("pixels", [FLOAT32, UINT8_NHWC])
def test_built_from_pictures_it_answers_as_the_module(nets: str, photos: str, tmp_path: Path, pixels: str) -> None:
    bundle = tmp_path / "last.edge"
    report = api.build(f"{nets}:Last", bundle, calib=photos, input=pixels, **QUICK)
    assert report.preprocess is not None
    assert report.preprocess.channels_last
    shown = read_image(Path(photos) / "3.png")
    with torch.no_grad():
        whole = resolve(f"{nets}:Last").module(torch.from_numpy(SAID(shown))[None]).numpy()
    opened = open_bundle(bundle)
    assert opened.preprocess == (SAID if pixels == FLOAT32 else replace(SAID, input=pixels))
    session = opened.session()
    (answer,) = session({session.inputs[0].name: opened.preprocess(shown)[None]}).values()
    np.testing.assert_allclose(answer, whole, atol=0.02)
    assert np.ptp(whole) > 0.1
    (found,) = api.run(bundle, str(Path(photos) / "3.png")).predictions
    assert found.label == str(whole.argmax())
    np.testing.assert_allclose(found.score, torch.softmax(torch.from_numpy(whole[0]), 0).max(), atol=0.01)


def test_its_size_stays_as_it_is(nets: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Last: takes channels last; --dynamic-size is for channels first"):
        api.export(f"{nets}:Last", tmp_path / "n.onnx", dynamic_size=True)


# --------------------------------------------------------------------------------------------------- beside a file
@pytest.mark.parametrize("name", ["Ready", "Last"])
def test_beside_its_own_export(nets: str, tmp_path: Path, name: str) -> None:
    source, file = f"{nets}:{name}", tmp_path / "n.onnx"
    api.export(source, file)
    assert not api.check(source, file).failures
    assert api.diff(source, file).first is None


def test_what_a_file_fixes_is_turned_for_channels_last(nets: str) -> None:
    fixed = Beside("3,24,32")
    assert resolve(f"{nets}:Ready", input_shape=fixed).input_shape == (24, 32, 3)
    assert resolve(f"{nets}:Last", input_shape=fixed).input_shape == (24, 32, 3)
    assert resolve("resnet18", input_shape=Beside("3,64,64")).input_shape == (3, 64, 64)


def test_what_a_module_raises_is_one_line() -> None:
    with pytest.raises(BadInput, match=r"^Conv2d: does not run on zeros; Given groups=1[^\n]*$"):
        torch_runner(nn.Conv2d(3, 8, 3), (16, 16, 3))


def test_pixels_that_an_export_does_not_say_are_assumed(nets: str, photos: str, tmp_path: Path) -> None:
    file, made = tmp_path / "n.onnx", tmp_path / "q.onnx"
    api.export(f"{nets}:Ready", file)
    report = api.quantize(file, made, photos, input=UINT8_NHWC, **QUICK)
    assert any("x/127.5 - 1 is assumed" in line for line in report.warnings)
    identity = read_identity(onnx.load(made), "q")
    assert identity is not None
    half = (0.5, 0.5, 0.5)
    assert identity.preprocess == Preprocess((16, 20), mean=half, std=half, input=UINT8_NHWC)
