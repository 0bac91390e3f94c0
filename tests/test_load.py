"""exporters/load.py and external.py: damaged and hostile files answer with one line, good ones survive a round trip.

Files are made from text (onnx.parser) and damaged by hand; the oracle for external data is onnx's own reader and
writer.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from exporters import load
from exporters.load import check_walk, expanded_nodes, load_model, save_model
from runtimes.base import BadInput

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,8,8] x) => (float[N,4,6,6] y) {
    c = Conv (x, w)
    y = Relu (c)
}
"""


def network(channels: int = 4) -> onnx.ModelProto:
    model = parser.parse_model(NET.replace("[N,4,", f"[N,{channels},"))
    weight = np.random.default_rng(0).standard_normal((channels, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model


def write(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def refuse(path: Path, text: str) -> None:
    """`load_model(path)` must raise one safe line that starts with the file and says `text`."""
    with pytest.raises(BadInput) as caught:
        load_model(path)
    message = str(caught.value)
    assert text in message
    assert len(message) < 300
    assert message.isprintable()


# --------------------------------------------------------------------------------------------------------- the file
def test_good_model_comes_back_equal(tmp_path: Path) -> None:
    model = network()
    assert load_model(write(tmp_path / "m.onnx", model)) == model
    assert load_model(str(tmp_path / "m.onnx")) == model, "a path as text works too"


def test_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.onnx")
    try:
        save_model(network(), path)
    except (BadInput, OSError):
        pytest.skip("this file system refuses names that are not UTF-8")
    assert load_model(path) == network()
    path.write_bytes(b"x")
    refuse(path, "caf\\udce9.onnx")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    refuse(tmp_path / "missing.onnx", "no such file")
    refuse(tmp_path, "is a folder")
    (tmp_path / "empty.onnx").touch()
    refuse(tmp_path / "empty.onnx", "is empty")
    os.mkfifo(tmp_path / "pipe.onnx")
    refuse(tmp_path / "pipe.onnx", "is a pipe")
    refuse(tmp_path / "a\0b.onnx", "cannot be read")


whole = network().SerializeToString()
DAMAGED = {
    "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "zip": b"PK\x03\x04" + bytes(60),
    "truncated": whole[: len(whole) // 2],
    "last byte missing": whole[:-1],
    "overlong length": b"\x08\x08\x3a\xff\xff\xff\xff\x07",
    "cut between two fields": onnx.ModelProto(ir_version=8, producer_name="p").SerializeToString(),
    "two models glued": whole + whole,
    "nested 2000 deep": b"\x3b" * 2000,
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    refuse(path, "bad.onnx: ")


# -------------------------------------------------------------------------------------------------------- the graph
HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
GRAPHS = {  # text of a model -> what must be said about it
    "future IR": (NET.replace("ir_version: 8", "ir_version: 9999").replace("(x, w)", "(x, x)"), "IR version 9999"),
    "opset 0": (NET.replace(": 17", ": 0").replace("(x, w)", "(x, x)"), "operator set 0"),
    "opset 999": (NET.replace(": 17", ": 999").replace("(x, w)", "(x, x)"), "operator set 999"),
    "no nodes": (HEAD + "g (float[1] x) => (float[1] x) { }", "no graph with nodes"),
    "unknown operator": (HEAD + "g (float[1] x) => (float[1] y) { y = Frobnicate(x) }", "Frobnicate"),
    "ghost input": (HEAD + "g (float[1] x) => (float[1] y) { y = Add(x, ghost) }", "ghost"),
    "written twice": (HEAD + "g (float[1] x) => (float[1] y) { y = Relu(x) y = Abs(x) }", "single static assignment"),
    "cycle": (HEAD + "g (float[1] x) => (float[1] y) { y = Add(x, z) z = Relu(y) }", "topologically sorted"),
    "domain not imported": (HEAD + "g (float[1] x) => (float[1] y) { y = my.own.Op(x) }", "my.own"),
    "shapes disagree": (HEAD + "g (float[2,3] a, float[4,5] b) => (float[2,5] y) { y = MatMul(a, b) }", "MatMul"),
    "stride 0": (
        HEAD + "g (float[1,1,4] x) => (float[1,1,4] y) { y = MaxPool<kernel_shape=[1],strides=[0]>(x) }",
        "strides",
    ),
}


@pytest.mark.parametrize(("text", "said"), GRAPHS.values(), ids=GRAPHS)
def test_graphs_that_are_refused(tmp_path: Path, text: str, said: str) -> None:
    refuse(write(tmp_path / "bad.onnx", parser.parse_model(text)), said)


def test_graph_without_outputs_or_operator_set(tmp_path: Path) -> None:
    model = network()
    del model.graph.output[:]
    refuse(write(tmp_path / "a.onnx", model), "outputs")
    model = network()
    del model.opset_import[:]
    refuse(write(tmp_path / "b.onnx", model), "operator set")


def test_convolutions_that_no_input_fits(tmp_path: Path) -> None:
    """The full checker accepts both; counting their multiply-adds would divide by zero, or give rubbish."""
    grouped = network()
    grouped.graph.node[0].attribute.append(helper.make_attribute("group", 0))
    onnx.checker.check_model(grouped, full_check=True)
    refuse(write(tmp_path / "m.onnx", grouped), "c: a convolution with 0 groups; export it again")
    flat = network()
    flat.graph.initializer[0].dims[:] = [4, 27]
    flat.graph.node[0].attribute.append(helper.make_attribute("kernel_shape", [3, 3]))
    onnx.checker.check_model(flat, full_check=True)
    refuse(write(tmp_path / "m.onnx", flat), "a convolution with a weight of rank 2, not (O, I, k, ...)")


def unsorted(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


WALKS = {
    "made twice": (lambda m: m.graph.node.append(m.graph.node[0]), "makes a tensor that another node makes"),
    "unsorted": (unsorted, "reads c, which is made after it"),
    "cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "y"), "reads y, which is made after it"),
    "own output": (lambda m: m.graph.node[1].input.__setitem__(0, "y"), "reads y, which is made after it"),
    "makes nothing": (lambda m: m.graph.node[0].output.__delitem__(0), "Conv makes nothing"),
    "no type": (lambda m: m.graph.input[0].ClearField("type"), "its input x has no type"),
}


@pytest.mark.parametrize(("damage", "said"), WALKS.values(), ids=WALKS)
def test_graphs_that_cannot_be_walked(damage: Callable[[onnx.ModelProto], None], said: str) -> None:
    model = network()
    check_walk(model, "m.onnx")
    damage(model)
    with pytest.raises(BadInput, match=rf"^m\.onnx: .*{said}.*; export it again$"):
        check_walk(model, "m.onnx")


def test_a_node_name_that_is_not_utf8_cannot_be_walked() -> None:
    model = network()
    model.graph.node[0].name = "wrong"
    broken = onnx.ModelProto.FromString(model.SerializeToString().replace(b"wrong", b"wr\xffng"))
    with pytest.raises(BadInput, match=r"^m\.onnx: node 0 \('Conv'\) has a name that is not UTF-8"):
        check_walk(broken, "m.onnx")


def test_tensors_that_lie_about_their_size(tmp_path: Path) -> None:
    model = network()
    model.graph.initializer[0].dims[:] = [2**40, 2**40]
    refuse(write(tmp_path / "a.onnx", model), "overflow")
    model.graph.initializer[0].dims[:] = [4, 3, 3, 4]
    refuse(write(tmp_path / "b.onnx", model), "w")
    model.graph.initializer[0].data_type = 9999
    refuse(write(tmp_path / "c.onnx", model), "9999")


def test_names_with_escape_codes_do_not_reach_the_terminal(tmp_path: Path) -> None:
    model = network()
    model.graph.node[0].name = "\x1b[31m\n\x07" * 50
    model.graph.node[0].op_type = "\x1b[2JConv"
    refuse(write(tmp_path / "bad\n.onnx", model), "\\n")


# -------------------------------------------------------------------------------------------------------- functions
def laughs(count: int) -> onnx.ModelProto:
    """`count` functions, each calling the one before twice: 2^count nodes from a few kB."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = [helper.make_function("f", "f0", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], opsets)]
    for i in range(1, count):
        nodes = [helper.make_node(f"f{i - 1}", [a], [b], domain="f") for a, b in (("x", "t"), ("t", "y"))]
        functions.append(helper.make_function("f", f"f{i}", ["x"], ["y"], nodes, opsets))
    value = helper.make_tensor_value_info
    nodes = [helper.make_node(f"f{count - 1}", ["x"], ["y"], domain="f")]
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])])
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_expanded_nodes_counts_calls_and_bodies(count: int) -> None:
    calls, leaves = 2**count - 1, 2 ** (count - 1)
    assert expanded_nodes(laughs(count)) == calls + leaves


def test_billion_laughs_is_refused_before_the_checker_hangs(tmp_path: Path) -> None:
    refuse(write(tmp_path / "bomb.onnx", laughs(40)), "grows to 1,649,267,441,663 nodes")
    refuse(write(tmp_path / "bigger.onnx", laughs(400)), "10^15 or more")


def test_function_that_calls_itself(tmp_path: Path) -> None:
    model = laughs(3)
    model.functions[0].node[0].op_type, model.functions[0].node[0].domain = "f2", "f"
    refuse(write(tmp_path / "circle.onnx", model), "in a circle")


def test_small_functions_are_fine(tmp_path: Path) -> None:
    assert load_model(write(tmp_path / "ok.onnx", laughs(4))) == laughs(4)


# ---------------------------------------------------------------------------------------------------- external data
def external(tmp_path: Path, **entries: str) -> Path:
    """A model in tmp_path/model whose weight is in w.bin, its external_data entries replaced by `entries`."""
    folder = tmp_path / "model"
    folder.mkdir()
    model = network()
    (folder / "w.bin").write_bytes(model.graph.initializer[0].raw_data)
    (tmp_path / "secret.bin").write_bytes(b"s" * 432)
    point(model.graph.initializer[0], **entries)
    return write(folder / "m.onnx", model)


def point(tensor: TensorProto, **entries: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "w.bin"} | entries).items():
        tensor.external_data.add(key=key, value=value)


def test_external_data_is_read(tmp_path: Path) -> None:
    model = load_model(external(tmp_path, offset="0", length="432"))
    assert model == network(), "all of the tensor lies in the model now"


def test_external_data_without_length_and_with_unknown_keys(tmp_path: Path) -> None:
    assert load_model(external(tmp_path, checksum="0", __class__="os.system")) == network()


def test_links_inside_the_folder_are_fine(tmp_path: Path) -> None:
    path = external(tmp_path, location="link.bin")
    (path.parent / "link.bin").symlink_to("w.bin")
    assert load_model(path) == network()


LOCATIONS = ["/etc/passwd", "../secret.bin", "a/../../secret.bin", "C:\\secret.bin", "..\\secret.bin", "w.bin\0x"]


@pytest.mark.parametrize("location", LOCATIONS)
def test_locations_outside_the_folder(tmp_path: Path, location: str) -> None:
    refuse(external(tmp_path, location=location), "own folder")


def test_links_out_of_the_folder(tmp_path: Path) -> None:
    path = external(tmp_path, location="link.bin")
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    refuse(path, "leaves the model's folder")
    (path.parent / "link.bin").unlink()
    (path.parent / "up").symlink_to(tmp_path, target_is_directory=True)
    model = network()
    point(model.graph.initializer[0], location="up/secret.bin")
    refuse(write(path, model), "leaves the model's folder")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"location": ""}, "in which file"),
        ({"location": "gone.bin"}, "No such file"),
        ({"location": "."}, "not a regular file"),
        ({"offset": "-8"}, "offset '-8'"),
        ({"offset": "1e3"}, "offset '1e3'"),
        ({"offset": "9" * 30}, "offset '999"),
        ({"offset": "4", "length": "432"}, "wants bytes 4 to 436"),
        ({"length": "428"}, "w"),
    ],
)
def test_external_entries_that_are_refused(tmp_path: Path, entries: dict[str, str], said: str) -> None:
    refuse(external(tmp_path, **entries), said)


def test_external_pipe_does_not_hang(tmp_path: Path) -> None:
    path = external(tmp_path, location="pipe")
    os.mkfifo(path.parent / "pipe")
    refuse(path, "not a regular file")


def test_external_tensors_may_not_multiply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand tensors that name the same bytes are a bomb: the limit holds for their sum."""
    path = external(tmp_path)
    model = onnx.load(path, load_external_data=False)
    for i in range(1000):
        copy = model.graph.initializer.add()
        copy.CopyFrom(model.graph.initializer[0])
        copy.name = f"w{i}"
    monkeypatch.setattr(load, "SIZE_LIMIT_BYTES", 300_000)  # the file has 60 kB, its tensors 432 kB
    refuse(write(path, model), "external tensors have 432,432 bytes")


HIDDEN = {
    "constant": lambda tensor: [helper.make_node("Constant", [], ["k"], value=tensor)],
    "body": lambda tensor: [
        helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["b"], ["k"], then_branch=body(tensor), else_branch=body(tensor)),
    ],
}


def body(tensor: TensorProto) -> onnx.GraphProto:
    out = helper.make_tensor_value_info("k2", TensorProto.FLOAT, None)
    node = helper.make_node("Identity", [tensor.name], ["k2"])
    return helper.make_graph([node], "b", [], [out], initializer=[tensor])


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN)
def test_external_data_hidden_in_attributes_and_bodies(tmp_path: Path, hide: object) -> None:
    assert callable(hide)
    tensor = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "t")
    point(tensor, location="../secret.bin")
    model = network()
    model.graph.node.extend(hide(tensor))
    (tmp_path / "model").mkdir()
    refuse(write(tmp_path / "model" / "m.onnx", model), "own folder")


# ------------------------------------------------------------------------------------------------------------- save
def test_save_refuses_to_overwrite_and_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    size = save_model(network(), path)
    assert size == path.stat().st_size
    before = path.read_bytes()
    with pytest.raises(BadInput, match="--force"):
        save_model(network(8), path)
    assert path.read_bytes() == before
    save_model(network(8), path, force=True)
    assert load_model(path) == network(8)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx"], "no temporary file stays"


def test_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_model(network(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_big_models_go_beside_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "EXTERNAL_ABOVE_BYTES", 10_000)
    model = network(200)
    model.graph.initializer.append(numpy_helper.from_array(np.arange(3, dtype=np.int64), "small"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((300,), np.float64), "second"))
    kept = model.SerializeToString()
    size = save_model(model, tmp_path / "m.onnx")
    data = tmp_path / "m.onnx.data"
    assert size == data.stat().st_size + (tmp_path / "m.onnx").stat().st_size
    assert (tmp_path / "m.onnx").stat().st_size < 1_000
    assert model.SerializeToString() == kept, "the argument is not edited"
    assert load_model(tmp_path / "m.onnx") == model
    theirs = onnx.load(tmp_path / "m.onnx")
    for ours, other in zip(model.graph.initializer, theirs.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(other))
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    entries = [
        e for t in onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.initializer for e in t.external_data
    ]
    offsets = [int(entry.value) for entry in entries if entry.key == "offset"]
    assert len(offsets) == 2
    assert all(offset % 4096 == 0 for offset in offsets), "a runtime maps pages"


def test_data_written_by_onnx_itself_is_read(tmp_path: Path) -> None:
    onnx.save(network(200), tmp_path / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    assert (tmp_path / "m.onnx").stat().st_size < 1_000
    loaded = load_model(tmp_path / "m.onnx")
    np.testing.assert_array_equal(
        numpy_helper.to_array(loaded.graph.initializer[0]), numpy_helper.to_array(network(200).graph.initializer[0])
    )


def test_data_file_of_another_model_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "EXTERNAL_ABOVE_BYTES", 10_000)
    (tmp_path / "m.onnx.data").write_text("mine")
    with pytest.raises(BadInput, match="exists already"):
        save_model(network(200), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").read_text() == "mine"
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(BadInput, match="permission"):
            save_model(network(), tmp_path / "m.onnx")
    finally:
        tmp_path.chmod(stat.S_IRWXU)
