"""What a grid cuts off before HardSwish is no fault; what it cuts off too early is, and so is a wrong layer there."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.diff import find
from edgecnn.checking.divergence import DiffReport
from edgecnn.checking.sides import Side, graph_side
from edgecnn.checking.torch_side import module_side
from edgecnn.networks.sources import resolve
from exactly import exactly
from exporters.graph import MODULE_KEY, Graph, copy_model, set_meta
from exporters.layerwise.correspond import Pair
from exporters.layerwise.hard_cuts import idle_outside, with_cuts
from exporters.layerwise.partial import Parts
from exporters.quantization.quantize import QuantRecipe, quantize_model
from pass_examples import draw
from rewrite_tools import reference as evaluated
from small_nets import model

HEAD = '<ir_version: 9, opset_import: ["" : 20]>'
SIXTH = "<alpha = 0.16666667, beta = 0.5>"
ROUNDING_DB = 25.0

# --------------------------------------------------------------------------------------- what does not matter below -3
READERS = {
    "swish": "{r} = HardSwish (c)",
    "gate": f"{{r}} = HardSigmoid {SIXTH} (c)",
    "gated": f"{{r}}g = HardSigmoid {SIXTH} (c) {{r}} = Mul (c, {{r}}g)",
    "clip": "{r}a = Add (c, three) {r} = Clip ({r}a, zero, six)",
    "spelt out": "{r}a = Add (three, c) {r}b = Clip ({r}a, zero, six) {r}g = Div ({r}b, six) {r} = Mul ({r}g, c)",
    "divided last": "{r}a = Add (c, three) {r}b = Clip ({r}a, zero, six) {r}m = Mul (c, {r}b) {r} = Div ({r}m, six)",
}
OTHERS = {
    "sum": "{r} = Add (c, x)",
    "square": "{r} = Mul (c, c)",
    "another gate": "{r}s = Sigmoid (c) {r} = Mul (c, {r}s)",
    "another slope": "{r} = HardSigmoid (c)",
    "another number": "{r}a = Add (c, six) {r} = Clip ({r}a, zero, six)",
    "a sum that others read": "{r}a = Add (c, three) {r}b = Clip ({r}a, zero, six) {r} = Add ({r}a, {r}b)",
}
UPPER = ("gate", "clip")
"""Which do not see what is above 3 either."""


def net_of(names: Sequence[str]) -> onnx.ModelProto:
    """c = -x, read as `names` say."""
    lines = [{**READERS, **OTHERS}[name].format(r=f"r{i}") for i, name in enumerate(names)]
    outputs = ", ".join(f"float[64] r{i}" for i in range(len(names)))
    text = f"{HEAD} g (float[64] x) => ({outputs}) {{ c = Neg (x) {' '.join(lines)} }}"
    numbers = {"three": 3.0, "zero": 0.0, "six": 6.0}
    used = set(re.findall(r"\w+", text))
    return model(text, **{name: np.float32(value) for name, value in numbers.items() if name in used})


def held_on(low: float, zero: int = 95) -> Parts:
    """c of an int8 graph whose grid begins at `low`, and ends at `low` (`zero` - 255) / `zero`."""
    text = f"""{HEAD} g (float[64] x) => (float[64] c) {{ n = Neg (x) q = QuantizeLinear (n, s, z)
        c = DequantizeLinear (q, s, z) }}"""
    return Parts(model(text, s=np.float32(-low / zero), z=np.uint8(zero)))


@given(names=st.lists(st.sampled_from([*READERS, *OTHERS]), min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_what_is_cut_off_changes_no_result(names: list[str]) -> None:
    """Cut off exactly where every reader is known; then onnx.reference gives the same of both graphs."""
    net = net_of(names)
    ends = idle_outside(Graph(net), "c")
    if any(name in OTHERS for name in names):
        assert ends is None
        return
    upper = 3.0 if all(name in UPPER for name in names) else np.inf
    assert ends == (-3.0, upper)
    made, pairs = with_cuts(Parts(net), held_on(-3), [Pair("c", "c", "name"), Pair("r0", "r0", "name")])
    assert [pair.reference for pair in pairs] == ["c.cut", "r0"]
    feeds = {"x": np.linspace(-9, 9, 64, dtype=np.float32)}
    before, after = evaluated(net, feeds), evaluated(made.model, feeds)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-5)
    highest = np.float32(3 / 95) * np.float32(160)
    cut = made.open(["c.cut"])(feeds)["c.cut"]
    np.testing.assert_array_equal(cut, np.clip(-feeds["x"], -3, highest if np.isfinite(upper) else np.inf))


@pytest.mark.parametrize(("low", "cuts"), [(-3, True), (-2, True), (-3.02, False), (-8, False)])
def test_it_is_cut_off_only_where_the_grid_ends_there(low: float, cuts: bool) -> None:
    """A grid that ends too early is held against -3, not against its own end."""
    net, held = Parts(net_of(["swish"])), held_on(low)
    made, (pair,) = with_cuts(net, held, [Pair("c", "c", "name")])
    assert pair.reference == ("c.cut" if cuts else "c")
    assert (made is net) == (not cuts)
    if cuts:
        feeds = {"x": np.linspace(-9, 9, 64, dtype=np.float32)}
        assert made.open(["c.cut"])(feeds)["c.cut"].min() == -3


def test_an_output_and_what_has_no_grid_are_left_alone() -> None:
    net = net_of(["swish"])
    pairs = (Pair("c", "x", "name"),)
    assert with_cuts(Parts(net), held_on(-3), pairs)[1] == pairs
    net.graph.output.add().CopyFrom(onnx.helper.make_tensor_value_info("c", 1, [64]))
    assert idle_outside(Graph(net), "c") is None


# ----------------------------------------------------------------------------------------------- through the whole diff
class Net(nn.Sequential):
    """Most of what the second convolution makes is far below -3."""

    input_shape = (4, 8, 8)

    def __init__(self) -> None:
        torch.manual_seed(0)
        first, second, last = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 5, 1)
        super().__init__(first, nn.ReLU(), second, nn.Hardswish(), last)
        with torch.no_grad():
            for conv, gain, shift in ((first, 2, 0), (second, 6, -4)):
                conv.weight *= gain
                conv.bias += shift


def float_net() -> onnx.ModelProto:
    """`Net` as an exporter writes it."""
    text = f"""{HEAD} g (float[N,4,8,8] x) => (float[N,5,4,4] y) {{
        a = Conv (x, w0, b0) r = Relu (a) c = Conv (r, w2, b2) h = HardSwish (c) y = Conv (h, w4, b4) }}"""
    layers = {f"{'wb'[k]}{i}": p.detach().numpy() for i in (0, 2, 4) for k, p in enumerate(Net()[i].parameters())}
    net = model(text, **layers)
    for i, node in enumerate(net.graph.node):
        set_meta(node, {MODULE_KEY: str(i)})
    return net


@functools.cache
def int8(forms: tuple[str, ...] = ("hardswish",)) -> onnx.ModelProto:
    feeds = [{"x": draw(1, 4, 8, 8, seed=i)} for i in range(16)]
    return exactly(quantize_model(float_net(), feeds, QuantRecipe(forms=forms)).model)


def parted(candidate: onnx.ModelProto, side: Side | None = None, **options: bool) -> DiffReport:
    reference = side or graph_side(float_net(), "float", threads=1)
    images = [{reference.inputs[0].name: draw(1, 4, 8, 8, seed=i)} for i in range(3)]
    return find(compare_sides(reference, graph_side(candidate, "int8", threads=1), images), layers=True)


def torch_side() -> Side:
    return module_side(resolve(Net()), "net")


@pytest.mark.parametrize("forms", [("hardswish",), ()])
@pytest.mark.parametrize("side", [lambda: None, torch_side], ids=["graph", "module"])
def test_no_layer_of_a_right_file_is_blamed(side: Callable[[], Side | None], forms: tuple[str, ...]) -> None:
    report = parted(int8(forms), side())
    assert report.first is None, report.verdict
    rows = {row.layer.module: row for row in report.layers}
    assert set(rows) >= {"2", "3", "4"}
    assert min(min(row.snr_db, row.alone_db) for row in rows.values()) > ROUNDING_DB


def edited(name: str, edit: Callable[[np.ndarray], np.ndarray]) -> onnx.ModelProto:
    made = copy_model(int8())
    (tensor,) = (t for t in made.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(edit(numpy_helper.to_array(tensor))), name))
    return made


@pytest.mark.parametrize("side", [lambda: None, torch_side], ids=["graph", "module"])
def test_a_wrong_layer_before_it_is_named(side: Callable[[], Side | None]) -> None:
    report = parted(edited("w2_int8", lambda w: w[:, :, ::-1, ::-1]), side())
    assert report.first is not None
    assert (report.first.module, report.first.at_fault) == ("2", True)


def test_a_grid_that_ends_too_early_is_the_layers_fault() -> None:
    """-3 is cut off at -1: HardSwish is lowest at -1.5, and its form takes integer 0 for -3."""
    report = parted(edited("c_zero_point", lambda z: z // 3))
    assert report.first is not None
    assert report.first.at_fault
    assert report.first.module in ("2", "3")


def test_the_reproducer_holds_the_cut(tmp_path: Path) -> None:
    reference = graph_side(float_net(), "float", threads=1)
    images = [{"x": draw(1, 4, 8, 8, seed=i)} for i in range(2)]
    broken = graph_side(edited("w2_int8", lambda w: w[:, :, ::-1, ::-1]), "int8", threads=1)
    folder = tmp_path / "broken"
    find(compare_sides(reference, broken, images), reproducer=folder)
    assert [node.op_type for node in onnx.load(folder / "reference.onnx").graph.node] == ["Conv", "Max"]
