"""Layers that stay float among int8 ones run in float and compute what the file says; oracle: the kernels that ran."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from exactly import exactly
from exporters.graph import Graph
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.quantization.stay_float import stay_float
from runtimes.census import census
from runtimes.session import open_session
from small_nets import model

HEAD = '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] y) '
CONV = "Conv <kernel_shape: ints = [3, 3], pads: ints = [1, 1, 1, 1]>"


def weights(*names: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.1, (16, 16, 3, 3)).astype(np.float32) for name in names}


def three(behind: str) -> onnx.ModelProto:
    """Three convolutions; `behind` is what stands behind the middle one, from c to d."""
    ends = {"low": np.float32(0), "high": np.float32(0.5)}
    body = f"{{ [first] a = {CONV} (x, u) [middle] c = {CONV} (a, v) {behind} [last] y = {CONV} (d, w) }}"
    return model(HEAD + body, **weights("u", "v", "w"), **ends)


def feeds(n: int) -> list[dict[str, np.ndarray]]:
    return [{"x": np.random.default_rng(i).normal(size=(1, 16, 8, 8)).astype(np.float32)} for i in range(n)]


@pytest.mark.parametrize(
    "behind",
    [
        "d = Identity (c)",  # read by Quantize at once
        "d = Relu (c)",  # the grid's zero point does its work
        "d = Clip (c, low, high)",  # so do both ends
    ],
)
def test_a_layer_kept_in_float_runs_in_float(behind: str) -> None:
    made = quantize_model(three(behind), feeds(4), QuantRecipe(exclude=("middle",)))
    names = {node.name for node in made.model.graph.node if node.op_type == "Conv"}
    assert names == {"first", "middle", "last"}
    ran = {kernel.op: kernel.count for kernel in census(made.model, feeds(1)[0])}
    assert ran["QLinearConv"] == 2
    assert sum(ran.get(op, 0) for op in ("Conv", "FusedConv")) == 1


def test_without_the_guard_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day on which this fails, ONNX Runtime leaves float layers alone and the guard can go."""
    monkeypatch.setattr("exporters.quantization.qdq.stay_float", lambda graph: 0)
    made = quantize_model(three("d = Relu (c)"), feeds(4), QuantRecipe(exclude=("middle",)))
    ran = {kernel.op: kernel.count for kernel in census(made.model, feeds(1)[0])}
    assert ran["QLinearConv"] == 3


def test_the_kernels_compute_what_the_file_says() -> None:
    made = quantize_model(three("d = Relu (c)"), feeds(4), QuantRecipe(exclude=("middle",)))
    graph = exactly(made.model)
    outputs = [open_session(graph, optimize=optimize)(feeds(9)[8])["y"] for optimize in (True, False)]
    step = np.abs(outputs[1]).max() / 128
    assert np.abs(outputs[0] - outputs[1]).max() <= 1.01 * step  # a value between two grid points may go either way


def test_only_layers_in_danger_get_it() -> None:
    """Not int8 ones, not those that float ones read, not those at the ends."""
    all_int8 = quantize_model(three("d = Relu (c)"), feeds(2), QuantRecipe())
    for excluded in (("first",), ("last",), ("first", "middle", "last")):
        some = quantize_model(three("d = Relu (c)"), feeds(2), QuantRecipe(exclude=excluded))
        assert "LeakyRelu" not in {n.op_type for n in some.model.graph.node}
    assert "LeakyRelu" not in {n.op_type for n in all_int8.model.graph.node}
    guarded = quantize_model(three("d = Relu (c)"), feeds(2), QuantRecipe(exclude=("middle",))).model
    assert [n.name for n in guarded.graph.node if n.op_type == "LeakyRelu"] == ["middle/stays_float"]
    assert stay_float(Graph(guarded)) == 0  # a second time nothing is left to do


def resized(coordinates: str) -> onnx.ModelProto:
    """Two convolutions with bilinear upsampling between them."""
    head = HEAD.replace("8, 8] y", "16, 16] y").replace("=> (", "=> (float[N, 16, 16, 16] r, ")
    resize = f'[up] r = Resize <mode="linear", coordinate_transformation_mode="{coordinates}"> (b, , s)'
    body = f"{{ [first] a = {CONV} (x, u) b = Relu (a) {resize} [last] y = {CONV} (r, w) }}"
    made = model(head + body, **weights("u", "w"), s=np.array([1, 1, 2, 2], np.float32))
    made.graph.output.pop(0)  # the tensor is an output only so that its type is written here
    return made


@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric"])
def test_interpolation_runs_in_float_and_rounds(coordinates: str) -> None:
    """Also where every pixel is met (asymmetric): the grids on both sides are one, and ONNX Runtime might drop both."""
    original = resized(coordinates)
    made = quantize_model(original, feeds(4), QuantRecipe()).model
    for graph in (original, made):
        graph.graph.output.append(onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, None))
    values = [open_session(graph)(feeds(9)[8])["r"] for graph in (original, exactly(made))]
    step = values[0].max() / 255
    assert abs((values[1] - values[0]).mean()) < 0.1 * step  # the integer kernel is 0.2 (asymmetric) to 0.5 steps low
