"""`edgecnn bench`: what is measured belongs to the model, a faster model is called faster, a crash is one line."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from edgecnn.cli import main
from edgecnn.latency import benchmark, fresh_process
from edgecnn.latency.benchmark import bench
from edgecnn.latency.fresh_process import ROOT
from edgecnn.latency.job import Job
from edgecnn.report import Page
from runtimes.base import BadInput, EdgeError, Unavailable, silent
from runtimes.census import Kernel
from runtimes.device.tables import benched
from runtimes.execution.fresh import TIMEOUT_S, Probe, peak_bytes
from runtimes.latency import LatencyReport, Race
from runtimes.machine import describe
from runtimes.timing.bench_report import BenchReport, Heat, ModelBench, Outcome
from runtimes.timing.noise import Noise
from small_nets import conv_net, model, save
from test_pack import heavy
from test_sandbox import alive

FEW = {"iterations": 20, "warmup": 1, "threads": 1}


FIXED = '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4] x) => (float[1, 4] y) { y = Relu (x) }'


def job(path: Path, **changes: object) -> Job:
    return Job(**{"model": str(path), "provider": "cpu", "threads": 1, "batch": 1, "seed": 0, **changes})  # type: ignore[arg-type]


@pytest.mark.usefixtures("quick_measurements")
def test_a_larger_network_is_called_slower(tmp_path: Path) -> None:
    small = save(conv_net(8, 32), tmp_path / "small.onnx")
    large = save(conv_net(128, 32), tmp_path / "large.onnx")
    report = bench([large, small], **FEW)
    (ratio,) = report.ratios
    assert (ratio.a, ratio.b, ratio.verdict) == (str(large), str(small), "slower")
    assert ratio.ratio < 1
    assert report.failure is None
    assert f"{small} is" in report.verdict
    assert "faster" in report.verdict


def test_the_document_has_the_fields_others_rely_on(tmp_path: Path) -> None:
    path = save(conv_net(), tmp_path / "net.onnx")
    document = bench(path, batch=2, **FEW).to_dict()
    (row,) = document["models"]
    assert document["ratios"] == []
    assert document["machine"]["threads"] >= 1
    assert (row["model"], row["provider"], row["batch"], row["threads"]) == (str(path), "cpu", 2, 1)
    assert row["samples"] == 20
    assert row["p90_ms"] is row["p99_ms"] is None  # 20 samples say nothing about them
    assert row["images_per_s"] == pytest.approx(2000 / row["mean_ms"])
    assert row["load_ms"] > 0
    assert row["first_ms"] > 0
    assert row["peak_rss_mb"] > 20
    assert row["kernels"]["Gemm"] == 1
    assert sum(row["kernels"].values()) >= 4
    assert row["providers_used"] == ["cpu"]


def test_of_three_processes_it_is_the_middle_time_and_the_largest_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([Probe(3.0, 1.0, 10.0), Probe(1.0, 5.0, 30.0, finite=False), Probe(2.0, 3.0, 20.0)])
    monkeypatch.setattr(benchmark, "probe", lambda _: next(seen))
    assert benchmark._probe(job(Path("net.onnx")), silent) == Probe(2.0, 3.0, 30.0, finite=False)
    assert list(seen) == []


def test_peak_memory_is_the_models_and_not_the_callers(tmp_path: Path) -> None:
    """A forked child starts with its parent's ru_maxrss: the number must not grow with the caller."""
    path = save(conv_net(), tmp_path / "net.onnx")
    before = fresh_process.probe(job(path)).peak_rss_mb
    ballast = np.ones(60_000_000)  # 480 MB, really touched
    assert peak_bytes() > 4e8
    assert fresh_process.probe(job(path)).peak_rss_mb < before + 100
    assert ballast[-1] == 1


def test_peak_memory_is_resident_memory() -> None:
    """Against the kernel's other count of the same thing, which can only be larger (runtimes/execution/fresh.py)."""
    resource = pytest.importorskip("resource", reason="Windows has no getrusage, and no peak is measured there")
    unit = 1 if sys.platform == "darwin" else 1024
    assert 2e7 < peak_bytes() <= 1.01 * unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_peak_memory_grows_with_the_model(tmp_path: Path) -> None:
    small = fresh_process.probe(job(save(conv_net(8, 8), tmp_path / "s.onnx"))).peak_rss_mb
    wide = save(conv_net(64, 512), tmp_path / "l.onnx")
    assert fresh_process.probe(job(wide)).peak_rss_mb > small + 64  # one activation alone: 64 x 512 x 512 x 4 bytes


def test_a_model_that_kills_the_runtime_is_one_line(tmp_path: Path) -> None:
    """Constant folding of INT64_MIN / -1 raises SIGFPE inside ONNX Runtime: the child dies, not the caller."""
    deadly = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (int64[1] x) => (int64[1] y) { d = Div (a, b) y = Add (x, d) }',
        a=np.array([-(2**63)]), b=np.array([-1]),
    )  # fmt: skip
    path = save(deadly, tmp_path / "deadly.onnx")
    with pytest.raises(BadInput, match=r"deadly.onnx: ONNX Runtime crashed on it \(signal 8\)"):
        bench(path, **FEW)


def test_errors_of_the_child_keep_their_kind(tmp_path: Path) -> None:
    path = save(conv_net(), tmp_path / "net.onnx")
    with pytest.raises(BadInput, match="unknown provider"):
        fresh_process.probe(job(path, provider="cpuu"))
    with pytest.raises(BadInput, match="unknown input"):
        fresh_process.probe(job(path, input_shape=("z:1,3,8,8",)))
    with pytest.raises(BadInput, match="no such file"):
        fresh_process.probe(job(tmp_path / "none.onnx"))


def test_a_bug_in_the_child_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="bug in edgecnn: ") as caught:
        fresh_process.probe(job(save(conv_net(), tmp_path / "net.onnx"), threads="two"))
    assert caught.value.exit_code == 5


def test_a_provider_that_cannot_run_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtimes.providers import cuda

    try:
        cuda.require()
    except Unavailable:
        with pytest.raises(Unavailable, match="cuda"):
            bench(save(conv_net(), tmp_path / "net.onnx"), provider="cuda", **FEW)
    else:
        assert bench(save(conv_net(), tmp_path / "net.onnx"), provider="cuda", **FEW).models[0].provider == "cuda"


def test_every_file_is_looked_at_before_the_first_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(conv_net(), tmp_path / "net.onnx")
    monkeypatch.setattr(benchmark, "probe", lambda job: pytest.fail("measured something"))
    with pytest.raises(BadInput, match="no such file"):
        bench([path, tmp_path / "none.onnx"], **FEW)
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"x")
    with pytest.raises(BadInput, match="edgecnn export"):
        bench([path, weights], **FEW)
    with pytest.raises(BadInput, match="0 models"):
        bench([], **FEW)


@pytest.mark.parametrize(
    ("source", "name"), [("lenet5", "lenet5"), ("nets.py:Net", "Net"), ("torchvision:resnet50", "resnet50")]
)
def test_a_network_needs_a_word_before_it(source: str, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        bench(source, **FEW)
    assert str(caught.value) == (
        f"{source}: is a PyTorch network; race it as torch:{source} or compile:{source}, "
        f"or export it: `edgecnn export {source} -o {name}.onnx`"
    )
    with pytest.raises(BadInput, match="lenet6: no such file"):
        bench("lenet6", **FEW)


def test_the_same_file_twice_is_the_same(tmp_path: Path) -> None:
    path = save(conv_net(16, 16), tmp_path / "net.onnx")
    report = bench([path, path], iterations=300, threads=1)
    assert report.heats[0].race.names == (str(path), f"{path} #2")
    assert report.ratios[0].verdict in ("same", "inconclusive")


QUIET = Noise(0.1, 0.0, 0.0, None, None, None, None)


def fixed(times: dict[str, list[float]]) -> BenchReport:
    """A report of made-up samples."""
    reports = {name: LatencyReport(tuple(values), tuple(values)) for name, values in times.items()}
    rows = tuple(
        ModelBench(name, "cpu", 1, 1, Probe(1.0, 1.0, 1.0), report, (Kernel("Conv", "cpu", 2, 1.0),))
        for name, report in reports.items()
    )
    return BenchReport(describe(), (Heat(rows, Race(reports, "cpu"), QUIET),), 0)


@pytest.mark.parametrize(
    ("kernel", "provider", "remarks"),
    [
        (Kernel("Conv", "cuda", 2, 1.0), "cuda", ()),
        (Kernel("Conv", "cuda", 2, 1.0, half=True), "cuda:use_tf32=1", ()),
        (
            Kernel("Conv", "cuda", 2, 1.0, half=True), "cuda:prefer_nhwc=1",
            ("its float16 convolutions ran without tensor cores; ask for --provider cuda:use_tf32=1,prefer_nhwc=1",),
        ),
        (Kernel("Conv", "cpu", 2, 1.0, half=True), "cpu", ()),
        (
            Kernel("DequantizeLinear", "cuda", 2, 1.0), "cuda",
            ("its int8 ran dequantized, in float; cuda has no integer convolution",),
        ),
    ],
    ids=["float32", "float16", "float16 without tensor cores", "float16 on a CPU", "int8"],
)  # fmt: skip
def test_what_arithmetic_it_was_is_told(
    kernel: Kernel, provider: str, remarks: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    latency = LatencyReport((1.0,) * 50, (1.0,) * 50)
    row = ModelBench("m.onnx", provider, 1, 1, Probe(1.0, 1.0, 1.0), latency, (kernel,))
    assert row.to_dict()["remarks"] == list(remarks)
    report = BenchReport(describe(), (Heat((row,), Race({"m.onnx": latency}, "wall"), QUIET),), 0)
    benched(Page(sys.stdout), report)
    printed = " ".join(capsys.readouterr().out.split())
    assert all(f"m.onnx: {remark}" in printed for remark in remarks)
    assert ("without tensor cores" in printed) == ("without tensor cores" in " ".join(remarks))


@pytest.mark.parametrize(
    ("noise", "words"),
    [(QUIET, "nothing else seen"), (Noise(0.1, None, None, None, None, None, None), "nothing else could be seen")],
)
def test_what_no_counter_told_is_not_said_to_be_quiet(
    noise: Noise, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    latency = LatencyReport((1.0,) * 50, (1.0,) * 50)
    row = ModelBench("m.onnx", "cpu", 1, 1, Probe(1.0, 1.0, 1.0), latency, ())
    benched(Page(sys.stdout), BenchReport(describe(), (Heat((row,), Race({"m.onnx": latency}, "wall"), noise),), 0))
    assert f"load average 0.1 before; {words}" in " ".join(capsys.readouterr().out.split())


def test_the_winner_is_faster_than_each_of_the_others() -> None:
    steady, wild = [1.0] * 50, list(np.random.default_rng(0).uniform(0.8, 1.3, 50))
    assert fixed({"a": steady, "b": wild}).heats[0].winner is None
    assert "a against b is inconclusive" in fixed({"a": steady, "b": wild}).verdict
    assert fixed({"a": steady, "b": steady}).heats[0].winner is None
    three = fixed({"a": [2.0] * 50, "b": steady, "c": [3.0] * 50})
    assert [(r.a, r.b) for r in three.heats[0].winning] == [("b", "a"), ("b", "c")]
    assert three.heats[0].winner == "b"
    assert len(three.ratios) == 3


@pytest.mark.parametrize(
    ("states", "code", "first"),
    [
        (("passed", "passed"), None, ""),
        (("passed", "inconclusive"), 3, "gate q1: inconclusive"),
        (("inconclusive", "missed"), 1, "gate q1: missed"),
        (("missed", "missed"), 1, r"gate q0: missed, 1.50x \(95 %: 1.40 to 1.60\) on cpu \(and 1 more\)"),
    ],
)
def test_what_was_asked_decides_the_exit_code(states: tuple[str, ...], code: int | None, first: str) -> None:
    """Without a gate nothing fails, however noisy the race was: nothing was asked."""
    asked = tuple(Outcome(f"q{i}", "cpu", state, "x", 2.0, 1.5, 1.4, 1.6) for i, state in enumerate(states))  # type: ignore[arg-type]
    report = fixed({"a": [1.0] * 50, "b": [0.8, 1.3] * 25})
    assert report.failure is None
    failure = replace(report, gates=asked).failure
    assert (failure and failure.exit_code) == code
    if failure:
        assert re.match(first, str(failure))


def test_the_system_and_the_models_say_how_noisy_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    report = fixed({"a": [1.0] * 50, "b": [1.1, 1.0, 1.0, 1.1, 1.1] * 10})
    loud = Noise(3.0, 40.0, 2.0, None, None, None, None)
    report = replace(report, heats=(replace(report.heats[0], noise=loud),))
    (row,) = report.to_dict()["noise"]
    assert (row["clock"], row["rounds"], row["load"], row["steal_percent"]) == ("cpu", 50, 3.0, 2.0)
    assert row["causes"] == ["other processes used 40 % of the CPUs", "the hypervisor took 2 % away (steal)"]
    assert [half["model"] for half in row["itself"]] == ["a", "b"]
    assert row["itself"][0]["ratio"] == 1.0
    page = Page(sys.stdout)
    benched(page, report)
    printed = capsys.readouterr().out
    assert "load average 3.0 before; other processes used 40 % of the CPUs; the hypervisor took 2 % away" in printed
    assert "50 runs: p90 needs 100 and p99 needs 1,000.\n" in printed
    benched(page, fixed({"a": [1.0] * 100}))
    assert "100 runs: p99 needs 1,000.\n" in capsys.readouterr().out
    assert "p90" not in printed.splitlines()[8], "a column that nobody can fill is left out"


def test_every_number_says_on_which_clock_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a neighbour wall times belie the ratio: 1.4 / 0.8 stands beside 1.61x, which is 1.29 / 0.80."""
    wall, cpu = {"a": 1.4, "b": 0.8}, {"a": 1.29, "b": 0.8}
    reports = {name: LatencyReport((wall[name],) * 50, (cpu[name],) * 50) for name in wall}
    rows = tuple(ModelBench(name, "cpu", 1, 1, Probe(1.0, 1.0, 1.0), reports[name], ()) for name in wall)
    report = BenchReport(describe(), (Heat(rows, Race(reports, "cpu"), QUIET),), 0)
    benched(Page(sys.stdout), report)
    printed = " ".join(capsys.readouterr().out.split())
    assert "p50 ms (wall)" in printed
    assert "times in the table: wall time; ratios: CPU time, whose medians are a 1.29 ms, b 0.800 ms." in printed
    document = report.to_dict()
    assert [(m["clock"], m["p50_ms"], m["p50_cpu_ms"]) for m in document["models"]] == [
        ("wall", 1.4, 1.29), ("wall", 0.8, 0.8)
    ]  # fmt: skip
    (ratio,) = document["ratios"]
    assert (ratio["clock"], ratio["ratio"]) == ("cpu", pytest.approx(0.8 / 1.29))
    on_wall = replace(report, heats=(replace(report.heats[0], race=Race(reports, "wall")),))
    assert on_wall.heats[0].clocks == "times and ratios: wall time"
    assert on_wall.to_dict()["ratios"][0]["clock"] == "wall"
    assert fixed({"a": [1.0] * 9}).heats[0].clocks == ""


@pytest.mark.usefixtures("quick_measurements")
def test_a_sweep_is_a_race_for_each_combination(tmp_path: Path) -> None:
    small, large = save(conv_net(8, 32), tmp_path / "small.onnx"), save(conv_net(64, 32), tmp_path / "large.onnx")
    report = bench([small, large], threads=(1, 2), batch=[1, 4], iterations=8, warmup=1, gate="small >= 1.01x large")
    combinations = [(h.key["batch"], h.key["threads"]) for h in report.heats]
    assert combinations == [(1, 1), (1, 2), (4, 1), (4, 2)]
    document = report.to_dict()
    assert [(row["batch"], row["threads"]) for row in document["models"][::2]] == combinations
    assert [(row["batch"], row["threads"]) for row in document["ratios"]] == combinations
    assert {row["a"] for row in document["ratios"]} == {str(small)}
    assert [row["heat"] for row in document["gates"]] == [h.name for h in report.heats]
    assert report.heats[3].name == "cpu, 2 threads, batch 4"
    assert re.match(r"4 races, fastest beyond doubt: ", report.verdict)
    one = replace(report, heats=tuple(replace(h, models=h.models[:1]) for h in report.heats))
    assert re.match(rf"{re.escape(str(small))}: most images in a second, [\d,.e+]+, on cpu, ", one.verdict)


@pytest.mark.usefixtures("quick_measurements")
def test_what_cannot_run_is_found_before_the_first_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(conv_net(), tmp_path / "net.onnx")
    monkeypatch.setattr(benchmark, "heat", lambda *_, **__: pytest.fail("raced"))
    with pytest.raises(BadInput, match="fixed to"):
        bench(save(model(FIXED), tmp_path / "fixed.onnx"), batch=[1, 2], **FEW)
    monkeypatch.setattr(benchmark, "probe", lambda _: pytest.fail("measured something"))
    with pytest.raises(BadInput, match="unknown provider"):
        bench(path, provider="cpu,cudaa", **FEW)
    with pytest.raises(BadInput, match="is no gate"):
        bench(path, gate="faster!", **FEW)
    with pytest.raises(BadInput, match="weights are for torch:SOURCE"):
        bench(path, weights="w.safetensors", **FEW)
    with pytest.raises(BadInput, match="exists already"):
        bench(path, csv=save(conv_net(), tmp_path / "other.onnx"), **FEW)
    with pytest.raises(BadInput, match="is no picture's name"):
        bench(path, plot=tmp_path / "p.txt", **FEW)
    with pytest.raises(BadInput, match="no such file"):
        bench(path, baseline=tmp_path / "none.json", **FEW)


@pytest.mark.usefixtures("quick_measurements")
def test_every_sample_is_a_line(tmp_path: Path) -> None:
    path, table = save(conv_net(), tmp_path / "net.onnx"), tmp_path / "samples.csv"
    report = bench([path, path], threads=[1, 2], iterations=7, warmup=0, csv=table)
    with open(table, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 2 * 7
    assert list(rows[0]) == ["model", "provider", "batch", "threads", "round", "wall_ms", "cpu_ms"]
    mine = [float(r["wall_ms"]) for r in rows if (r["model"], r["threads"]) == (f"{path} #2", "2")]
    assert mine == list(report.models[3].latency.samples_ms)


@pytest.mark.usefixtures("quick_measurements")
def test_the_command_shows_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(conv_net(), tmp_path / "net.onnx")
    assert main(["bench", str(path), "--iterations", "20", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert lines[-1] == f"again: edgecnn bench {path} --iterations 20 --threads 1"
    assert "median of 20 runs" in lines[-2]
    assert main(["bench", str(path), "--iterations", "20", "--threads", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["samples"] == 20


@pytest.mark.usefixtures("quick_measurements")
def test_a_gate_and_a_baseline_decide_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = save(conv_net(8, 32), tmp_path / "small.onnx"), save(conv_net(128, 32), tmp_path / "large.onnx")
    command = ["bench", str(small), str(large), "--iterations", "20", "--threads", "1"]
    assert main([*command, "--json"]) == 0
    (tmp_path / "then.json").write_text(capsys.readouterr().out)
    assert main([*command, "--gate", "#1 >= 1.5x large", "--gate", "large >= 1x small"]) == 1
    shown = capsys.readouterr()
    assert "gate #1 >= 1.5x large: passed, " in shown.out
    assert shown.err.startswith("error: gate large >= 1x small: missed, 0.")
    assert main([*command, "--gate", "p99 of small <= 1 s"]) == 3
    assert "20 samples are too few for p99 on cpu, 1 thread, batch 1; raise --iterations" in capsys.readouterr().err
    assert main([*command, "--baseline", str(tmp_path / "then.json"), "--tolerance", "0.9"]) == 0
    swapped = ["bench", str(large), str(small), *command[3:], "--baseline", str(tmp_path / "then.json")]
    (tmp_path / "small.onnx").write_bytes(large.read_bytes())
    assert main([*swapped, "--tolerance", "0.2"]) == 1
    assert f"{small} over {large}, no slower than in " in capsys.readouterr().out
    base = ["--baseline", str(tmp_path / "then.json"), "--tolerance", "0.99"]
    assert main(["bench", str(small), *command[3:], *base]) in (0, 3)
    shown = capsys.readouterr().out
    assert f"in the baseline, not measured now: {large} on cpu, 1 thread, batch 1" in shown
    monkeypatch.setattr(benchmark, "probe", lambda _: pytest.fail("measured something"))
    new = save(conv_net(8, 32), tmp_path / "new.onnx")
    assert main(["bench", str(small), str(new), *command[3:], *base]) == 2
    assert "then.json: does not know " in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.onnx"))
    save(conv_net(), path)
    command = [sys.executable, "-m", "edgecnn", "bench", os.fsencode(path), "--iterations", "5", "--json"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert os.fsencode(json.loads(done.stdout)["models"][0]["model"]) == os.fsencode(path)


@pytest.mark.usefixtures("quick_measurements")
def test_a_bundle_whose_weights_lie_beside_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The census opens the model once more, and must find them too."""
    heavy(tmp_path / "n.edge", monkeypatch)
    (row,) = bench(tmp_path / "n.edge", iterations=6, threads=1).models
    assert sum(count for op, count in row.to_dict()["kernels"].items() if "Conv" in op) == 1  # Conv, or FusedConv


ENDLESS = """<ir_version: 9, opset_import: ["" : 20]>
g (float[1] x, int64 rounds, bool go) => (float[1] y) {
    y = Loop (rounds, go, x) <body = b (int64 i, bool c, float[1] v) => (bool d, float[1] w) {
        d = Identity (c) w = Relu (v)
    }>
}"""


def endless(path: Path) -> Path:
    """A model of 2^62 rounds."""
    made = onnx.parser.parse_model(ENDLESS.replace(", int64 rounds, bool go", ""))
    for name, value in (("rounds", np.array(2**62)), ("go", np.array(True))):
        made.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return save(made, path)


def test_a_model_that_never_ends_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = endless(tmp_path / "endless.onnx")
    monkeypatch.setitem(TIMEOUT_S, "ONNX Runtime", 2)
    with pytest.raises(BadInput, match=r"endless.onnx: loading it and one run take longer than 2 s; use a smaller"):
        bench(path, **FEW)


def test_where_no_process_is_to_be_had_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "run", full)
    line = rf"^{re.escape(sys.executable)}: cannot be started \(Resource temporarily unavailable\), and a model is me"
    with pytest.raises(Unavailable, match=line):
        bench(save(conv_net(), tmp_path / "net.onnx"), **FEW)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """Killed without a word, a race must not leave a model running for ever."""
    script = (
        "import subprocess; from edgecnn.latency import fresh_process as f\n"
        "def note(args, **more):\n"
        "    child = subprocess.Popen(args, stdin=-1); child.stdin.write(more['input']); child.stdin.close()\n"
        "    print(child.pid, flush=True); child.wait()\n"
        "subprocess.run = note\n"
        f"f.probe(f.Job({str(endless(tmp_path / 'net.onnx'))!r}, 'cpu', 1, 1, 0))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=-1, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    end = time.monotonic() + 10
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(pid)


@pytest.mark.usefixtures("quick_measurements")
def test_nan_is_not_raced_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = conv_net()
    variance = next(t for t in wrong.graph.initializer if t.name == "var")
    variance.CopyFrom(onnx.numpy_helper.from_array(np.full(8, -1, np.float32), "var"))
    path, good = save(wrong, tmp_path / "wrong.onnx"), save(conv_net(), tmp_path / "good.onnx")
    assert main(["bench", str(path), str(good), "--iterations", "2", "--warmup", "0", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert f"{path}: answers these inputs with NaN or infinity" in out
    assert f"{good}: answers" not in out
    found = {row["model"]: row["finite"] for row in bench([path, good], **FEW).to_dict()["models"]}
    assert found == {str(path): False, str(good): True}


def test_inputs_that_cannot_be_made_are_named_with_their_model(tmp_path: Path) -> None:
    huge = onnx.parser.parse_model(FIXED.replace("float[1, 4]", "float[1099511627776, 4]"))
    path = save(huge, tmp_path / "huge.onnx")
    with pytest.raises(BadInput, match=r"^.*huge.onnx: inputs: 16,777,216 MiB asked for, the limit is 1,024"):
        bench(path, **FEW)
