"""int8 for TensorRT: what is written passes the check, what the check is for is found, and the integers are right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgecnn.choosing.quantizing import quantize
from edgecnn.cli import main
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.targets import targets_int8
from exporters.targets.targets_int8 import TARGETS
from exporters.targets.tensorrt import quantize_tensorrt, symmetric
from exporters.targets.tensorrt_check import check_tensorrt
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from runtimes.base import BadInput, CheckFailed
from runtimes.parity import compare
from runtimes.session import open_session
from small_nets import conv_net, save

FEEDS = [{"x": np.random.default_rng(i).standard_normal((1, 3, 8, 8)).astype(np.float32)} for i in range(4)]
RESIDUAL = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
    a = Conv(x, w)
    r = Relu(a)
    b = Conv(r, v)
    s = Add(b, r)
    t = Relu(s)
    p = MaxPool <kernel_shape = [1, 1]> (t)
    y = Conv(p, u)
}"""


def residual() -> onnx.ModelProto:
    return parse(RESIDUAL, w=(4, 3, 1, 1), v=(4, 4, 1, 1), u=(4, 4, 1, 1))


def made(model: onnx.ModelProto, **recipe: object) -> onnx.ModelProto:
    result = quantize_tensorrt(model, FEEDS, QuantRecipe(**recipe)).model  # type: ignore[arg-type]
    onnx.checker.check_model(result, full_check=True)
    return result


def problems(model: onnx.ModelProto) -> list[str]:
    return [str(finding) for finding in check_tensorrt(model)]


def named(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


@pytest.mark.parametrize("per_channel", [True, False])
def test_what_is_written_passes_the_check_and_computes_the_same(per_channel: bool) -> None:
    model = residual()
    result = made(model, per_channel=per_channel)
    assert problems(result) == []
    assert compare(open_session(model), open_session(result), FEEDS).snr_db > 30


def test_weights_and_activations_are_symmetric_int8_and_biases_float() -> None:
    result = made(parse(CONV_RELU_CONV, **WEIGHTS))
    stored = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
    zeros = [stored[node.input[2]] for node in result.graph.node if node.op_type.endswith("quantizeLinear")]
    zeros += [stored[node.input[2]] for node in result.graph.node if node.op_type == "QuantizeLinear"]
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert stored["b1"].dtype == np.float32
    weight = stored["w1_int8"]
    assert weight.dtype == np.int8
    assert np.abs(weight).max() == 127
    scale = stored[named(result, "w1/DequantizeLinear").input[1]]
    original = next(
        numpy_helper.to_array(t) for t in parse(CONV_RELU_CONV, **WEIGHTS).graph.initializer if t.name == "w1"
    )
    assert np.allclose(scale, np.abs(original).max(axis=(1, 2, 3)) / 127)
    assert np.abs(weight * scale[:, None, None, None] - original).max() <= scale.max() * 0.5001
    assert named(result, "w1/DequantizeLinear").attribute[0].i == 0


def test_the_grid_holds_the_larger_end() -> None:
    for low, high in ((-2.54, 1.0), (-1.0, 2.54)):
        assert float(symmetric(low, high).scale) == pytest.approx(0.02)
    assert float(symmetric(0.0, 0.0).scale) == 1.0


def test_the_shortcut_of_a_sum_comes_through_the_pair_that_the_convolution_reads() -> None:
    result = made(residual())
    maker = {name: node for node in result.graph.node for name in node.output}
    add = named(result, "s")
    assert maker[add.input[0]].op_type == "Conv"
    assert maker[add.input[1]].name == "r/DequantizeLinear"
    assert named(result, "b").input[0] == add.input[1]
    assert [n.op_type for n in result.graph.node].count("QuantizeLinear") == 3  # x, r, p


def test_exclusions_and_reasons() -> None:
    result = quantize_tensorrt(residual(), FEEDS, QuantRecipe(exclude=("b",)))
    assert dict(result.float_nodes)["b"] == "excluded by b"
    assert "TensorRT decides" in dict(result.float_nodes)["r"]
    assert result.int8_nodes == 2
    assert problems(result.model) == []


def test_onnx_runtimes_own_layout_for_the_cpu_is_refused() -> None:
    """The graph that is fast on a CPU: uint8 activations, int32 biases."""
    found = problems(quantize_model(conv_without_batchnorm(), FEEDS, QuantRecipe()).model)
    assert any("its integers are uint8; only int8 is taken" in text for text in found)
    assert any("it dequantizes int32, a bias; biases stay float" in text for text in found)


def test_onnx_runtimes_quantizer_with_tensorrts_settings_passes(tmp_path: Path) -> None:
    """An oracle that we did not write: its documented recipe for this provider."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(FEEDS)

        def get_next(self):
            return next(self.left, None)

    source, target = save(conv_without_batchnorm(), tmp_path / "f.onnx"), tmp_path / "q.onnx"
    settings = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    for kind, passes in ((QuantType.QInt8, True), (QuantType.QUInt8, False)):
        quantize_static(source, target, Reader(), per_channel=True, activation_type=kind, weight_type=QuantType.QInt8,
                        extra_options=settings)  # fmt: skip
        assert (problems(onnx.load(target)) == []) is passes


def conv_without_batchnorm() -> onnx.ModelProto:
    return parse(CONV_RELU_CONV, **WEIGHTS)


def set_initializer(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def test_each_rule_is_found_when_it_is_broken() -> None:
    def zero_point(model: onnx.ModelProto) -> None:
        set_initializer(model, "x_zero_point", np.array(3, np.int8))

    def no_zero_point(model: onnx.ModelProto) -> None:
        node = named(model, "x/QuantizeLinear")
        del node.input[2]

    def negative_scale(model: onnx.ModelProto) -> None:
        set_initializer(model, "x_scale", np.array(-1, np.float32))

    def many_scales(model: onnx.ModelProto) -> None:
        set_initializer(model, "x_scale", np.ones(3, np.float32))

    def old_opset(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 12

    def other_grid(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(9, np.float32), "other"))
        named(model, "x/DequantizeLinear").input[1] = "other"

    def reader(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Relu", ["x_quantized"], ["z"], name="on_integers"))

    def float_weight(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "plain"))
        named(model, "a").input[1] = "plain"

    def wrong_axis(model: onnx.ModelProto) -> None:
        named(model, "v/DequantizeLinear").attribute[0].i = 1

    def foreign(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("ConvInteger", ["x_quantized"], ["z"], name="integer"))

    def open_scale(model: onnx.ModelProto) -> None:
        named(model, "x/QuantizeLinear").input[1] = "nowhere"

    broken = {
        zero_point: "its zero point is 3; only 0 is taken",
        no_zero_point: "it has no zero point, which stands for uint8",
        negative_scale: "its scale is not a positive number",
        many_scales: "an activation has 3 scales; only one is taken",
        old_opset: "scales per channel need operator set 13, and this is 12",
        other_grid: "x/DequantizeLinear reads its integers on another grid",
        reader: "Relu on_integers reads its integers; only DequantizeLinear may",
        float_weight: "its input alone is quantized; both or neither",
        wrong_axis: "its weights are scaled along axis 1, not along its output channels (0)",
        foreign: "integer: ConvInteger is an integer operator of another runtime",
        open_scale: "its scale is not a constant",
    }
    for break_it, words in broken.items():
        model = made(residual())
        break_it(model)
        assert any(words in text for text in problems(model)), (break_it.__name__, problems(model))


def test_an_unknown_target_is_refused_with_the_nearest(tmp_path: Path) -> None:
    source = save(conv_net(), tmp_path / "net.onnx")
    with pytest.raises(BadInput, match="tensorr: unknown target; did you mean tensorrt"):
        quantize(str(source), tmp_path / "q.onnx", "random:2", target="tensorr")
    with pytest.raises(BadInput, match="leave out --portable and --input"):
        quantize(str(source), tmp_path / "q.onnx", "random:2", target="tensorrt", portable=True)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_its_functions(name: str) -> None:
    assert callable(TARGETS[name].quantizer())
    assert callable(TARGETS[name].checker())


def test_the_command_writes_the_graph_with_the_plain_statement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = save(conv_net(), tmp_path / "net.onnx"), tmp_path / "out.onnx"
    words = ["quantize", str(source), "-o", str(out), "--calib", "random:8", "--target", "tensorrt", "--max-drop", "1"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["chosen"], document["speedup"], document["target"]) == ("int8", None, "tensorrt")
    assert document["int8_nodes"] == 2
    assert document["snr_db"] > 20
    assert problems(onnx.load(out)) == []
    assert json.loads({p.key: p.value for p in onnx.load(out).metadata_props}["edgecnn.recipe"])["bias"] == "float32"
    assert main([*words, "--force"]) == 0
    assert "checked statically and not raced" in " ".join(capsys.readouterr().out.split())


def test_over_the_budget_float_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = save(conv_net(), tmp_path / "net.onnx"), tmp_path / "out.onnx"
    report = quantize(str(source), out, "random:8", target="tensorrt", max_drop=0.0, exclude=())
    lossy = report.judged.drop > 0  # type: ignore[union-attr]
    assert report.chosen == ("float" if lossy else "int8")
    monkeypatch.setattr("edgecnn.choosing.judge.drop_of", lambda *_: (0.5, None))
    report = quantize(str(source), out, "random:8", target="tensorrt", max_drop=0.1, force=True)
    assert report.chosen == "float"
    assert "kept float" in report.verdict
    assert not any(node.op_type == "QuantizeLinear" for node in onnx.load(out).graph.node)


def test_a_graph_that_fails_the_check_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = targets_int8.Int8Target(
        "tensorrt", "exporters.quantization.quantize:quantize_model", TARGETS["tensorrt"].check, ""
    )
    monkeypatch.setitem(TARGETS, "tensorrt", target)
    source, out = save(conv_net(), tmp_path / "net.onnx"), tmp_path / "out.onnx"
    with pytest.raises(CheckFailed, match=r"not what tensorrt takes .* nothing was written"):
        quantize(str(source), out, "random:8", target="tensorrt")
    assert not out.exists()
