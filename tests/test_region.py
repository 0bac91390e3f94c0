"""What has no counterparts on its way is a region: it may leave what its roundings add up to, and is no layer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.diff import find
from edgecnn.checking.divergence import DiffReport
from edgecnn.checking.region import Region, region
from edgecnn.checking.sides import graph_side
from exporters.quantization.quantize import QuantRecipe, quantize_model
from small_nets import model

RNG = np.random.default_rng(0)
IMAGES = [(RNG.standard_normal((1, 3, 8, 8)) ** 3).astype(np.float32) for _ in range(4)]
"""With few large numbers, so that a grid has few steps for the others."""
DEPTH = 16
BODY = " ".join(f"c{i} = Conv (r{i}, w{i}) r{i + 1} = Add (c{i}, r{i})" for i in range(DEPTH))
TEXT = f"""<ir_version: 9, opset_import: ["" : 20]> g (float[1,3,8,8] x) => (float[1,8,8,8] y) {{
    r0 = Conv (x, first) {BODY} y = Conv (r{DEPTH}, last)
}}"""


def network() -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    shapes = {"first": (8, 3, 1, 1), "last": (8, 8, 1, 1)} | {f"w{i}": (8, 8, 1, 1) for i in range(DEPTH)}
    return model(TEXT, **{k: (rng.standard_normal(v) * v[1] ** -0.5).astype(np.float32) * 2 for k, v in shapes.items()})


def int8(broken: str = "", by: float = 1.0) -> onnx.ModelProto:
    made = quantize_model(network(), [{"x": image} for image in IMAGES], QuantRecipe()).model
    for tensor in made.graph.initializer:
        if tensor.name == broken:
            value = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(by) * value, broken))
    return made


def parted(candidate: onnx.ModelProto, hidden: bool, **options: object) -> DiffReport:
    """With all tensors in common, or only with those of the first layer and of the last."""
    sides = [graph_side(net, name, threads=1) for net, name in ((network(), "good"), (candidate, "int8"))]
    comparison = compare_sides(*sides, [{"x": image} for image in IMAGES[:2]], options.pop("limit_db", None))
    while hidden and len(comparison.pairs) > 3:
        comparison.drop(1)
    return find(comparison, **options)


def test_roundings_add_up() -> None:
    assert Region().slack_db == 0
    assert Region(roundings=4).slack_db == pytest.approx(6.02, abs=0.01)


def test_a_region_counts_what_computes_and_what_is_rounded() -> None:
    sides = [graph_side(net, name, threads=1) for net, name in ((network(), "good"), (int8(), "int8"))]
    comparison = compare_sides(*sides, [{"x": image} for image in IMAGES[:1]])
    last = len(comparison.pairs) - 1
    assert region(comparison, last) == Region(1, "Conv_y", 1)
    while len(comparison.pairs) > 1:
        comparison.drop(0)
    whole = region(comparison, 0)
    assert (whole.nodes, whole.begins, whole.roundings) == (2 * DEPTH + 2, "Conv_r0", 2 * DEPTH + 2)


def test_a_healthy_region_is_not_blamed_for_the_noise_of_its_many_layers() -> None:
    """Its 20 dB are those of one layer: all of them together leave less, and none of them is wrong."""
    layer_by_layer = parted(int8(), hidden=False, layers=True)
    assert layer_by_layer.first is None
    assert min(row.alone_db for row in layer_by_layer.layers) > 20
    report = parted(int8(), hidden=True, layers=True)
    low = min(row.alone_db for row in report.layers)
    assert low < 20, "a case in point: the region alone leaves less than a layer may"
    assert report.first is None, report.verdict
    assert "what cannot be told apart are the " in report.notes[-1]


def test_a_fault_in_a_region_is_said_to_be_somewhere_in_its_nodes() -> None:
    wrong = int8("c4_scale", 40.0)
    exact = parted(wrong, hidden=False)
    assert exact.first is not None
    assert (exact.first.node, exact.first.nodes) == ("Conv_c4", 1)
    assert exact.verdict.endswith("the layer is at fault.")
    report = parted(wrong, hidden=True)
    assert report.first is not None
    assert report.first.at_fault
    assert report.first.limit_db < 20
    assert f"the fault is somewhere in these {report.first.nodes} nodes, " in report.verdict
    assert "the layer is at fault" not in report.verdict
    assert report.first.to_dict()["nodes"] == report.first.nodes > 2


def test_a_limit_that_the_user_gave_is_that_of_a_region_too() -> None:
    report = parted(int8(), hidden=True, limit_db=30.0)
    assert report.first is not None
    assert report.first.limit_db == 30
    assert "somewhere in these" in report.verdict
