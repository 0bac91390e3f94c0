"""A layer is blamed only for what the outputs show: not for factors and layouts that what follows takes back."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.diff import find
from edgecnn.checking.divergence import DiffReport
from edgecnn.checking.sides import Side, graph_side
from edgecnn.checking.torch_side import module_side
from edgecnn.networks.sources import resolve
from exporters.graph import ABSORBED_KEY, MODULE_KEY, set_meta
from exporters.layerwise.calls import Call, correspond_calls
from exporters.layerwise.correspond import correspond
from exporters.layerwise.partial import Parts
from exporters.passes import fold_batchnorm
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.torch_export import export_module
from small_nets import model

RNG = np.random.default_rng(0)
IMAGES = [RNG.standard_normal((1, 3, 8, 8)).astype(np.float32) for _ in range(3)]


def parted(reference: Side | onnx.ModelProto, candidate: Side | onnx.ModelProto, **options: object) -> DiffReport:
    sides = [graph_side(s, n, threads=1) if isinstance(s, onnx.ModelProto) else s
             for s, n in ((reference, "good"), (candidate, "bad"))]  # fmt: skip
    name = sides[0].inputs[0].name
    return find(compare_sides(*sides, [{name: image} for image in IMAGES]), **options)


# ---------------------------------------------------------------------------------------- a factor folded into a layer
class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.f, self.c, self.b = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), nn.Linear(144, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        f = torch.relu(self.f(x))
        return {"cls": self.c(f.mean((2, 3))), "box": self.b(f.flatten(1)) * 30}


def test_a_factor_that_was_folded_into_the_last_layer_is_no_fault() -> None:
    """The module's own result is nowhere in the graph; the output is the network's."""
    folded = fold_batchnorm.run(export_module(Heads(), (3, 8, 8))).model
    assert not [node for node in folded.graph.node if node.op_type == "Mul"]
    report = parted(module_side(resolve(Heads(), input_shape="3,8,8"), "net"), folded)
    assert report.first is None
    assert report.output_db > 110
    wrong = onnx.ModelProto.FromString(folded.SerializeToString())
    gemm = next(node for node in wrong.graph.node if node.name == "b/Gemm")
    gemm.attribute.add(name="alpha", f=1.01, type=onnx.AttributeProto.FLOAT)
    found = parted(module_side(resolve(Heads(), input_shape="3,8,8"), "net"), wrong)
    assert found.first is not None
    assert (found.first.node, found.first.module, found.first.at_fault) == ("b/Gemm", "b", True)
    assert 35 < found.output_db < 50


def test_an_output_is_compared_with_the_output_whatever_layer_makes_it() -> None:
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[1,4] x) => (float[1,4] {}) '
    w = RNG.standard_normal((4, 4)).astype(np.float32)
    apart = model(head.format("scaled") + "{ r = Relu (x) y = MatMul (r, w) scaled = Mul (y, k) }", w=w,
                  k=np.float32(30))  # fmt: skip
    folded = model(head.format("y") + "{ r = Relu (x) y = MatMul (r, w) }", w=w * np.float32(30))
    for pair in ((apart, folded), (folded, apart)):
        found = [p for p in correspond(*map(Parts, pair)) if p.candidate in Parts(pair[1]).outputs]
        assert [p.reference for p in found] == Parts(pair[0]).outputs


# ------------------------------------------------------------------------------------- a layout with a layer inside it
def with_modules(net: onnx.ModelProto, modules: str, absorbed: dict[int, str]) -> onnx.ModelProto:
    for i, (node, module) in enumerate(zip(net.graph.node, modules, strict=True)):
        set_meta(node, {MODULE_KEY: module, ABSORBED_KEY: absorbed.get(i, "")})
    return net


def test_a_relu_inside_another_layout_is_the_modules_and_not_the_convolutions() -> None:
    """What brings the layout back stands behind the ReLU, though it belongs to the convolution's module."""
    text = '<ir_version: 9, opset_import: ["" : 20]> g (float[1,3,4,4] x) => (float[1,3,4,4] y) '
    body = "{ t = Transpose <perm = [0, 2, 3, 1]> (x) m = MatMul (t, w) r = Relu (m) q = QuantizeLinear (r, s) "
    back = "b = Transpose <perm = [0, 3, 1, 2]> (q) d = DequantizeLinear (b, s) y = Neg (d) }"
    net = model(text + body + back, w=np.eye(3, dtype=np.float32), s=np.float32(0.1))
    calls = [Call(path, 0, kind, (1, 3, 4, 4), bool(path)) for path, kind in (("0", "Conv2d"), ("1", "ReLU"),
             ("2", "Neg"), ("", "Net"))]  # fmt: skip
    assert correspond_calls(calls, Parts(with_modules(net, "0010002", {}))) == {"0": "m", "1": "d", "": "y"}
    flat = model(text.replace("[1,3,4,4] y", "[1,48] y") + "{ r = Relu (x) f = Flatten (r) y = Neg (f) }")
    calls = [Call("f", 0, "Flatten", (1, 48), True), Call("r", 0, "ReLU", (1, 3, 4, 4), True), *calls[2:]]
    found = correspond_calls(calls, Parts(with_modules(flat, "rf2", {})))
    assert found == {"r": "r", "f": "f", "": "y"}, "a module that only moves numbers is one all the same"


def test_a_batchnorm_that_only_the_grid_behind_it_does_not_know() -> None:
    """Two read the integers, so that their DequantizeLinear is a layer by itself; it carries the BatchNorm's result."""
    text = '<ir_version: 9, opset_import: ["" : 20]> g (float[1,4] x) => (float[1,4] y) '
    body = "{ m = MatMul (x, w) q = QuantizeLinear (m, s) d = DequantizeLinear (q, s) e = DequantizeLinear (q, s) "
    net = model(text + body + "y = Add (d, e) }", w=np.eye(4, dtype=np.float32), s=np.float32(0.1))
    calls = [Call("a", 0, "Linear", (1, 4), True), Call("b", 0, "BatchNorm1d", (1, 4), True),
             Call("", 0, "Net", (1, 4), False)]  # fmt: skip
    found = correspond_calls(calls, Parts(with_modules(net, "aaaac", {0: "b/BatchNormalization"})))
    assert found == {"b": "e", "": "y"}


# ----------------------------------------------------------------------------- tensors that hold the same otherwise
TEXT = """<ir_version: 9, opset_import: ["" : 20]> g (float[1,3,8,8] x) => (float[1,5,2,2] y) {
    c1 = Conv (x, w1, b1) r1 = Relu (c1) c2 = Conv (r1, w2) r2 = Relu (c2) y = Conv (r2, w3)
}"""
SHAPES = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (4, 6, 3, 3), "w3": (5, 4, 3, 3)}
WEIGHTS = {name: (RNG.standard_normal(shape) * 0.4).astype(np.float32) for name, shape in SHAPES.items()}
ORDER = [3, 5, 0, 1, 2, 4]


def with_weights(**changed: np.ndarray) -> onnx.ModelProto:
    return model(TEXT, **(WEIGHTS | changed))


def moved(**changed: np.ndarray) -> onnx.ModelProto:
    """The same function with the channels of c1 in another order."""
    w = WEIGHTS
    return with_weights(**({"w1": w["w1"][ORDER], "b1": w["b1"][ORDER], "w2": w["w2"][:, ORDER]} | changed))


def quantized(net: onnx.ModelProto) -> onnx.ModelProto:
    return quantize_model(net, [{"x": image} for image in IMAGES], QuantRecipe()).model


def test_channels_in_another_order_are_no_fault() -> None:
    """What follows is right, and would be wrong with the reference's tensor."""
    report = parted(with_weights(), quantized(moved()))
    assert report.first is None, report.verdict
    assert report.output_db > 20
    assert report.notes[0].startswith("Conv node Conv_c1 is compared no more: what follows it is right, and wrong with")


def test_channels_in_another_order_that_nothing_puts_back_are_a_fault() -> None:
    report = parted(with_weights(), quantized(moved(w2=WEIGHTS["w2"])))
    assert report.first is not None
    assert (report.first.node, report.first.at_fault) == ("Conv_c1", True)
    assert not report.notes


@pytest.mark.parametrize("int8", [False, True])
def test_a_fault_behind_channels_in_another_order_is_found_where_it_is(int8: bool) -> None:
    candidate = moved(w3=WEIGHTS["w3"][::-1])
    report = parted(with_weights(), quantized(candidate) if int8 else candidate)
    assert report.first is not None
    assert (report.first.node, report.first.at_fault) == ("Conv_y", True)


def test_a_fault_that_what_follows_hides_stays_a_fault() -> None:
    """The right tensor in its place does no harm behind it: one output sees the fault, the other is right anyhow."""
    text = '<ir_version: 9, opset_import: ["" : 20]> g (float[1,3,8,8] x) => (float[1,3,8,8] y, float[1,3,8,8] z) '
    one, other = (
        model(text + "{ a = Mul (x, f) y = Neg (a) s = Clip (a, low, high) z = Add (s, x) }", f=np.float32(f),
              low=np.float32(0), high=np.float32(1e-9))
        for f in (1, 3)
    )  # fmt: skip
    report = parted(one, other)
    assert report.first is not None
    assert (report.first.node, report.first.at_fault) == ("Mul_a", True)
