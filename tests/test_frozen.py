"""Weights among a graph's inputs: constant before IR version 4, as ONNX Runtime has it; defaults from then on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgecnn import api
from edgecnn.cli import main
from edgecnn.opened import lenient_model, read_model
from exporters import frozen
from exporters.graph import free_inputs
from exporters.load import load_model
from exporters.quantization.quantize import QuantRecipe, quantize_model
from runtimes.session import open_session
from small_nets import conv_net, save


def net(ir: int, opset: int = 8, listed: bool = True) -> onnx.ModelProto:
    """Conv, BatchNorm, ReLU, pool, fully connected; its weights are `listed` among the inputs, as IR 3 wants it."""
    made = conv_net(channels=16)
    made.ir_version, made.opset_import[0].version = ir, opset
    for tensor in made.graph.initializer if listed else ():
        made.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.checker.check_model(made, full_check=True)
    return made


def runtime_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("ir", [3, 4, 8])
def test_what_a_caller_may_override_is_what_onnx_runtime_lets_him(ir: int) -> None:
    model = net(ir)
    session = runtime_of(model)
    assert frozen.overridable(model) == [info.name for info in session.get_overridable_initializers()]
    assert bool(frozen.overridable(model)) == (ir >= 4)
    if ir < 4:
        feeds = {"x": np.zeros((1, 3, 8, 8), np.float32), "d": np.zeros(10, np.float32)}
        with pytest.raises(Exception, match="Invalid input name: d"):
            session.run(None, feeds)


@pytest.mark.parametrize("read", [load_model, lenient_model, lambda path: read_model(path)[0]])
@pytest.mark.parametrize("opset", [7, 8, 9])
def test_an_old_file_is_read_as_the_same_file_of_ir_4(
    read: Callable[[Path], onnx.ModelProto], opset: int, tmp_path: Path
) -> None:
    assert read(save(net(3, opset), tmp_path / "old.onnx")) == net(4, opset, listed=False)


def test_defaults_of_newer_files_stay_defaults(tmp_path: Path) -> None:
    path = save(net(4), tmp_path / "net.onnx")
    assert load_model(path) == lenient_model(path) == net(4)


def test_freezing_takes_the_defaults_and_nothing_else(tmp_path: Path) -> None:
    given = net(8)
    given.graph.initializer.add(name="lone", data_type=1, dims=[1], float_data=[1.0])
    before = given.SerializeToString()
    made = frozen.frozen(given)
    assert given.SerializeToString() == before
    assert [value.name for value in made.graph.input] == ["x"] == [value.name for value in free_inputs(given)]
    assert made.graph.initializer == given.graph.initializer
    assert made.ir_version == 8
    assert frozen.freeze(made) == []
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)}
    sides = [open_session(model, optimize=False)(feeds)["y"] for model in (given, made)]
    np.testing.assert_array_equal(*sides)


def test_layers_of_an_old_file_are_folded_and_become_int8(tmp_path: Path) -> None:
    path = save(net(3), tmp_path / "old.onnx")
    assert api.fold(path, tmp_path / "folded.onnx").folded == 1
    assert api.simplify(path, tmp_path / "simple.onnx").kept == ()
    feeds = [{"x": np.random.default_rng(i).standard_normal((1, 3, 8, 8), np.float32)} for i in range(4)]
    folded = load_model(tmp_path / "folded.onnx")
    assert folded.ir_version >= 4
    made = quantize_model(folded, feeds, QuantRecipe())
    assert made.float_nodes == ()
    assert made.int8_nodes == 4


def test_what_stays_because_it_may_be_overridden_names_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(net(8, 20), tmp_path / "net.onnx")
    kept = api.fold(path, tmp_path / "folded.onnx").kept
    assert [entry.reason.partition(";")[0] for entry in kept] == [
        f"the weight of Conv_c is {frozen.UNKNOWN}".partition(";")[0]
    ]
    assert frozen.REMEDY in frozen.UNKNOWN
    simple = api.simplify(path, tmp_path / "simple.onnx")
    assert [(entry.node, entry.reason) for entry in simple.kept] == [
        ("w", "and 7 more are inputs that a caller may override; --freeze makes them constant")
    ]
    assert frozen.overridable(onnx.load(tmp_path / "simple.onnx")) == frozen.overridable(net(8, 20))
    assert main(["simplify", str(path), "-o", str(tmp_path / "frozen.onnx"), "--freeze"]) == 0
    assert "; 8 inputs with a value became constant." in capsys.readouterr().out
    assert api.fold(tmp_path / "frozen.onnx", tmp_path / "done.onnx").folded == 1
    again = api.simplify(tmp_path / "frozen.onnx", tmp_path / "again.onnx", freeze=True)
    assert (again.frozen, again.words) == (0, "")


def test_one_default_is_spoken_of_as_one() -> None:
    assert frozen.why_kept(1) == "is an input that a caller may override; --freeze makes it constant"
