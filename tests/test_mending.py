"""exporters/mending.py: what onnx's checker refuses and ONNX Runtime runs is read; what is wrong stays refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn import api
from exporters.load import load_model
from exporters.mending import put_in_order
from runtimes.base import BadInput
from runtimes.session import open_session
from small_nets import conv_net, save

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


def backwards(model: onnx.ModelProto) -> None:
    nodes = [*model.graph.node][::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def without_shape(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.ClearField("shape")


def of_another_size(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 11


def of_stale_sizes(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [1, 17, 8, 8]))


def of_version_3(model: onnx.ModelProto) -> None:
    """Whose weights are not listed among the inputs, as that version demands."""
    model.ir_version = 3


@pytest.mark.parametrize("spoil", [backwards, without_shape, of_another_size, of_stale_sizes, of_version_3])
def test_a_file_that_runs_is_read(spoil: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    good = conv_net()
    spoiled = onnx.ModelProto()
    spoiled.CopyFrom(good)
    spoil(spoiled)
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        onnx.checker.check_model(spoiled, full_check=True)
    path = save(spoiled, tmp_path / "m.onnx")
    theirs = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]
    model = load_model(path)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(open_session(model)({"x": X})["y"], theirs)
    assert [dim.dim_value or dim.dim_param for dim in model.graph.output[0].type.tensor_type.shape.dim] == ["N", 10]
    assert api.inspect(path).params == api.inspect(save(good, tmp_path / "good.onnx")).params
    api.fold(path, tmp_path / "folded.onnx")


def test_a_good_file_is_not_touched(tmp_path: Path) -> None:
    model = conv_net()
    assert load_model(save(model, tmp_path / "m.onnx")) == model


@given(st.permutations(range(6)))
def test_any_order_is_put_right_and_no_other_is_changed(order: list[int]) -> None:
    good = conv_net()
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(good)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(good.graph.node[i] for i in order)
    put_in_order(shuffled)
    assert shuffled == good  # a chain has one order


def test_what_a_body_reads_comes_before_it() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1] x, bool c) => (float[1] y) {
        y = If (c) <then_branch = t () => (float[1] a) { a = Add (z, x) },
                    else_branch = e () => (float[1] b) { b = Neg (x) }>
        z = Relu (x)
    }"""
    model = onnx.parser.parse_model(text)
    put_in_order(model)
    assert [node.op_type for node in model.graph.node] == ["Relu", "If"]
    onnx.checker.check_model(model, full_check=True)


def test_what_goes_round_or_is_made_twice_stays_as_it_is() -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y)'
    for body in ("{ y = Add(x, z) z = Relu(y) }", "{ y = Relu(z) z = Neg(x) z = Abs(x) }"):
        model = onnx.parser.parse_model(f"{head} {body}")
        before = model.SerializeToString()
        put_in_order(model)
        assert model.SerializeToString() == before


def test_what_cannot_be_mended_is_refused(tmp_path: Path) -> None:
    model = conv_net()
    model.graph.node[0].op_type = "Kon"
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(BadInput, match="is not a valid ONNX model"):
        load_model(save(model, tmp_path / "m.onnx"))
    model = conv_net()
    model.ir_version = 0
    with pytest.raises(BadInput, match="IR version 0"):
        load_model(save(model, tmp_path / "m.onnx"))
