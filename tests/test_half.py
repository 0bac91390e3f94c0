"""float16 graphs: types are right by the checker, rounding by numpy, overflow and cancellation by hand."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from cuda_stand_in import require_gpu
from exporters.fp16 import half_types
from exporters.fp16.half import HALF_KEY, plan, write
from exporters.fp16.half_probe import convert, emulated
from exporters.graph import get_meta, label
from exporters.shape_inference import tensor_types
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from runtimes.base import BadInput
from runtimes.parity import compare
from runtimes.session import open_session

FEED = {"x": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)}


def converted(model: onnx.ModelProto, feed: dict[str, np.ndarray] = FEED, exclude: tuple[str, ...] = ()):
    """`model` in float16; valid by the full checker, and its argument untouched."""
    before = model.SerializeToString()
    result = convert(model, [feed], exclude, threads=1)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result.model, full_check=True)
    return result


def reasons(result) -> dict[str, str]:
    return dict(result.kept)


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def halves(model: onnx.ModelProto) -> set[str]:
    return {name for name, kind in tensor_types(model).items() if kind.elem_type == TensorProto.FLOAT16}


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray] = FEED) -> dict[str, np.ndarray]:
    return open_session(model, threads=1)(feed)


def set_weight(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def test_one_cast_at_each_border_and_none_within() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    result = converted(model)
    assert ops(result.model) == ["Cast", "Conv", "Relu", "Conv", "Cast"]
    assert [
        (v.name, v.type.tensor_type.elem_type) for v in (*result.model.graph.input, *result.model.graph.output)
    ] == [
        ("x", TensorProto.FLOAT),
        ("y", TensorProto.FLOAT),
    ]
    assert result.nodes == 3
    assert result.kept == ()
    assert {t.data_type for t in result.model.graph.initializer} == {TensorProto.FLOAT16}, "each weight once"
    assert compare(open_session(model), open_session(result.model), [FEED]).snr_db > 55


def test_nodes_without_a_name_are_measured_too() -> None:
    """The measuring graph holds every node twice, and ONNX Runtime wants the names that there are to differ."""
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    for node in model.graph.node:
        node.ClearField("name")
    assert converted(model).nodes == 3


def test_weights_are_rounded_once_to_nearest_and_the_small_ones_counted() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    weight = np.zeros((4, 3, 3, 3), np.float32)
    weight.flat[:4] = [1.0001, 3e-5, -1e-9, 65504.0]  # rounded; subnormal; lost; the largest there is
    set_weight(model, "w1", weight)
    result = write(model, plan(model))
    stored = next(numpy_helper.to_array(t) for t in result.model.graph.initializer if t.name == "w1_half")
    assert stored.dtype == np.float16
    assert np.array_equal(stored.ravel(), weight.ravel().astype(np.float16))
    assert (result.weights, result.subnormal, result.zeroed) == (256, 1, 1)


def test_a_weight_beyond_float16_is_never_clipped() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    weight = np.zeros((4, 4, 3, 3), np.float32)
    weight[1, 2, 0, 1] = -7e4  # one of them is enough, on either side
    set_weight(model, "w2", weight)
    result = converted(model, {"x": FEED["x"] * 1e-6})
    assert "a weight of 7e+04 is beyond float16 (65,504)" in reasons(result)["y"]
    assert next(numpy_helper.to_array(t).min() for t in result.model.graph.initializer if t.name == "w2") == -7e4


OVERFLOW = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
    a = Conv(x, w)
    big = Mul(a, scale)
    moved = Relu(big)
    back = Mul(moved, unscale)
    y = Conv(back, v)
}"""


def overflowing() -> onnx.ModelProto:
    model = parse(OVERFLOW, w=(4, 3, 1, 1), v=(4, 4, 1, 1), scale=(1,), unscale=(1,))
    set_weight(model, "scale", np.array([6e4]))
    set_weight(model, "unscale", np.array([1e-4]))
    return model


def test_what_leaves_the_range_stays_in_float32_with_its_number() -> None:
    result = converted(overflowing())
    assert set(reasons(result)) == {"big", "moved", "back"}
    assert "float16 ends at 65,504" in reasons(result)["big"]
    assert reasons(result)["back"] == "alone in float16 it is infinite or NaN: what it reads does not fit"


def test_a_network_that_would_overflow_comes_out_right() -> None:
    model = overflowing()
    result = converted(model)
    assert compare(open_session(model), open_session(emulated(result.model)), [FEED]).snr_db > 45


def test_the_emulation_shows_the_overflow_that_onnx_runtime_hides_on_a_cpu() -> None:
    model = overflowing()
    careless = write(model, plan(model)).model
    assert np.isfinite(run(careless)["y"]).all(), "the CPU provider rounds nowhere: nothing to see"
    assert not np.isfinite(run(emulated(careless))["y"]).all()


def test_headroom_for_images_that_were_not_seen() -> None:
    """A value at half of the range is not safe: another image may be four times as large."""
    model = parse("g (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv(x, w) }", w=(4, 3, 1, 1))
    set_weight(model, "w", np.ones((4, 3, 1, 1)))
    assert converted(model, {"x": np.full((1, 3, 8, 8), 5000, np.float32)}).kept == ()
    assert "reaches 3e+04" in reasons(converted(model, {"x": np.full((1, 3, 8, 8), 1e4, np.float32)}))["y"]


def test_headroom_for_what_is_read_in_float32() -> None:
    """Inputs of 40,000 fit, those of another image may not; what becomes of them here is small."""
    model = parse("g (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv(x, w) }", w=(4, 3, 1, 1))
    set_weight(model, "w", np.full((4, 3, 1, 1), 1e-3))
    assert converted(model, {"x": np.full((1, 3, 8, 8), 1e4, np.float32)}).kept == ()
    assert "reaches 4e+04" in reasons(converted(model, {"x": np.full((1, 3, 8, 8), 4e4, np.float32)}))["y"]


def test_every_output_is_measured() -> None:
    """The second part of a Split alone is beyond float16."""
    model = parse(
        """g (float[N,4,2,2] x) => (float[N,2,2,2] y, float[N,2,2,2] z) {
            m = Mul (x, k) a, b = Split <axis = 1, num_outputs = 2> (m) y = Relu (a) z = Sigmoid (b) }""",
        k=(1, 4, 1, 1),
    )
    set_weight(model, "k", np.array([1, 1, 1e5, 1e5]).reshape(1, 4, 1, 1))
    kept = reasons(converted(model, {"x": np.ones((1, 4, 2, 2), np.float32)}))
    assert "reaches 1e+05" in kept["a"]


def raising_by(number: float) -> onnx.ModelProto:
    """A convolution whose output is raised and lowered by `number`, and another one."""
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv(x, w)
        raised = Add(a, k)
        lowered = Sub(raised, k)
        y = Conv(lowered, v)
    }"""
    model = parse(text, w=(4, 3, 1, 1), v=(4, 4, 1, 1), k=(1,))
    set_weight(model, "k", np.array([number]))
    return model


def test_a_node_that_cancels_stays_in_float32() -> None:
    """(x + 1000) - 1000 leaves nothing of x in float16, although every value is well within range."""
    model = raising_by(1000.0)
    found = reasons(converted(model))
    assert "alone in float16 it is off by" in found["lowered"]
    assert "y" not in found


def test_how_far_a_node_is_off_is_the_root_mean_square_of_the_images() -> None:
    """By numpy: what is left of x when 48 is added, rounded to float16 and taken off again."""
    model = raising_by(48.0)
    weight = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "w")
    raised = np.einsum("nchw,ochw->nohw", FEED["x"], np.broadcast_to(weight, (4, 3, 8, 8))) + np.float32(48)
    error = np.linalg.norm(raised.astype(np.float16) - raised) / np.linalg.norm(raised - 48)
    assert 0.005 < error < 0.05
    assert reasons(converted(model)) == {"lowered": f"alone in float16 it is off by {error:.1%}, more than 0.5%"}


def test_a_node_that_is_zero_on_all_images_is_fine_unless_float16_makes_more_of_it() -> None:
    model = parse("g (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv(x, w) }", w=(4, 3, 1, 1))
    assert converted(model, {"x": np.zeros((1, 3, 8, 8), np.float32)}).kept == ()
    set_weight(model, "w", np.tile(np.float32([1, -1, -1]).reshape(1, 3, 1, 1), (4, 1, 1, 1)))
    feed = {"x": np.tile(np.float32([2049, 2048, 1]).reshape(1, 3, 1, 1), (1, 1, 8, 8))}  # 2049 is none of float16's
    assert not run(model, feed)["y"].any()
    assert set(reasons(converted(model, feed))) == {"y"}


def test_what_would_be_nan_stays_in_float32() -> None:
    """Infinity minus infinity, in the sums of the second convolution."""
    text = "g (float[N,3,8,8] x) => (float[N,4,8,8] y) { a = Conv(x, w) big = Mul(a, scale) y = Conv(big, v) }"
    model = parse(text, w=(4, 3, 1, 1), v=(4, 4, 1, 1), scale=(1,))
    set_weight(model, "scale", np.array([6e4]))
    set_weight(model, "v", np.tile(np.float32([1e-3, -1e-3]), 8).reshape(4, 4, 1, 1))
    assert reasons(converted(model))["y"] == "alone in float16 it is infinite or NaN: what it reads does not fit"


def test_casts_are_shared_by_their_readers() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] p, float[N,4,8,8] q) {
        a = Conv(x, w)
        p = Softmax <axis = 1> (a)
        q = LogSoftmax <axis = 1> (a)
        y = Conv(x, w)
    }"""
    result = converted(parse(text, w=(4, 3, 1, 1)))
    assert ops(result.model).count("Cast") == 3  # x once, a once, y once
    assert reasons(result)["p"] == "probabilities sum to 1 in float32 only"


def test_an_output_that_is_read_within_is_there_in_both_types() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] a, float[N,4,8,8] y) { a = Conv(x, w) y = Conv(a, v) }"""
    model = parse(text, w=(4, 3, 1, 1), v=(4, 4, 1, 1))
    result = converted(model)
    assert ops(result.model) == ["Cast", "Conv", "Cast", "Conv", "Cast"]
    assert compare(open_session(model), open_session(result.model), [FEED]).snr_db > 55


def test_a_body_keeps_its_types() -> None:
    text = """g (float[N,3,8,8] x, bool c) => (float[N,4,8,8] y) {
        a = Conv(x, w)
        b = If (c) <then_branch = t () => (float[N,4,8,8] r) { r = Relu(a) },
                    else_branch = e () => (float[N,4,8,8] s) { s = Neg(a) }>
        y = Conv(b, v)
    }"""
    model = parse(text, w=(4, 3, 1, 1), v=(4, 4, 1, 1))
    feed = {**FEED, "c": np.array(True)}
    result = converted(model, feed)
    assert reasons(result)["b"] == "the body of this If is not converted"
    assert compare(open_session(model), open_session(result.model), [feed]).snr_db > 55


def test_small_nodes_between_float32_do_not_pay_for_two_casts() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,3,8,8] y) {
        a = Softmax <axis = 1> (x)
        b = Relu(a)
        y = Softmax <axis = 1> (b)
    }"""
    result = converted(parse(text))
    assert ops(result.model) == ["Softmax", "Relu", "Softmax"]
    assert "no neighbour in float16" in reasons(result)["b"]


def test_as_many_inputs_and_outputs_as_there_are_compute_in_float16() -> None:
    """Concat and Split take any number; the CUDA kernel of a BatchNormalization wants all five in one type."""
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv(x, w)
        b = BatchNormalization(a, k, k, k, v)
        c = Concat <axis = 1> (a, b, a)
        d, e, f = Split <axis = 1, num_outputs = 3> (c)
        y = Sum(d, e, f, b)
    }"""
    model = parse(text, w=(4, 3, 1, 1), k=(4,), v=(4,))
    set_weight(model, "v", np.ones(4))
    result = converted(model)
    assert (result.nodes, result.kept) == (5, ())
    assert ops(result.model) == ["Cast", "Conv", "BatchNormalization", "Concat", "Split", "Sum", "Cast"]
    assert all(name in halves(result.model) for node in result.model.graph.node[1:6] for name in node.input)
    assert compare(open_session(model), open_session(result.model), [FEED]).snr_db > 50


def test_what_is_no_float_stays_as_it_is_and_is_not_counted() -> None:
    """Sizes, and the places where a pool found its maxima."""
    text = """g (float[N,3,8,8] x) => (float[N,4,16] y, int64[N,4,4,4] at, float[N,4,8,8] z) {
        a = Conv(x, w)
        m, at = MaxPool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (a)
        s = Shape <end = 2> (m)
        t = Concat <axis = 0> (s, rest)
        y = Reshape(m, t)
        z = Softmax <axis = 1> (a)
    }"""
    result = converted(parse(text.replace("{", "<int64[1] rest = {-1}> {", 1), w=(4, 3, 1, 1)))
    assert (result.nodes, set(reasons(result))) == (3, {"z"})
    got = run(result.model)
    assert (got["y"].shape, got["at"].dtype) == ((2, 4, 16), np.int64)


def test_an_operator_of_another_domain_is_not_the_one_we_know() -> None:
    model = parse(CONV_RELU_CONV.replace("float[N,4,8,8] y", "float[N,4,8,8] y, float[N,4,8,8] r"), **WEIGHTS)
    model.graph.node[1].domain = "theirs"
    model.opset_import.append(onnx.helper.make_opsetid("theirs", 1))
    assert plan(model).kept == {"r": "Relu is not converted to float16"}


def gelu_between() -> onnx.ModelProto:
    """onnx has no types for what comes behind ONNX Runtime's own Gelu."""
    text = CONV_RELU_CONV.replace("r = Relu(a)", "g = Neg(a)\n r = Relu(g)")
    model = parse(text, **WEIGHTS)
    model.graph.node[1].op_type, model.graph.node[1].domain = "Gelu", "com.microsoft"
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


def test_types_that_onnx_cannot_tell_are_asked_of_onnx_runtime() -> None:
    model = gelu_between()
    result = convert(model, [FEED], threads=1)
    assert reasons(result) == {label(model.graph.node[1]): "Gelu is not converted to float16"}
    assert ops(result.model) == ["Cast", "Conv", "Cast", "Gelu", "Cast", "Relu", "Conv", "Cast"]
    assert compare(open_session(model), open_session(result.model), [FEED]).worst_db > 40
    assert compare(open_session(model), open_session(emulated(result.model)), [FEED]).worst_db > 40


def test_what_nobody_knows_the_types_of_stays_in_float32_with_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BadInput("no such operator")

    monkeypatch.setattr(half_types, "open_session", refuse)
    result = write(gelu_between(), plan(gelu_between()))
    assert set(dict(result.kept).values()) >= {"the type of a tensor next to it is not known"}
    monkeypatch.undo()
    assert compare(open_session(gelu_between()), open_session(result.model), [FEED]).worst_db > 40


def test_sizes_of_a_resize_are_not_values() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,4,16,16] y) <float[4] s = {1, 1, 2, 2}> {
        a = Conv(x, w)
        y = Resize <mode = "nearest"> (a, , s)
    }"""
    result = converted(parse(text, w=(4, 3, 1, 1)))
    assert "s" in {t.name for t in result.model.graph.initializer if t.data_type == TensorProto.FLOAT}
    assert run(result.model)["y"].shape == (2, 4, 16, 16)


def test_a_pattern_excludes_by_name() -> None:
    result = converted(parse(CONV_RELU_CONV, **WEIGHTS), exclude=("a*",))
    assert reasons(result) == {"a": "excluded by a*"}
    assert halves(result.model) >= {"r"}


def test_a_node_without_a_name_is_excluded_by_what_it_makes() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    for node in model.graph.node:
        node.name = ""
    assert reasons(converted(model, exclude=("a",))) == {"a": "excluded by a"}


def test_a_second_conversion_changes_nothing() -> None:
    once = converted(overflowing())
    again = convert(once.model, [FEED])
    assert again.nodes == 0
    assert again.model == once.model
    assert json.loads(get_meta(once.model)[HALF_KEY]) == dict(once.kept)
    chosen = converted(parse(CONV_RELU_CONV, **WEIGHTS), exclude=("a",))
    assert convert(chosen.model, [FEED]).model == chosen.model, "what was excluded stays excluded"


def test_the_same_model_gives_the_same_bytes() -> None:
    first, second = (converted(overflowing()).model.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


DETECTOR = """g (float[1,3,8,8] x) => (float[1,16,4] boxes, int64[M,3] kept)
<int64 most = {4}, float iou = {0.5}, float low = {0.1}> {
    f = Conv(x, w)
    r = Reshape(f, shape)
    boxes = Mul(r, size)
    t = Transpose <perm = [0, 2, 1]> (r)
    s = Slice(t, start, end, axis)
    scores = Sigmoid(s)
    kept = NonMaxSuppression(boxes, scores, most, iou, low)
}"""


def test_a_detector_decodes_its_boxes_in_float32() -> None:
    model = parse_detector()
    result = converted(model, {"x": FEED["x"][:1]})
    found = reasons(result)
    assert "boxes are compared in float32" in found["kept"] or "decoded in float32" in found["kept"]
    assert {"r", "boxes", "t", "s", "scores"} <= set(found)
    assert "f" not in found
    feed = {"x": FEED["x"][:1]}
    wanted, got = run(model, feed), run(result.model, feed)
    assert np.array_equal(wanted["kept"], got["kept"])
    assert np.abs(wanted["boxes"] - got["boxes"]).max() < 0.02 * np.abs(wanted["boxes"]).max()


def parse_detector() -> onnx.ModelProto:
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 20]> ' + DETECTOR)
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((1, 3, 1, 1)).astype(np.float32), "size": np.full((1,), 300, np.float32),
        "shape": np.array([1, 16, 4]), "start": np.array([0]), "end": np.array([1]), "axis": np.array([1]),
    }  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.cuda
def test_on_the_gpu_float16_gives_what_the_emulation_does() -> None:
    require_gpu()
    model = overflowing()
    result = converted(model)
    there = open_session(result.model, "cuda:use_tf32=1", threads=1)
    assert compare(open_session(emulated(result.model)), there, [FEED]).snr_db > 50
    assert compare(open_session(model), there, [FEED]).snr_db > 40
