"""Made pictures that leave what an int8 layer was calibrated for blame nobody; a faulty layer beside it is still found.

The network was calibrated on grey pictures: of colours, its first layer makes numbers that its grids never saw.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecnn import api
from edgecnn.checking import calibrated
from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.sides import graph_side
from edgecnn.cli import main
from exporters.artifact import Identity, write_identity
from exporters.quantization.quantize import QuantRecipe, quantize_model
from runtimes.imaging.preprocess import Preprocess
from small_nets import model, save

UNIT = Preprocess((16, 16))
RNG = np.random.default_rng(0)
GREYS = np.repeat(RNG.integers(0, 256, (24, 16, 16, 1), np.uint8), 3, axis=3)
COLOURS = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 16, 16] x) => (float[N, 5] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, v)
    b = Relu (a)
    c = Conv <pads = [1, 1, 1, 1]> (b, w)
    d = Relu (c)
    e = GlobalAveragePool (d)
    f = Flatten (e)
    y = MatMul (f, u)
}
"""


def pair() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A float network whose first layer looks at differences of colours, and its int8 graph for grey pictures."""
    rng = np.random.default_rng(1)
    v = rng.standard_normal((8, 3, 3, 3)).astype(np.float32)
    v -= v.mean(axis=1, keepdims=True) * np.float32(0.95)  # grey leaves a twentieth
    w, u = (rng.standard_normal(shape).astype(np.float32) for shape in ((8, 8, 3, 3), (8, 5)))
    net = model(COLOURS, v=v, w=w, u=u)
    write_identity(net, Identity("net", preprocess=UNIT))
    feeds = [{"x": UNIT(picture)[None]} for picture in GREYS]
    return net, quantize_model(net, feeds, QuantRecipe(data="greys")).model


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    net, int8 = pair()
    return save(net, tmp_path / "float.onnx"), save(int8, tmp_path / "int8.onnx")


def test_a_healthy_layer_is_not_blamed_for_pictures_that_nobody_calibrated_with(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report = api.diff(*files)
    assert report.first is None
    assert report.data == "made pictures (seed 0)"
    assert report.doubt.startswith("made pictures leave the calibrated range of ")
    assert report.doubt.endswith("; give --data")
    assert main(["diff", *map(str, files), "--json"]) == 3
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert (document["first"], document["inconclusive"]) == (None, report.doubt)
    assert said.err.count("\n") == 1
    assert "at fault" not in said.err
    assert "; give --data" in said.err


def test_with_data_it_is_healthy(files: tuple[Path, Path], tmp_path: Path) -> None:
    report = api.diff(*files, data=GREYS)
    assert (report.first, report.doubt, report.failure) == (None, "", None)
    assert report.output_db > 25


def test_data_that_was_given_is_never_doubted(files: tuple[Path, Path]) -> None:
    """What the user calls his pictures leaves the range, too: then the calibration is at fault, and he is told so."""
    report = api.diff(*files, data=RNG.integers(0, 256, (6, 16, 16, 3), np.uint8))
    assert report.first is not None
    assert report.doubt == ""


@pytest.mark.parametrize("grey", [True, False])
def test_a_broken_layer_is_found_all_the_same(grey: bool, files: tuple[Path, Path], tmp_path: Path) -> None:
    """The last layer's weights are wrong, and its inputs stay in range: the mean of what was cut off before."""
    broken = onnx.load(files[1])
    stored = next(t for t in broken.graph.initializer if list(t.dims) == [8, 5])
    weight = numpy_helper.to_array(stored)
    stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(-weight), stored.name))
    report = api.diff(files[0], save(broken, tmp_path / "broken.onnx"), data=GREYS if grey else None)
    if grey:
        assert report.first is not None
        assert report.first.op in ("MatMul", "Gemm")
        assert report.first.at_fault
    else:
        assert report.failure is not None, "the first layer's clipping or the broken one: never `no layer parts`"


def test_what_is_cut_off_is_what_lies_beyond_the_grid(files: tuple[Path, Path]) -> None:
    net, int8 = pair()
    colours = [{"x": UNIT(p)[None]} for p in RNG.integers(0, 256, (3, 16, 16, 3), np.uint8)]
    for feeds, cut in (([{"x": UNIT(p)[None]} for p in GREYS[:3]], False), (colours, True)):
        comparison = compare_sides(graph_side(net, "f"), graph_side(int8, "q"), feeds)
        least = min(calibrated.cut_db(comparison, i) for i in range(len(comparison.points.names)))
        assert (least < 20) == cut


def test_what_only_rounds_is_not_cut_off() -> None:
    """A grid of 0.1: up to half a step beyond its ends."""
    held = calibrated._held(np.array([-1, -0.04, 3, 25.54, 30]), (0.0, 25.5))
    np.testing.assert_allclose(held, [-0.05, -0.04, 3, 25.54, 25.55], rtol=1e-12)
