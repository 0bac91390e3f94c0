"""`edgecnn fold` and `edgecnn simplify` on any file: done, proven and written, or not written at all."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn import float_passes
from edgecnn.cli import main
from edgecnn.single import fold, prove, simplify
from exporters.artifact import Stage, read_stages, write_stages
from exporters.base import Change, PassResult
from exporters.passes import fold_batchnorm
from runtimes.base import BadInput, CheckFailed, Inconclusive
from small_nets import conv_net, model, save


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_fold_writes_a_graph_without_batchnorm(tmp_path: Path) -> None:
    source = save(conv_net(), tmp_path / "in.onnx")
    report = fold(source, tmp_path / "out.onnx")
    assert (report.folded, report.kept) == (1, ())
    assert "folded into Conv" in report.changes[0].what
    assert 2.0**-24 <= report.bound <= 1.01 * 2.0**-24, "one rounding to float32"
    assert "BatchNormalization" not in operators(tmp_path / "out.onnx")
    assert 0 < report.max_abs < 1e-4  # float32 round-off of outputs around 10
    assert report.to_dict().keys() >= {"output", "folded", "kept", "max_abs"}


def test_a_report_is_ready_for_json(tmp_path: Path) -> None:
    source = save(conv_net(), tmp_path / "in.onnx")
    folded = json.loads(json.dumps(fold(source, tmp_path / "out.onnx", seed=np.int64(1)).to_dict()))  # type: ignore[arg-type]
    assert folded["output"] == str(tmp_path / "out.onnx")
    assert folded["changes"][0].keys() == {"node", "what", "bound"}
    assert folded["bound"] > 0
    simple = json.loads(json.dumps(simplify(source, tmp_path / "simple.onnx", target="ort==1.17").to_dict()))
    assert simple["output"] == str(tmp_path / "simple.onnx")
    assert simple["kept"] == []


def test_simplify_folds_constants_and_keeps_batchnorm(tmp_path: Path) -> None:
    net = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4] x) => (float[1, 4] y) '
        "{ a = Add (p, q) b = Identity (a) y = Mul (x, b) }",
        p=np.ones(4, np.float32), q=np.arange(4, dtype=np.float32),
    )  # fmt: skip
    report = simplify(save(net, tmp_path / "in.onnx"), tmp_path / "out.onnx")
    assert (report.nodes_before, report.nodes_after) == (3, 1)
    assert operators(tmp_path / "out.onnx") == ["Mul"]
    assert report.max_abs == 0
    simplify(save(conv_net(), tmp_path / "bn.onnx"), tmp_path / "bn_out.onnx")
    assert "BatchNormalization" in operators(tmp_path / "bn_out.onnx")  # folding is our own pass's work


UNOPTIMIZED = """<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {
    n = Shape <start: int = 0, end: int = 1> (w) z = CastLike (zero, x) b = Expand (z, n) c = Conv (x, w, b)
    y = BatchNormalization (c, s, h, m, v) }"""
"""As PyTorch's exporter writes a Conv without bias when it may not optimize."""


def unoptimized() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    s, h, m, v = rng.uniform(0.5, 2, (4, 4)).astype(np.float32)
    w = rng.standard_normal((4, 4, 1, 1), np.float32)
    return model(UNOPTIMIZED, w=w, zero=np.float32(0), s=s, h=h, m=m, v=v)


EQUAL = """<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4] x) => (float[1, 9000] y) {
    a = MatMul (x, p) b = MatMul (x, q) c = Sigmoid (a) d = Tanh (b) y = Add (c, d) }"""
"""Two products that are one as soon as p and q are; onnxsim does not see numbers as large as these."""


def equal_products() -> onnx.ModelProto:
    p = np.random.default_rng(0).standard_normal((4, 9000), np.float32)
    return model(EQUAL, p=p, q=p.copy())


@pytest.mark.parametrize(("net", "left"), [(unoptimized, ["Conv", "BatchNormalization"]),
                                           (equal_products, ["MatMul", "Sigmoid", "Tanh", "Add"])])  # fmt: skip
def test_simplified_once_is_simplified(net: Callable[[], onnx.ModelProto], left: list[str], tmp_path: Path) -> None:
    simplify(save(net(), tmp_path / "in.onnx"), tmp_path / "once.onnx")
    assert sorted(operators(tmp_path / "once.onnx")) == sorted(left)
    again = simplify(tmp_path / "once.onnx", tmp_path / "twice.onnx")
    assert again.nodes_before == again.nodes_after
    once, twice = (onnx.load(tmp_path / f"{name}.onnx").graph for name in ("once", "twice"))
    assert once == twice


def test_onnxsim_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def restless(step: str, net: onnx.ModelProto, **_: object) -> PassResult:
        asked.append(step)
        return PassResult(net, (Change("n", "moved"),))

    monkeypatch.setattr(float_passes, "_run", restless)
    float_passes.simplified(conv_net())
    assert asked.count("simplify") == float_passes.ROUNDS


def test_a_pass_that_changes_the_function_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = conv_net(seed=1)
    monkeypatch.setattr(fold_batchnorm, "run", lambda proto: PassResult(other, (Change("n", "wrong"),)))
    with pytest.raises(
        CheckFailed, match=r"in.onnx: the result computes something else, nothing was written \(output y"
    ):
        fold(save(conv_net(), tmp_path / "in.onnx"), tmp_path / "out.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.onnx"]


def test_a_model_that_answers_nan_proves_nothing() -> None:
    net = model('<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4] x) => (float[1, 4] y) { y = Sqrt (x) }')
    with pytest.raises(Inconclusive, match="gives NaN or Inf on random inputs"):
        prove(net, net, "m")


@pytest.mark.parametrize("command", [fold, simplify])
def test_a_model_with_dropout_at_work_is_to_blame_and_not_the_result(
    command: Callable[..., object], tmp_path: Path
) -> None:
    net = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 64] x) => (float[1, 64] y) '
        "{ d = Dropout (x, rate, training) y = Relu (d) }",
        rate=np.float32(0.5), training=np.array(True),
    )  # fmt: skip
    path = save(net, tmp_path / "in.onnx")
    said = r"in\.onnx: output y differs between two runs on one input; export it in eval mode"
    with pytest.raises(BadInput, match=said):
        command(path, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_outputs_are_looked_at_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(conv_net(), tmp_path / "in.onnx")
    (tmp_path / "there.onnx").write_bytes(b"precious")
    monkeypatch.setattr(fold_batchnorm, "run", lambda proto: pytest.fail("worked before it looked"))
    for place, message in [
        (tmp_path / "there.onnx", "exists already; give another name or --force"),
        (tmp_path / "no" / "x.onnx", "no such folder"),
        (tmp_path, "is a folder"),
    ]:
        with pytest.raises(BadInput, match=message):
            fold(source, place)
    with pytest.raises(BadInput, match="is the input itself"):
        fold(source, source, force=True)
    assert (tmp_path / "there.onnx").read_bytes() == b"precious"


def test_open_sizes_must_be_given(tmp_path: Path) -> None:
    net = conv_net()
    for i in (2, 3):
        net.graph.input[0].type.tensor_type.shape.dim[i].dim_param = "HW"[i - 2]
    source = save(net, tmp_path / "in.onnx")
    with pytest.raises(BadInput, match="--input-shape x:N,C,H,W"):
        fold(source, tmp_path / "out.onnx")
    assert fold(source, tmp_path / "out.onnx", input_shape="x:[1,3,16,16]").folded == 1


def test_the_steps_are_kept_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, middle, target = (tmp_path / f"{name}.onnx" for name in ("in", "simple", "out"))
    first = Stage("export", 1.0, 100, 6, snr_db=130.0)
    save(write_stages(conv_net(), (first,)), source)
    simplify(source, middle)
    fold(middle, target)
    stages = read_stages(onnx.load(target))
    assert [stage.name for stage in stages] == ["export", "simplify", "fold"]
    assert stages[0] == first
    assert (stages[2].nodes, stages[2].snr_db) == (5, None)  # compared with the file before, not with PyTorch
    assert re.fullmatch(r"1 changed; 1\d\d\.\d dB to the file before", stages[2].note)
    assert main(["inspect", str(target)]) == 0
    assert re.search(r"^fold .*1 changed", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("verb", [fold, simplify])
def test_a_bundle_is_called_one(tmp_path: Path, verb: Callable[..., object]) -> None:
    (tmp_path / "net.edge").write_bytes(b"PK\x03\x04")
    with pytest.raises(BadInput, match=r"net\.edge: is a bundle, not an \.onnx file; unzip model\.onnx from it"):
        verb(tmp_path / "net.edge", tmp_path / "out.onnx")


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(conv_net(), tmp_path / "in.onnx")
    target = tmp_path / "out.onnx"
    assert main(["fold", str(source), "-o", str(target), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["output"], document["folded"], document["kept"]) == (str(target), 1, [])
    assert document["bound"] == document["changes"][0]["bound"] > 0
    assert main(["fold", str(source), "-o", str(target)]) == 2
    assert capsys.readouterr().err == f"error: {target}: exists already; give another name or --force\n"
    assert main(["simplify", str(source), "-o", str(target), "--force"]) == 0
    assert "6 nodes became" in capsys.readouterr().out


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="only x86 traps this division")
@pytest.mark.parametrize("verb", [fold, simplify])
def test_a_model_that_kills_its_process_does_not_kill_ours(tmp_path: Path, verb: Callable[..., object]) -> None:
    net = model(
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[1] x) => (int64[1] y) { q = Div (a, b) y = Add (x, q) }',
        a=np.array([np.iinfo(np.int64).min]), b=np.array([-1]),
    )  # fmt: skip
    with pytest.raises(BadInput, match=r"in\.onnx: .*SIGFPE"):
        verb(save(net, tmp_path / "in.onnx"), tmp_path / "out.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.onnx"]


def test_impossible_statistics_name_file_and_node(tmp_path: Path) -> None:
    net = conv_net()
    (variance,) = (tensor for tensor in net.graph.initializer if tensor.name == "var")
    variance.CopyFrom(onnx.numpy_helper.from_array(-np.ones(8, np.float32), "var"))
    with pytest.raises(BadInput, match=r"in\.onnx: BatchNormalization_n: variance \+ epsilon is -1"):
        fold(save(net, tmp_path / "in.onnx"), tmp_path / "out.onnx")


def test_a_target_is_reached_from_a_file_too_new_to_run_here(tmp_path: Path) -> None:
    net = model('<ir_version: 14, opset_import: ["" : 28]> g (float[1, 4] x) => (float[1, 4] y) { y = Relu (x) }')
    report = simplify(save(net, tmp_path / "in.onnx"), tmp_path / "out.onnx", target="ort==1.18")
    assert report.lowered == {"opset": (28, 21), "IR": (14, 10)}
    net.opset_import[0].version = 18
    simplify(save(net, tmp_path / "ir.onnx"), tmp_path / "plain.onnx")
    assert onnx.load(tmp_path / "plain.onnx").ir_version < 14


OPEN = """<ir_version: 9, opset_import: ["" : 18]> g (float[N,3,H,W] x) => (float[N,A] y) {
    r = Relu (x) m = ReduceMean <keepdims: int = 0> (r, axes) y = Identity (m) }"""


def sizes(path: Path) -> list[list[int | str]]:
    graph = onnx.load(path).graph
    values = (*graph.input, *graph.output)
    return [[d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim] for value in values]


def test_simplify_writes_the_shape_that_was_asked_for(tmp_path: Path) -> None:
    source = save(model(OPEN, axes=np.array([2, 3])), tmp_path / "in.onnx")
    simplify(source, tmp_path / "fixed.onnx", input_shape="1,3,8,8")
    assert sizes(tmp_path / "fixed.onnx") == [[1, 3, 8, 8], [1, 3]]
    simplify(save(conv_net(), tmp_path / "net.onnx"), tmp_path / "open.onnx")
    assert sizes(tmp_path / "open.onnx") == [["N", 3, 8, 8], ["N", 10]], "nothing was asked for: nothing is fixed"
    with pytest.raises(BadInput, match=r"in\.onnx: input x wants \[N, 3, H, W\], the shape given is \[1, 1, 8, 8\]"):
        simplify(source, tmp_path / "bad.onnx", input_shape="1,1,8,8")


def test_simplify_for_an_older_runtime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(model(OPEN, axes=np.array([2, 3])), tmp_path / "in.onnx")
    words = [str(source), "-o", str(tmp_path / "old.onnx"), "--input-shape", "2,3,8,8"]
    assert main(["simplify", *words, "--target", "ort==1.12"]) == 0
    assert "; for ort==1.12: opset 18 -> 17, IR 9 -> 8." in capsys.readouterr().out
    assert main(["simplify", *words, "--force", "--target", "ort==1.17", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["target"], document["opset"], document["ir_version"]) == ("ort==1.17", 18, 9)
    assert document["lowered"] == {}
    assert main(["simplify", *words, "--force", "--target", "ort==1.12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lowered"] == {"opset": [18, 17], "IR": [9, 8]}
    old = onnx.load(tmp_path / "old.onnx")
    assert (old.opset_import[0].version, old.ir_version) == (17, 8)
    assert main(["simplify", *words, "--force", "--target", "tensorrt"]) == 2
    assert "tensorrt: not a target" in capsys.readouterr().err
    assert onnx.load(tmp_path / "old.onnx") == old


def test_a_conversion_that_changes_the_function_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exporters.targets import target

    monkeypatch.setattr(target, "convert", lambda *_: conv_net(seed=1))
    with pytest.raises(CheckFailed, match="computes something else, nothing was written"):
        simplify(save(conv_net(), tmp_path / "in.onnx"), tmp_path / "out.onnx", target="ort==1.12")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.onnx"]


def test_what_onnxsim_could_not_do_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exporters.isolation.sandbox import ChildFailed
    from exporters.passes import simplify as onnxsim_pass

    def crash(*_: object, **__: object) -> None:
        raise ChildFailed("its process was killed by SIGSEGV")

    monkeypatch.setattr(onnxsim_pass, "run_in_child", crash)
    report = simplify(save(model(OPEN, axes=np.array([2, 3])), tmp_path / "in.onnx"), tmp_path / "o.onnx",
                      input_shape="1,3,8,8")  # fmt: skip
    assert [entry.reason for entry in report.kept] == ["onnxsim failed: its process was killed by SIGSEGV"]
    assert report.nodes_after == 2, "the small passes did their work all the same"


@pytest.mark.parametrize("call", [simplify, fold])
def test_a_size_of_0_proves_nothing(call: Callable[..., object], tmp_path: Path) -> None:
    """Whatever is made of it, all of its no numbers are equal."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[0,3,8,8] x) => (float[0,3,8,8] y) { y = Relu (x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    with pytest.raises(BadInput, match=r"input x has a size of 0, \[0, 3, 8, 8\], and holds no number"):
        call(tmp_path / "m.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
