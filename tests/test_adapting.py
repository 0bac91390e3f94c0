"""Each model is given its own of one picture: pixels or floats, channels first or last, whatever the other is given."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgecnn import api
from edgecnn.cli import main
from edgecnn.data.adapting import convert
from exporters.artifact import Identity, write_identity
from runtimes.base import BadInput
from runtimes.imaging.preprocess import INPUTS, Preprocess
from small_nets import conv_net, model, save

SIZE = (8, 8)
RNG = np.random.default_rng(4)
PIXELS = RNG.integers(0, 256, (5, 11, 9, 3), np.uint8)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
FORMS = [Preprocess(SIZE, input=form, **norm) for form in INPUTS for norm in ({}, IMAGENET)]
FORMS += [Preprocess(SIZE, input=form, bgr=True, **norm) for form, norm in (("float32", IMAGENET), ("uint8-nhwc", {}))]


@pytest.mark.parametrize(("ours", "theirs"), list(itertools.product(FORMS, FORMS)))
def test_it_is_what_the_other_would_have_made_of_the_picture(ours: Preprocess, theirs: Preprocess) -> None:
    """The oracle is the preprocessing itself, on the picture that `convert` never sees."""
    given, wanted = (np.stack([ready(picture) for picture in PIXELS]) for ready in (ours, theirs))
    found = convert(given, ours, theirs)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert np.array_equal(found, wanted)


def test_numbers_that_no_pixel_becomes_are_normalized_as_they_are() -> None:
    noise = RNG.standard_normal((2, 3, *SIZE)).astype(np.float32) * 3
    ours, theirs = Preprocess(SIZE), Preprocess(SIZE, mean=(0.5,), std=(0.25,))
    assert np.allclose(convert(noise, ours, theirs), (noise - 0.5) / 0.25, atol=1e-5)
    assert convert(noise, ours, Preprocess(SIZE, input="uint8")).max() == 255


# ------------------------------------------------------------------------------------------------------- two commands
NET = """
from torch import nn

class Net(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Linear(8 * 64, 10)

    def forward(self, x):
        return self.fc(self.relu(self.conv(x)).flatten(1))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module, its export, and int8 bundles of it that take floats, pixels, and pixels with channels last."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "nets.py").write_text(NET)
    api.export(f"{folder}/nets.py:Net", folder / "float.onnx", preprocess="imagenet")
    np.save(folder / "pictures.npy", RNG.integers(0, 256, (24, 8, 8, 3), np.uint8))
    for name in ("float32", "uint8", "uint8-nhwc"):
        api.quantize(folder / "float.onnx", folder / f"{name}.edge", str(folder / "pictures.npy"),
                     allow_slower=True, search_budget=0, input=name)  # fmt: skip
    return folder


PAIRS = list(itertools.permutations(["float32.edge", "uint8.edge", "uint8-nhwc.edge"], 2))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_bundles_that_differ_in_their_input_alone_are_equal(made: Path, pair: tuple[str, str]) -> None:
    paths = [made / name for name in pair]
    for data in (None, made / "pictures.npy"):
        report = api.check(*paths, data=data)
        assert report.passed
        assert report.parity.snr_db > 120, "they round alike, so the same pixels gave the same numbers"
    found = api.diff(*paths)
    assert found.first is None
    assert found.output_db > 120


@pytest.mark.parametrize("candidate", ["uint8.edge", "uint8-nhwc.edge"])
@pytest.mark.parametrize("reference", ["nets.py:Net", "float.onnx"])
def test_a_float_network_against_int8_that_takes_pixels(made: Path, reference: str, candidate: str) -> None:
    for data in (None, made / "pictures.npy"):
        report = api.check(f"{made}/{reference}", made / candidate, data=data)
        assert report.parity.snr_db > 25
        for one, other in ((f"{made}/{reference}", made / candidate), (made / candidate, f"{made}/{reference}")):
            found = api.diff(one, other, data=data)
            assert found.first is None, found.verdict
            assert found.doubt == ""


def test_floats_are_no_pixels(made: Path) -> None:
    floats = RNG.standard_normal((3, 3, 8, 8)).astype(np.float32)
    with pytest.raises(
        BadInput, match=r"data array: holds floats, .*uint8-nhwc.edge takes uint8 pixels; give pictures"
    ):
        api.check(made / "float.onnx", made / "uint8-nhwc.edge", data=floats)


def test_the_reproducer_holds_what_either_side_was_given(made: Path, tmp_path: Path) -> None:
    report = api.diff(made / "float.onnx", made / "uint8-nhwc.edge", snr_db=200, reproducer=tmp_path / "r")
    assert report.first is not None
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "r")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "1 failed, 1 passed" in done.stdout, "both sides run; the candidate is not the same within 105 dB"
    assert "AssertionError" in done.stdout or "E       assert" in done.stdout
    assert "InvalidArgument" not in done.stdout


# ------------------------------------------------------------------------------------------------------------ layouts
def channels_last(model: onnx.ModelProto, name: str = "pixels_last") -> onnx.ModelProto:
    """`model` behind a Transpose, its input (N, H, W, C), its own names gone: as another exporter writes it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    own = made.graph.input[0].name
    made.graph.node.insert(0, helper.make_node("Transpose", [name], [own], perm=[0, 3, 1, 2]))
    del made.graph.input[:]
    made.graph.input.append(helper.make_tensor_value_info(name, 1, ["N", 8, 8, 3]))
    return made


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    net = conv_net()
    write_identity(net, Identity("net", preprocess=Preprocess(SIZE, **IMAGENET)))
    last = channels_last(conv_net())
    return save(net, tmp_path / "first.onnx"), save(last, tmp_path / "last.onnx")


def test_channels_first_against_last(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for pair in (two, two[::-1]):
        assert api.check(*pair).passed
        assert api.check(*pair, data=PIXELS).passed
        found = api.diff(*pair)
        assert (found.first, found.doubt) == (None, "")
    assert main(["check", *map(str, two)]) == 0
    assert "agrees with" in capsys.readouterr().out


FIRST = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 8, 8] x) => (float[N, 4] y) {
    a = Conv (x, v)
    b = Relu (a)
    c = Conv (b, w)
    d = GlobalAveragePool (c)
    y = Flatten (d)
}
"""
LAST = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 8, 8, 3] pixels) => (float[N, 4] y) {
    p = MatMul (pixels, v)
    q = Relu (p)
    r = MatMul (q, w)
    y = ReduceMean <keepdims = 0> (r, axes)
}
"""


def test_layers_that_cannot_be_aligned_are_not_blamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1x1 convolutions as matrix products, channels last throughout: only the output looks the same in both."""
    rng = np.random.default_rng(0)
    v, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 3), (4, 6)))
    first = model(FIRST, v=v[..., None, None], w=w[..., None, None])
    right, wrong = (model(LAST, v=m.T, w=w.T, axes=np.array([1, 2])) for m in (v, v * np.float32([[-1], *[[1]] * 5])))
    write_identity(first, Identity("net", preprocess=Preprocess(SIZE, **IMAGENET)))
    paths = [save(net, tmp_path / f"{name}.onnx") for net, name in ((first, "a"), (right, "b"), (wrong, "c"))]
    assert api.diff(paths[0], paths[1]).failure is None
    assert api.check(paths[0], paths[1]).passed
    report = api.diff(paths[0], paths[2])
    assert report.first is None
    assert "one side has channels last, and the layers before it cannot be aligned" in report.doubt
    assert main(["diff", str(paths[0]), str(paths[2])]) == 3
    said = capsys.readouterr()
    assert "inconclusive" in said.out
    assert "at fault" not in said.out + said.err
