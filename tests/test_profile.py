"""`edgecnn profile`: sums against ONNX Runtime's own, MACs by hand, modules, two models side by side, files, errors."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn import api
from edgecnn.cli import main
from edgecnn.cli._profiled import profiled
from edgecnn.profiling import profile as module
from edgecnn.profiling.profile import measure, profile
from edgecnn.profiling.profile_report import ProfileReport, as_csv, pairs
from edgecnn.profiling.profiled import Measured, Row, Timing
from edgecnn.profiling.slow_spots import Spot, spots
from edgecnn.report import Page
from exporters.graph import MODULE_KEY, set_meta
from exporters.pack import pack
from exporters.quantization.quantize import QuantRecipe, quantize_model
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from profiles import PEAKS, TIMING, measured, piece
from runtimes.machine import describe
from small_nets import model, save
from test_pack import ABOUT, golden, heavy

NET = """<ir_version: 9, opset_import: ["" : 18]>
net (float[N,16,16,16] x) => (float[N,10] y) {
    c = Conv <pads: ints = [1,1,1,1]> (x, w)
    r = Relu (c)
    d = Conv <pads: ints = [1,1,1,1], group: int = 32> (r, dw)
    e = Elu (d)
    g = GlobalAveragePool (e)
    f = Flatten (g)
    y = Gemm <transB: int = 1> (f, v)
}"""
MACS = {"c": 16 * 16 * 32 * 16 * 9, "d": 16 * 16 * 32 * 9, "y": 32 * 10}
"""By hand: positions x outputs x inputs x window, depthwise with one input, fully connected."""
MODULES = {"c": "stem.conv", "r": "stem.act", "d": "body.0.dw", "e": "body.0.act", "g": "pool", "y": "head"}


def net() -> onnx.ModelProto:
    draw = np.random.default_rng(0).normal
    shapes = {"w": (32, 16, 3, 3), "dw": (32, 1, 3, 3), "v": (10, 32)}
    made = model(NET, **{name: draw(size=shape).astype(np.float32) / 8 for name, shape in shapes.items()})
    for node in made.graph.node:
        if node.output[0] in MODULES:
            set_meta(node, {MODULE_KEY: MODULES[node.output[0]]})
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("profile")
    feeds = {"x": np.random.default_rng(1).normal(size=(1, 16, 16, 16)).astype(np.float32)}
    int8 = quantize_model(net(), [feeds], QuantRecipe()).model
    return {
        "float": str(save(net(), folder / "float.onnx")),
        "int8": str(save(int8, folder / "int8.onnx")),
        "folder": str(folder),
    }


@pytest.fixture(scope="module")
def pair(files: dict[str, str]) -> dict[str, Measured]:
    kinds = ("float", "int8")
    found, _ = measure([files[kind] for kind in kinds], PEAKS, iterations=6)
    return {kind: one for kind, (one, _) in zip(kinds, found, strict=True)}


@pytest.fixture
def known_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring them takes a second and a half."""
    monkeypatch.setattr(module, "measure_peaks", lambda threads: PEAKS)


def report_of(one: Measured, against: Measured | None = None, **options: object) -> ProfileReport:
    return ProfileReport(describe(), one, (), against, None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_multiply_adds_are_those_by_hand(pair: dict[str, Measured], kind: str) -> None:
    rows = {row.name: row for row in pair[kind].rows("node")}
    assert {name: rows[node].macs for name, node in (("c", "Conv_c"), ("d", "Conv_d"), ("y", "Gemm_y"))} == MACS
    for by in ("node", "module", "op"):
        assert sum(row.macs or 0 for row in pair[kind].rows(by)) == sum(MACS.values())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_every_grouping_has_all_of_the_time_and_all_bytes(pair: dict[str, Measured], kind: str) -> None:
    one = pair[kind]
    for by in ("node", "module", "op"):
        rows = one.rows(by)  # type: ignore[arg-type]
        assert sum(row.time_us for row in rows) == pytest.approx(one.nodes_us)
        assert sum(row.moved_bytes for row in rows) == sum(p.ran.moved_bytes for p in one.pieces)
        assert [row.time_us for row in rows] == sorted((row.time_us for row in rows), reverse=True)


def test_modules_are_rolled_up(pair: dict[str, Measured]) -> None:
    assert {"stem.conv", "body.0.dw", "head", "(quantize)"} <= {row.name for row in pair["int8"].rows("module")}
    cut = {row.name: row for row in pair["float"].rows("module", depth=1)}
    assert cut["stem"].macs == MACS["c"]
    assert cut["body"].macs == MACS["d"]
    assert cut["body"].count == len([p for p in pair["float"].pieces if p.module.startswith("body")])


def test_layers_are_called_as_in_a_textbook(pair: dict[str, Measured]) -> None:
    rows = {row.name: row for row in pair["int8"].rows("node")}
    assert rows["Conv_c"].layer == "conv3-32 16x16"
    assert rows["Conv_d"].layer == "dw3-32 16x16"
    assert rows["Conv_c"].kernels == ("QLinearConv",)


def test_the_int8_file_shows_its_island(pair: dict[str, Measured], files: dict[str, str]) -> None:
    (((one, numbers),), _) = measure([files["int8"]], PEAKS, iterations=6)
    assert [spot.where[0] for spot in spots(one, numbers.graph) if spot.kind == "island"] == ["Elu_e"]


def test_rates_are_of_the_peak_of_their_numbers() -> None:
    """10**6 MACs in 40 us are 25 GMAC/s: half of 50 in float, a quarter of 100 in int8."""
    one = measured(
        [
            piece("Conv", 40.0, origin="a", macs=10**6, moved=10**5),
            piece("QLinearConv", 40.0, origin="b", macs=10**6, made="uint8", moved=10**5),
        ]
    )
    a, b = sorted(one.rows("node"), key=lambda row: row.name)
    assert (a.gmacs, a.intensity, a.gb_s) == (25.0, 10.0, 2.5)
    assert a.of_peak == pytest.approx(0.5)
    assert b.of_peak == pytest.approx(0.25)
    both = one.row("both", one.pieces)
    assert both.of_peak == pytest.approx((0.5 + 0.25) / 2)


def test_unknown_multiply_adds_stay_unknown() -> None:
    row = measured([piece("Conv", origin="a", macs=None), piece("Conv", origin="b", macs=5)]).rows("op")[0]
    assert (row.macs, row.of_peak, row.gmacs, row.intensity) == (None, None, None, None)


def test_sizes_that_only_running_tells(tmp_path: Path) -> None:
    """What NonZero finds has as many rows as there are, 3 of 8 here: 3 x 1 x 5 MACs of the MatMul behind it."""
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[8] x) => (float[M,5] y)
    <float[8] mask = {1, 0, 1, 0, 1, 0, 0, 0}> {
        i = NonZero (mask)
        z = Mul (x, mask)
        j = NonZero (z)
        t = Transpose <perm: ints = [1, 0]> (j)
        f = Cast <to: int = 1> (t)
        y = MatMul (f, w)
    }"""
    path = save(model(text, w=np.ones((1, 5), np.float32)), tmp_path / "open.onnx")
    (((one, _),), _) = measure([str(path)], PEAKS, iterations=3)
    assert next(row for row in one.rows("node") if row.name == "MatMul_y").macs == 3 * 1 * 5


def test_layers_side_by_side(pair: dict[str, Measured]) -> None:
    found = {p.name: p for p in pairs(pair["int8"], pair["float"])}
    assert found["Conv_c"].time_us is not None
    assert found["Conv_c"].against_us is not None
    quantizers = [p for p in found.values() if "QuantizeLinear" in p.kernels]
    assert quantizers
    assert all(p.against_us is None for p in quantizers)
    losses = [p.lost_us for p in pairs(pair["int8"], pair["float"])]
    assert losses == sorted(losses, reverse=True)
    assert sum(losses) == pytest.approx(pair["int8"].nodes_us - pair["float"].nodes_us)


def test_renamed_nodes_meet_in_their_module() -> None:
    new = measured(
        [piece("QLinearConv", 5, origin="new/a", module="m"), piece("QLinearConv", 7, origin="b", module="n")]
    )
    old = measured([piece("Conv", 9, origin="old/a", module="m"), piece("Conv", 4, origin="b", module="n")])
    found = [(p.name, p.time_us, p.against_us, p.lost_us) for p in pairs(new, old)]
    assert found == [("b", 7, 4, 3), ("m", 5, 9, -4)]


def test_modules_and_operators_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    new = measured([
        piece("QLinearConv", 5, origin="a", module="b.0.c"), piece("QLinearConv", 7, origin="d", module="b.0.e"),
        piece("QLinearAdd", 2, origin="f", module="b.1"), piece("QuantizeLinear", 1, made="uint8"),
    ])  # fmt: skip
    old = measured([piece("Conv", 9, origin="x", module="b.0.c"), piece("Add", 1, origin="f", module="b.1")])

    def found(*how: object) -> list[tuple[str, float | None, float | None]]:
        return [(p.name, p.time_us, p.against_us) for p in pairs(new, old, *how)]  # type: ignore[arg-type]

    put_in = ("(quantize)", 1, None)
    assert found("module") == [("b.0.e", 7, None), ("b.1", 2, 1), put_in, ("b.0.c", 5, 9)]
    assert found("module", 2) == [("b.0", 12, 9), ("b.1", 2, 1), put_in]
    assert found("module", 1) == [("b", 14, 10), put_in]
    assert [row[0] for row in found("op")] == ["Conv", "Add", "QuantizeLinear"]
    report = ProfileReport(describe(), new, (), old, None, "module", 1)
    profiled(Page(sys.stdout), report, [])
    assert re.search(r"^b .* 14 +10 +\+4 +0.71x", capsys.readouterr().out, re.MULTILINE)
    assert as_csv(report).splitlines()[1].startswith("b,")


def test_a_kernel_that_is_two_nodes_meets_both() -> None:
    """QuickGelu against QLinearSigmoid and QLinearMul: side by side with the first alone, int8 would look faster."""
    new = measured([piece("QLinearSigmoid", 5, origin="s", module="m"), piece("QLinearMul", 7, origin="p", module="m")])
    old = measured([piece("QuickGelu", 9, origin="s", module="m")])
    assert [(p.name, p.time_us, p.against_us) for p in pairs(new, old)] == [("m", 12, 9)]
    assert [p.name for p in pairs(old, old)] == ["s"]


def test_the_sentence_names_the_few_nodes_with_half_of_the_time() -> None:
    pieces = [piece("Conv", t, origin=f"n{i}", macs=10**6) for i, t in enumerate((40.0, 30.0, 20.0, 10.0))]
    lost = (
        Spot("island", "", (), 10, 0.1, ""),
        Spot("slow int8", "", (), 5, 0.05, ""),
        Spot("work", "", (), 9, 0.9, ""),
    )
    report = ProfileReport(describe(), measured(pieces), lost)
    assert report.verdict == (
        "net.onnx: 70 % of the time is in 2 of 4 nodes at 57 % of their peak; 10 % goes to 1 island; "
        "5.0 % is int8 layers that miss the fast kernel."
    )


def test_the_sum_is_held_against_a_plain_run() -> None:
    one = measured([piece("Conv", 60.0, origin="a"), piece("Conv", 50.0, origin="b")])
    assert report_of(one).balance.startswith(
        "the kernels' medians add up to 0.110 ms, a run without profiling takes 0.100 ms of CPU time: +10 %, "
        "5.00 us a kernel that the profiler adds. A profiled run takes 0.130 ms; 0.0200 ms of it lie between"
    )
    assert report_of(one).notes == ()
    busy = measured(one.pieces, timing=Timing(10, "cpu", 100.0, 130.0, 190.0, 20.0))
    assert "1.9 times its CPU time" in report_of(busy).notes[0]
    assert "+10 %, for kernels wait for the processor too. A" in report_of(busy).balance


def test_a_row_of_nothing_divides_by_nothing() -> None:
    row = Row("x", "", "", (), (), 0, 0.0, 0, 0, 0.0)
    assert row.to_dict(0.0)["share"] is None
    assert (row.of_peak, row.gmacs, row.gb_s) == (None, None, None)


def test_a_csv_has_the_rows_that_were_asked_for(pair: dict[str, Measured]) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(report_of(pair["int8"], by="module")))))
    assert [row["name"] for row in rows] == [row.name for row in pair["int8"].rows("module")]
    assert float(rows[0]["share"]) == pytest.approx(pair["int8"].rows("module")[0].time_us / pair["int8"].nodes_us)
    layers = list(csv.DictReader(io.StringIO(as_csv(report_of(pair["int8"], pair["float"])))))
    assert {"time_us", "against_us", "lost_us", "speedup"} <= layers[0].keys()


def test_the_call_measures_writes_and_tells(files: dict[str, str], known_peaks: None, tmp_path: Path) -> None:
    report = api.profile(
        files["int8"], against=files["float"], iterations=6, plot=tmp_path / "p.svg", csv=tmp_path / "t.csv"
    )
    assert report.measured.integer
    assert report.against is not None
    assert not report.against.integer
    assert report.measured.timing.runs == 6
    assert b"GMAC/s" in (tmp_path / "p.svg").read_bytes()
    assert (tmp_path / "t.csv").read_text().startswith("name,layer,kernels,time_us")
    document = json.loads(json.dumps(report.to_dict()))
    assert document["by_node"]
    assert document["layers"]
    assert (document["ratio"]["a"], document["ratio"]["b"]) == (files["int8"], files["float"])
    assert str(report.ratio).removeprefix(files["int8"]) in report.verdict
    assert document["nodes_us"] == pytest.approx(sum(row["time_us"] for row in document["by_op"]))


def test_a_bundle_is_profiled_as_its_model(tmp_path: Path) -> None:
    made = parse(CONV_RELU_CONV, **WEIGHTS)
    pack(tmp_path / "m.edge", made, ABOUT, *golden(made), 0.0)
    (((one, _),), _) = measure([str(tmp_path / "m.edge")], PEAKS, iterations=3)
    weights = [math.prod(WEIGHTS[node.input[1]]) for node in made.graph.node if node.op_type == "Conv"]
    assert sorted(row.macs for row in one.rows("node") if row.macs) == sorted(size * 8 * 8 for size in weights)


def test_a_bundle_with_its_weights_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """256 kernels of 5x5x3 at 4x4 positions."""
    heavy(tmp_path / "m.edge", monkeypatch)
    (((one, _),), _) = measure([str(tmp_path / "m.edge")], PEAKS, iterations=3)
    (row,) = [row for row in one.rows("node") if row.macs]
    assert row.macs == 256 * 5 * 5 * 3 * 4 * 4
    assert row.moved_bytes > 4 * 256 * 5 * 5 * 3


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(net(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (((one, _),), _) = measure([str(path)], PEAKS, iterations=3)
    assert sum(row.macs or 0 for row in one.rows("node")) == sum(MACS.values())


def test_a_larger_batch_multiplies_the_work(files: dict[str, str]) -> None:
    (((one, _),), _) = measure([files["float"]], PEAKS, batch=4, iterations=3)
    assert sum(row.macs or 0 for row in one.rows("node")) == 4 * sum(MACS.values())


def test_names_of_older_exporters_tell_the_module() -> None:
    assert module._path("/layer1/layer1.0/conv1/Conv") == "layer1.0.conv1"
    assert module._path("/features/features.0/features.0.0/Conv") == "features.0.0"
    assert module._path("Conv_3") == ""


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_the_command_line_ends_with_the_sentence_and_the_command(
    files: dict[str, str], known_peaks: None, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", files[kind], "--by", "module", "--iterations", "6"]) == 0
    *_, verdict, again = capsys.readouterr().out.splitlines()
    assert re.search(r"\d+ % of the time is in \d+ of \d+ nodes", verdict)
    assert again == f"again: edgecnn profile {files[kind]} --by module --iterations 6"


def test_json_is_one_document(files: dict[str, str], known_peaks: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", files["int8"], "--iterations", "6", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"machine", "peaks", "by_node", "by_module", "by_op", "spots", "verdict", "plain_us"} <= document.keys()
    assert {spot["kind"] for spot in document["spots"]} >= {"island", "work"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "none.onnx"}, "no such file"),
        ({"model": "resnet18"}, "export it first"),
        ({"by": "layer"}, "grouping"),
        ({"depth": 2}, "add --by module"),
        ({"iterations": 0}, "at least 1"),
        ({"plot": "p.txt"}, "no picture's name"),
        ({"csv": "no/such/place.csv"}, "no such folder"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_requests_are_refused(
    files: dict[str, str], known_peaks: None, options: dict[str, object], message: str
) -> None:
    with pytest.raises(api.BadInput, match=message):
        profile(**{"model": files["float"], **options})  # type: ignore[arg-type]


def test_timing_is_of_the_shared_record() -> None:
    assert TIMING.waited == pytest.approx(1.01)
