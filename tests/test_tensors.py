"""Sequences, maps and optionals among inputs and outputs: one line that names them, and what can do without goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgecnn.cli import main
from exporters.load import check_walk
from exporters.tensors import require_tensors
from runtimes.base import BadInput
from small_nets import save

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "C"])
TENSOR = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", "C"])
SEQUENCE = helper.make_sequence_type_proto(TENSOR)
WAY = "not a tensor; cut it off (onnx.utils.extract_model)"


def graph(
    nodes: list[onnx.NodeProto], given: onnx.ValueInfoProto, answered: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph(nodes, "g", [given], answered), opset_imports=sets, ir_version=9)


def zipped() -> onnx.ModelProto:
    """A softmax whose answers are a map from class to probability, as skl2onnx writes them."""
    made = onnx.TypeProto()
    made.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    made.sequence_type.elem_type.map_type.value_type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    nodes = [
        helper.make_node("Softmax", ["x"], ["y"]),
        helper.make_node("ZipMap", ["y"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]),
    ]
    return graph(nodes, X, [Y, helper.make_value_info("p", made)])


def split() -> onnx.ModelProto:
    return graph([helper.make_node("SplitToSequence", ["x"], ["s"])], X, [helper.make_value_info("s", SEQUENCE)])


def joined() -> onnx.ModelProto:
    node = helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)
    return graph([node], helper.make_value_info("s", SEQUENCE), [Y])


def perhaps() -> onnx.ModelProto:
    made = helper.make_optional_type_proto(TENSOR)
    return graph([helper.make_node("Optional", ["x"], ["o"])], X, [helper.make_value_info("o", made)])


WORDS = [
    (zipped, f"its output p is a sequence, {WAY.replace('cut', 'convert the model with zipmap=False, or cut')}"),
    (split, f"its output s is a sequence, {WAY}"),
    (joined, f"its input s is a sequence, {WAY}"),
    (perhaps, f"its output o is an optional, {WAY}"),
]


@pytest.mark.parametrize(("made", "words"), WORDS)
def test_what_is_no_tensor_is_named(made: Callable[[], onnx.ModelProto], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        require_tensors(made(), "net.onnx")
    assert str(caught.value) == f"net.onnx: {words}"
    check_walk(made(), "net.onnx")


@pytest.mark.parametrize(
    "command",
    [
        "simplify {} -o out.onnx",
        "fold {} -o out.onnx",
        "half {} -o out.onnx",
        "quantize {} -o out.onnx --calib random",
        "check {} {}",
        "diff {} {}",
    ],
)
@pytest.mark.parametrize(("made", "words"), [WORDS[0], WORDS[2]])
def test_each_command_says_the_same(
    command: str, made: Callable[[], onnx.ModelProto], words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    save(made(), tmp_path / "net.onnx")
    assert main(command.format("net.onnx", "net.onnx").split()) == 2
    assert capsys.readouterr().err == f"error: net.onnx: {words}\n"
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("made", [zipped, split, joined, perhaps])
def test_layers_are_counted_all_the_same(
    made: Callable[[], onnx.ModelProto], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(made(), tmp_path / "net.onnx")
    assert main(["inspect", str(tmp_path / "net.onnx")]) == 0
    assert "MACs" in capsys.readouterr().out
