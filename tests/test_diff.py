"""`edgecnn diff`: from files to the layer, its proof, its table, its picture and its reproducer."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgecnn import api
from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.diff import find
from edgecnn.checking.divergence import DiffReport
from edgecnn.checking.sides import GraphSide, graph_side
from edgecnn.cli import main
from exporters.graph import copy_model
from exporters.passes import fold_batchnorm
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.rewrites import fold_columns
from exporters.torch_export import export_module
from graphs import parse
from runtimes.base import BadInput, CheckFailed, Runner
from small_nets import conv_net, model, save

NETS = """
import torch
from torch import nn

class Net(nn.Sequential):
    input_shape = (3, 12, 12)

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
                         nn.Flatten(), nn.Linear(512, 10))
"""


def scaled(net: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    copy = copy_model(net)
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))
    return copy


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A network, and the same folded with its last weights one per cent larger."""
    net = conv_net()
    return save(net, tmp_path / "good.onnx"), save(
        scaled(fold_batchnorm.run(net).model, "v", 1.01), tmp_path / "bad.onnx"
    )


def given(reference: onnx.ModelProto, candidate: onnx.ModelProto, *feeds: np.ndarray, **options: object) -> DiffReport:
    sides = [graph_side(net, name, threads=1) for net, name in ((reference, "good"), (candidate, "bad"))]
    return find(compare_sides(*sides, [{sides[0].inputs[0].name: np.float32(x)} for x in feeds]), **options)


def test_the_command(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = map(str, files)
    assert main(["diff", good, bad, "--json"]) == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document.keys() >= {"first", "layers", "reproducer"}
    assert document["first"].keys() >= {"node", "module", "snr_db"}
    assert document["first"]["node"] == "Gemm_y"
    assert 35 < document["first"]["alone_db"] < 45  # one per cent is 40 dB
    assert err.startswith(f"error: {bad}: Gemm node Gemm_y is the first that differs")
    assert main(["diff", good, good]) == 0
    assert "no layer parts from" in capsys.readouterr().out


def test_layers_and_plot(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "sqnr.png"
    assert main(["diff", *map(str, files), "--layers", "--plot", str(picture)]) == 1
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "Gemm" in lines["Gemm_y"]
    assert "< first" in lines["Gemm_y"]
    assert "< first" not in lines["Relu_r"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BadInput, match="exists already"):
        api.diff(*files, plot=picture)


def test_equal_layers_lie_on_a_line_of_their_own(files: tuple[Path, Path]) -> None:
    from edgecnn.plots.sqnr import plot

    for report, numbers in ((api.diff(*files, layers=True), True), (api.diff(files[0], files[0], layers=True), False)):
        (axes,) = plot(report).axes
        names = {
            label.get_text(): place for label, place in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
        }
        equal = names.pop("equal")
        drawn = [value for line in axes.lines[:2] for value in line.get_ydata()]
        finite = [value for value in drawn if value != equal]
        assert len(drawn) > len(finite) or numbers
        assert bool(finite) is numbers
        assert all(value <= equal - 8 for value in finite)
        assert all(float(text) == place < equal - 3 for text, place in names.items())
        assert axes.get_ylim()[0] < min(drawn) <= equal < axes.get_ylim()[1]


def run_reproducer(folder: Path) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, capture_output=True, timeout=100).returncode


def test_the_reproducer_fails_and_passes_when_mended(files: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "reproducer"
    report = api.diff(*files, reproducer=folder)
    assert report.reproducer == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "candidate.onnx", "inputs.npz", "reference.onnx", "test_layer.py",
    ]  # fmt: skip
    text = (folder / "test_layer.py").read_text()
    assert not {"onnx", "torch", "edgecnn"} & {
        line.split()[1] for line in text.splitlines() if line.startswith("import")
    }
    assert [node.op_type for node in onnx.load(folder / "candidate.onnx").graph.node] == ["Gemm"]
    assert run_reproducer(folder) == 1
    (folder / "candidate.onnx").write_bytes((folder / "reference.onnx").read_bytes())
    assert run_reproducer(folder) == 0


def test_a_reproducer_is_made_whole_or_not_at_all(files: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    with pytest.raises(BadInput, match=r"holds other files \(thesis.tex\)"):
        api.diff(*files, reproducer=folder, force=True)
    with pytest.raises(BadInput, match="no such folder"):
        api.diff(*files, reproducer=tmp_path / "none" / "r")
    assert api.diff(files[0], files[0], reproducer=tmp_path / "r").reproducer is None
    assert not (tmp_path / "r").exists(), "nothing parts, so there is nothing to reproduce"
    api.diff(*files, reproducer=tmp_path / "r")
    with pytest.raises(BadInput, match="exists already"):
        api.diff(*files, reproducer=tmp_path / "r")
    api.diff(*files, reproducer=tmp_path / "r", force=True)
    assert not list(tmp_path.glob(".edgecnn-*"))


def test_pytorch_against_its_export_both_ways(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    source = f"{tmp_path / 'nets.py'}:Net"
    from edgecnn.networks.sources import resolve

    network = resolve(source)
    torch.save(network.module.state_dict(), weights := tmp_path / "w.pt")
    raw = export_module(network.module, network.input_shape)
    right = save(fold_batchnorm.run(raw).model, tmp_path / "right.onnx")
    wrong = save(scaled(raw, "3.weight", 1.01), tmp_path / "wrong.onnx")
    assert api.diff(source, right, weights=weights).first is None
    for pair in ((source, wrong), (wrong, source)):
        report = api.diff(*pair, weights=weights)
        assert report.first is not None, pair
        assert (report.first.module, report.first.at_fault) == ("3", True)
        assert report.partial_runs <= math.ceil(math.log2(report.nodes)) + 2
    state = network.module.state_dict()
    torch.save({**state, "0.bias": state["0.bias"] + 1}, other := tmp_path / "o.pt")
    report = api.diff(source, right, weights=other)
    assert report.first is not None
    assert report.first.module == "0", "folded: compared behind the BatchNorm, and named after the Conv"


def test_two_pytorch_networks() -> None:
    from edgecnn.checking.common_points import common_points
    from edgecnn.checking.torch_side import module_side
    from edgecnn.networks.sources import resolve

    def side(change: float) -> object:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 5))
        with torch.no_grad():
            net[2].weight.mul_(change)
        return module_side(resolve(net, input_shape="3,8,8"), "net")

    ours, theirs = side(1), side(1.01)
    assert len(common_points(ours, theirs)[1]) == 6
    report = find(compare_sides(ours, theirs, [{"input": np.ones((1, 3, 8, 8), np.float32)}]))
    assert report.first is not None
    assert (report.first.module, report.first.at_fault) == ("2", True)


HIDDEN = """<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) {
    a = Add (x, one) hidden = Mul (a, factor) cut = Clip (hidden, zero, ten) b = Mul (cut, two) side = Sub (b, hidden)
    late = Exp (zero4) y = Add (side, late)
}"""


def hidden(factor: float) -> onnx.ModelProto:
    """What `hidden` does wrong above ten, the Clip hides from b; the way around it brings it out again."""
    values = {"one": np.float32(1), "factor": np.float32([1, 1, 1, factor]), "zero": np.float32(0)}
    return model(HIDDEN, **values, ten=np.float32(10), two=np.float32(2), zero4=np.zeros(4, np.float32))


def test_an_error_that_is_hidden_on_the_way_is_found_in_one_pass() -> None:
    """Bisection sees b right, so it takes `side` for the first; alone `side` is right: every layer is looked at."""
    report = given(hidden(1), hidden(1.5), np.array([1, 2, 3, 20]))
    assert report.first is not None
    assert (report.first.node, report.first.at_fault) == ("Mul_hidden", True)
    assert "not monotone" in report.notes[0]
    assert "every layer was looked at" in report.notes[0]


def test_an_error_that_builds_up_blames_nobody() -> None:
    """Sixty factors a little off, each within noise: the point is named, and that it is right by itself."""
    text = '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) {{ {} }}'
    body = " ".join(f"{'y' if i == 59 else f't{i + 1}'} = Mul ({f't{i}' if i else 'x'}, f)" for i in range(60))
    one, other = (model(text.format(body), f=np.float32(f)) for f in (1, 1 + 12e-7))
    report = given(one, other, np.ones(4))
    assert report.first is not None
    assert not report.first.at_fault
    assert "the difference builds up over many" in report.notes[0]
    assert "alone, on the reference's inputs, it is right" in report.verdict


def test_a_limit_that_is_given_replaces_the_noise() -> None:
    good, bad = conv_net(), scaled(conv_net(), "v", 1.01)
    feeds = [{"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)}]
    sides = [graph_side(net, "net", threads=1) for net in (good, bad)]
    assert [find(compare_sides(*sides, feeds, limit)).first is None for limit in (20, 60)] == [True, False]


def test_a_candidate_that_does_not_run_is_an_answer(tmp_path: Path) -> None:
    net = conv_net()
    broken = copy_model(net)
    flatten = next(node for node in broken.graph.node if node.op_type == "Flatten")
    flatten.attribute.add(name="axis", i=2, type=onnx.AttributeProto.INT)
    report = api.diff(save(net, tmp_path / "a.onnx"), save(broken, tmp_path / "b.onnx"))
    assert report.first is not None
    assert report.first.node == "Flatten_f"
    assert "another shape" in report.verdict


@pytest.fixture
def refused(files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A network and a healthy candidate, int8 or float, of which ONNX Runtime loads no part that makes a tensor in
    `names` from the inputs; layers alone it loads.
    """

    def made(names: set[str], int8: bool) -> list[str]:
        net = fold_batchnorm.run(conv_net()).model
        images = [{"x": np.random.default_rng(i).standard_normal((1, 3, 8, 8), np.float32)} for i in range(2)]
        healthy = quantize_model(net, images, QuantRecipe(), threads=1).model if int8 else net
        opened = GraphSide.open

        def refuse(side: GraphSide, wanted: Sequence[str]) -> Runner:
            if "healthy" in side.name and names & {*wanted}:
                raise BadInput(f"{side.name}: ONNX Runtime cannot load it (no kernel)")
            return opened(side, wanted)

        monkeypatch.setattr(GraphSide, "open", refuse)
        return [str(files[0]), str(save(healthy, tmp_path / "healthy.onnx"))]

    return made


@pytest.mark.parametrize("int8", [True, False])
def test_a_candidate_of_which_no_part_runs_from_the_inputs_is_inconclusive(
    refused: Callable[..., list[str]], int8: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was compared, so that "no layer parts" would be a guess."""
    sources = refused({"c", "n", "r", "g", "f", "y"}, int8)
    assert main(["diff", *sources, "--json"]) == 3
    out, err = capsys.readouterr()
    cause = "ONNX Runtime cannot load it (no kernel)"
    why = f"each layer alone is right, but from its inputs it runs up to no tensor: {cause}"
    document = json.loads(out)
    assert (document["first"], document["inconclusive"], document["notes"]) == (None, why, [])
    assert err == f"error: {sources[1]}: {why}\n"
    assert main(["diff", *sources]) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert f"healthy.onnx: inconclusive: {why}; 3 samples of" in shown
    assert "no layer parts" not in shown


@pytest.mark.parametrize("int8", [True, False])
def test_the_first_layer_that_stops_a_candidate_is_named_also_where_it_is_right_alone(
    refused: Callable[..., list[str]], int8: bool
) -> None:
    report = api.diff(*refused({"f", "y"}, int8))
    assert report.first is not None
    assert report.first.op in ("Flatten", "GlobalAveragePool"), "int8 flattens integers: the layer is the one before"
    assert "is the first that does not run: " in report.sentence
    assert isinstance(report.failure, CheckFailed)
    assert report.notes == (
        "every layer alone runs and is right, so that what it is given in the candidate is what stops it",
    )


def test_networks_that_are_no_pair(tmp_path: Path) -> None:
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) '
    one = save(model(head + "{ y = Relu (x) }"), tmp_path / "one.onnx")
    two = head.replace("(float[4] y)", "(float[4] y, float[4] z)") + "{ y = Relu (x) z = Exp (x) }"
    with pytest.raises(BadInput, match=r"two.onnx, .*one.onnx: outputs: 1 against 2; the models are no pair"):
        api.diff(one, save(model(two), tmp_path / "two.onnx"))
    with pytest.raises(BadInput, match="no model is a PyTorch network"):
        api.diff(one, one, weights=Path("w.pt"))
    with pytest.raises(BadInput, match="no such file"):
        api.diff(one, tmp_path / "none.onnx")


def test_what_is_no_number_on_both_sides_is_told_with_its_layer(tmp_path: Path) -> None:
    """`check` never passes it and sends its user here, where nothing parts. Infinity that stays inside is nothing."""
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) '
    odd = "{ a = Abs (x) n = Neg (a) r = Sqrt (n) b = Relu (x) y = Add (r, b) }"
    path = save(model(head + odd), tmp_path / "odd.onnx")
    report = api.diff(path, path)
    assert report.failure is None
    assert report.notes == ("both give NaN or Inf in the same places, first Sqrt node Sqrt_r; mend that layer",)
    inside = "{ z = Sub (x, x) o = Exp (z) i = Div (o, z) e = Neg (i) y = Exp (e) }"
    path = save(model(head + inside), tmp_path / "inside.onnx")
    assert api.diff(path, path).notes == ()


def test_other_inputs_are_told_with_the_models_names(tmp_path: Path) -> None:
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) '
    one = save(model(head + "{ y = Relu (x) }"), tmp_path / "one.onnx")
    two = save(model(head.replace("x)", "x, float[4] z)") + "{ y = Add (x, z) }"), tmp_path / "two.onnx")
    with pytest.raises(BadInput, match=r"^.*two.onnx: takes x, z, .*one.onnx x; compare models with the same inputs"):
        api.diff(one, two)


def test_a_reference_that_never_gives_the_same_answer_twice_is_refused(tmp_path: Path) -> None:
    """Everything agrees with it within its own noise."""
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) '
    noise = save(model(head + "{ r = RandomNormalLike (x) y = Add (x, r) }"), tmp_path / "noise.onnx")
    other = save(model(head + "{ r = Relu (x) y = Add (x, r) }"), tmp_path / "other.onnx")
    for pair in ((noise, other), (other, noise)):
        with pytest.raises(BadInput, match=r"noise.onnx: output y differs between two runs on one input"):
            api.diff(*pair)


def test_a_graph_that_cannot_be_walked_is_refused(tmp_path: Path) -> None:
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) '
    one = save(model(head + "{ r = Relu (x) y = Exp (r) }"), tmp_path / "one.onnx")
    round_about = onnx.parser.parse_model(head + "{ y = Add (x, r) r = Relu (y) }")
    with pytest.raises(BadInput, match=r"round.onnx: .* reads r, which is made after it; export it again"):
        api.diff(one, save(round_about, tmp_path / "round.onnx"))
    turned = onnx.parser.parse_model(head + "{ y = Exp (r) r = Relu (x) }")  # in no order, but it has one
    assert api.diff(one, save(turned, tmp_path / "turned.onnx")).first is None


def test_a_rewrite_of_the_int8_graph_is_no_fault() -> None:
    """fold_columns lays a layer out otherwise: nothing is compared until it is laid back; real faults are found."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1)
    net = export_module(nn.Sequential(*layers), (3, 16, 16), input_name="x", dynamic_batch=False)
    images = [rng.standard_normal((1, 3, 16, 16)).astype(np.float32) for _ in range(4)]
    rewritten = fold_columns.run(net)
    assert rewritten.modified
    int8 = quantize_model(rewritten.model, [{"x": image} for image in images], QuantRecipe()).model
    assert given(net, int8, *images[:2], layers=True).first is None
    last = next(node for node in reversed(int8.graph.node) if node.op_type == "Conv")
    wrong = next(node.input[1] for node in int8.graph.node if node.output[0] == last.input[1])
    broken = given(net, scaled(int8, wrong, 3.0), *images[:2]).first
    assert broken is not None
    assert (broken.module, broken.at_fault) == ("2", True)


def test_an_int8_answer_of_another_shape_is_a_fault() -> None:
    net, wide = (
        parse(f"g (float[1,3,8,8] x) => (float[1,n,8,8] y) {{ y = Conv (x, {name}) }}", w=(4, 3, 1, 1), v=(6, 3, 1, 1))
        for name in "wv"
    )
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    found = given(net, quantize_model(wide, [{"x": image}], QuantRecipe()).model, image).first
    assert found is not None
    assert found.snr_db == -math.inf
