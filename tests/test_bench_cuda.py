"""bench/cuda.py without a GPU: its steps run on the CPU, its verdicts on made-up rows, and it says why not."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import cuda_stand_in
from runtimes.base import Unavailable
from runtimes.execution import provider_options
from runtimes.providers import cuda as provider
from runtimes.session import open_session
from test_bench import load

ROOT = Path(__file__).resolve().parent.parent
cuda = load(ROOT / "bench" / "cuda.py")
ABSENT = ("click", "rich", "safetensors", "PIL", "onnxsim", "onnxscript", "onnx_ir", "matplotlib", "pycocotools")
"""What the machine with the GPU does not have."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A dry run in a process that has torch, onnx, numpy and ONNX Runtime only."""
    out = tmp_path_factory.mktemp("bench") / "dry.jsonl"
    words = ["lenet5", "--quick", "--allow-cpu", "--workers", "1", "--seconds", "0.2", "--output", str(out)]
    script = (
        f"import sys, runpy\nfor name in {ABSENT!r}: sys.modules[name] = None\n"
        f"sys.argv = ['bench/cuda.py', *{words!r}]\n"
        f"runpy.run_path({str(ROOT / 'bench' / 'cuda.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=out.parent, check=False)
    assert done.returncode == 0, done.stderr
    assert "| `lenet5`, 1 |" in done.stdout
    assert " s  latency lenet5 1 | float32 " in done.stderr, "whoever waits sees each row"
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_every_step_gives_a_row(rows: list[dict[str, Any]]) -> None:
    kinds = [row["kind"] for row in rows]
    assert kinds == ["machine", "peak", "latency", "latency", "parity", "sweep", "sweep"]


def test_peaks_are_positive_and_percents_of_them(rows: list[dict[str, Any]]) -> None:
    peak, latency = rows[1], rows[2]
    assert all(value > 0 for name, value in peak.items() if name != "kind")
    macs = next(row.macs for row in cuda.zoo.list_models() if row.name == "lenet5")
    ms = latency["p50_ms"]["float32"]
    wanted = 100 * 2 * macs / (ms / 1000) / 1e12 / peak["fp32_tops"]
    assert latency["percent_of_peak"]["float32"] == pytest.approx(wanted)


def test_competitors_run_or_say_why_not(rows: list[dict[str, Any]]) -> None:
    latency = rows[2]
    assert {"float32", "float16", cuda.EAGER} <= set(latency["p50_ms"])
    assert latency["failed"]["torch.compile float16"].startswith("torch.compile: compiled for a GPU only")
    assert set(latency["ratios"]) == set(latency["p50_ms"]) - {latency["best"]}
    assert "synchronised" in latency["method"]
    assert set(latency["made_s"]) == set(latency["p50_ms"]) | set(latency["failed"])


def test_int8_is_measured_and_called_what_it_is(rows: list[dict[str, Any]]) -> None:
    """On a CPU it runs in integers; copies, too, are measured beside the race."""
    latency = rows[2]
    assert set(latency["alone_ms"]) == set(cuda.ALONE)
    assert latency["alone_failed"] == {}
    assert latency["int8_dequantized"] is False
    assert latency["int8_kernels"]["QLinearConv on cpu"] == 2
    assert set(latency["copies_ms"]) == {"in", "out"}
    assert all(ms > 0 for ms in latency["copies_ms"].values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's older exporter
def test_a_rewritten_network_is_the_same_and_one_that_is_not_rewritten_says_so() -> None:
    network = cuda.load("resnet8")
    graph = network.graph("pad_inputs")
    assert network.graph("pad_inputs") is graph, "made once"
    feed = network.feed(1)
    there, here = (open_session(model, threads=1)(feed)["logits"] for model in (graph, network.graphs["half"]))
    assert np.allclose(there, here, rtol=0.01, atol=0.01)
    with pytest.raises(Unavailable, match="space_to_depth: changes nothing in it"):
        network.graph("space_to_depth")


def failed_to_run(row: dict[str, Any]) -> set[str]:
    """Competitors that are missing in a row of latencies, but for forms that this network has not."""
    return {name for name, why in row["failed"].items() if not why.endswith("changes nothing in it")}


def on_a_pretended_gpu(monkeypatch: pytest.MonkeyPatch, left_s: float = math.inf) -> cuda.Place:
    """All of ours, on the CPU; none of PyTorch's."""
    cuda_stand_in.install(monkeypatch)
    monkeypatch.setattr(cuda, "THEIRS", {})
    return cuda.Place("cuda", "cuda", time.monotonic() + left_s)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's older exporter
def test_all_settings_of_a_gpu_are_raced_with_what_each_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    place = on_a_pretended_gpu(monkeypatch)
    options, peak = SimpleNamespace(seconds=0.1), dict.fromkeys(("fp32_tops", "tf32_tops", "fp16_tops"), 1.0)
    row = cuda.latency(cuda.load("resnet8"), 2, place, options, peak, cuda.Later(0, 0.0))
    assert failed_to_run(row) == set()
    assert {"float32", "float16 NHWC graph, fused, float16 in and out"} <= set(row["p50_ms"])
    assert set(row["p50_ms"]) | set(row["failed"]) == set(cuda.OURS)
    assert set(place.made) == set(cuda.OURS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's older exporter
def test_float16_in_and_out_is_the_same_graph() -> None:
    network = cuda.load("resnet8")
    feed = network.feed(2)
    wanted = open_session(network.graph("half"), threads=1)(feed)["logits"]
    found = open_session(network.graph("half+own_io"), threads=1)(cuda.fed("half+own_io", feed))["logits"]
    assert (found.dtype, found.shape) == (np.float16, wanted.shape)
    assert np.allclose(found, wanted, rtol=0.01, atol=0.01)
    assert cuda.fed("half", feed) is feed
    assert not {"Cast", "Transpose"} & {node.op_type for node in network.graph("half+own_io").graph.node[1:]}
    with pytest.raises(Unavailable, match="of a node in float32"):
        cuda.own_io(network.graph("float"))


@pytest.mark.parametrize("part", cuda.PARTS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's older exporter
def test_a_part_can_be_measured_alone(part: str) -> None:
    words = ["lenet5", "--quick", "--only", part, "--seconds", "0.1"]
    rows = cuda.run(cuda.arguments().parse_args(words), cuda.Place("cpu", "cpu", math.inf))
    assert {row["kind"] for row in rows} == {"machine", "peak", part}


def test_what_no_bar_needs_waits_for_what_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other batch, expected to take as long as this one, and what follows the race."""
    later = cuda.Later(1, 150.0)
    assert later.wants({}) == 180.0
    assert later.wants({"float32": 2.0, cuda.COMPILED: 98.0, "TF32": 50.0}) == pytest.approx(310.0)
    place = on_a_pretended_gpu(monkeypatch, 100.0)
    network = cuda.Network("none", torch.nn.Identity(), {}, 1, (1,))
    monkeypatch.setattr(cuda, "opened", lambda *_: lambda: None)
    calls, failed, _ = cuda.competitors(network, {}, place, later)
    assert list(calls) == list(cuda.NEEDED)
    assert set(failed.values()) == {"not tried: the time is for what comes after it"}
    assert set(cuda.competitors(network, {}, place, cuda.Later(0, 0.0))[0]) == set(cuda.OURS)


def test_where_fused_kernels_compile_slowly_there_is_one_network_of_them() -> None:
    fused = [name for name in cuda.OURS if name.startswith(cuda.FIRST_FUSED)]
    assert len(fused) == 6
    for name in (*cuda.OURS, *cuda.THEIRS):
        cuda.refuse_slow(name, {cuda.FIRST_FUSED: 14.0})
        if name in fused:
            with pytest.raises(Unavailable, match="not tried: cuDNN compiled for 31 s"):
                cuda.refuse_slow(name, {cuda.FIRST_FUSED: 31.0})
        else:
            cuda.refuse_slow(name, {cuda.FIRST_FUSED: 31.0})


def test_what_cannot_be_measured_alone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(network: object) -> None:
        raise Unavailable("nothing here")

    monkeypatch.setattr(cuda, "in_int8", fails)
    network = cuda.Network("none", torch.nn.Identity(), {}, 1, (1,))
    found = cuda.measured_alone(network, {}, cuda.Place("cpu", "cpu", math.inf), 0.0)
    assert set(found["alone_failed"]) == set(cuda.ALONE)
    assert found["alone_failed"]["int8"] == "nothing here"
    assert (found["alone_ms"], found["int8_kernels"]) == ({}, {})


def test_every_float16_has_its_tensor_cores_and_no_bias_is_fused_where_it_is_wrong() -> None:
    for name, (graph, text) in cuda.OURS.items():
        asked = provider_options.parse(f"cuda:{text}")
        provider.options(asked.options)  # raises for what is refused
        assert graph == "float" or asked.for_half == asked, name
    assert set(cuda.SWEPT_RACERS) <= set(cuda.OURS) | set(cuda.THEIRS)


def test_parity_holds_each_precision_to_its_own_limit(rows: list[dict[str, Any]]) -> None:
    (parity,) = (row for row in rows if row["kind"] == "parity")
    assert [round(parity[name]["limit_db"]) for name in ("fp32", "tf32", "fp16")] == [80, 40, 40]
    assert all(parity[name]["passed"] for name in ("fp32", "tf32", "fp16"))
    assert parity["fp16"]["snr_db"] < parity["fp32"]["snr_db"]
    assert parity["away"] == []
    assert parity["fused"]["passed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's older exporter
def test_a_parity_prepared_in_files_is_the_same(tmp_path: Path) -> None:
    """Another process writes the graphs and answers; a network that cannot be prepared is a row that says so."""
    place = cuda.Place("cpu", "cpu", math.inf)
    here = cuda.prepare("lenet5")
    cuda.save(here, tmp_path)
    there = cuda.parity("lenet5", lambda: cuda.read(None, tmp_path), place)
    assert there == cuda.parity("lenet5", lambda: here, place)
    assert there["fp16"]["passed"]
    (tmp_path / "answers.npz").unlink()
    assert "answers.npz" in cuda.parity("lenet5", lambda: cuda.read(None, tmp_path), place)["failed"]


def test_what_is_not_begun_in_time_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    place = cuda.Place("cpu", "cpu", -math.inf, workers=1)
    options = cuda.arguments().parse_args([])
    rows = [*cuda.latencies("lenet5", place, options, {}), *cuda.parities(["lenet5"], place)]
    rows += cuda.sweep("lenet5", place, options, {})
    assert [row["left out"] for row in rows] == ["no time"] * 5
    assert cuda.in_short(rows[0]) == "left out lenet5 1 | no time"
    assert cuda.check(rows) == 1
    assert "lenet5: parity no time" in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarm on this system")
def test_a_compile_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where every exception is swallowed, as in a search among kernels; the race goes on without it."""

    def compile_for_ever(*_: object, **__: object) -> Callable[[object], None]:
        def call(_: object) -> None:
            while True:
                with contextlib.suppress(Exception):
                    time.sleep(10)

        return call

    monkeypatch.setattr(torch, "compile", compile_for_ever)
    monkeypatch.setattr(cuda, "half_on_gpu", lambda module, images: (module, images))
    monkeypatch.setattr(cuda, "OURS", {})
    monkeypatch.setattr(cuda, "THEIRS", {cuda.COMPILED: cuda.compiled})
    place = cuda.Place("cpu", "cuda", math.inf, compile_seconds=0.1)
    network = cuda.Network("none", torch.nn.Identity(), {}, 1, (1,))
    calls, failed, made = cuda.competitors(network, {"input": np.zeros(1)}, place, cuda.Later(0, 0.0))
    assert (calls, failed) == ({}, {cuda.COMPILED: "not ready after 0 s"})
    assert set(made) == {cuda.COMPILED}
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarm on this system")
def test_an_alarm_that_was_lost_rings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one in a `__del__` is, which Python ignores."""
    monkeypatch.setattr(cuda, "AGAIN_S", 0.05)

    def loses_the_first() -> None:
        with contextlib.suppress(cuda.TooLong):
            time.sleep(10)
        time.sleep(10)

    with pytest.raises(cuda.TooLong), cuda.at_most(0.05):
        loses_the_first()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_recording_keeps_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of addresses: weights that were freed would be others' by the time it is replayed."""
    log: list[str] = []
    stream = SimpleNamespace(wait_stream=lambda other: None)
    graph = SimpleNamespace(replay=lambda: log.append("replay"))
    for name, value in {
        "Stream": lambda: stream, "current_stream": lambda: stream, "CUDAGraph": lambda: graph,
        "stream": contextlib.nullcontext, "graph": contextlib.nullcontext, "synchronize": lambda: log.append("wait"),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(cuda, "half_on_gpu", lambda module, images: (module, torch.zeros(2)))
    module = torch.nn.Identity()
    alive = weakref.ref(module)
    call = cuda.recorded(module, np.zeros(2), cuda.Place("cpu", "cuda", math.inf))
    del module
    gc.collect()
    call()
    assert alive() is not None
    assert log == ["replay", "wait"]


def on_a_gpu(compiled: float = 1.1, eager: float = 2.5, passed: bool = True) -> list[dict[str, Any]]:
    """Rows as a machine with a GPU would write them."""

    def ratio(value: float) -> dict[str, float]:
        return {"ratio": value, "low": value - 0.01, "high": value + 0.01}

    best = "float16 NHWC graph"
    latency = [
        {
            "kind": "latency", "network": "resnet50", "batch": batch, "best": best,
            "p50_ms": {"float32": 2.0, best: 0.5}, "percent_of_peak": {best: 30.0},
            "ratios": {cuda.COMPILED: ratio(compiled), cuda.EAGER: ratio(eager)}, "alone_ms": {"int8": 1.5},
            "int8_dequantized": True,
        }
        for batch in cuda.BATCHES
    ]  # fmt: skip
    limits = {name: {"passed": passed} for name in ("fp32", "tf32", "fp16")}
    return [
        {"kind": "machine", "gpu": "NVIDIA Test", "cuda": "13.0", "onnxruntime": "1.31.1", "torch": "2.11"},
        {"kind": "peak", "fp16_tops": 800.0, "fp32_tops": 50.0, "tf32_tops": 400.0, "copy_gb_s": 4000.0},
        *latency,
        {"kind": "parity", "network": "resnet18", **limits},
    ]


def test_the_table_names_the_machine_and_the_ratios() -> None:
    text = cuda.table(on_a_gpu())
    assert text.startswith("NVIDIA Test, CUDA 13.0, ONNX Runtime 1.31.1, torch 2.11; peak (measured): 800 TFLOP/s")
    assert "| `resnet50`, 64 | 2 | **0.5** (float16 NHWC graph) | 30 | 2.50x (2.49 to 2.51) | 1.10x" in text
    assert "1 of 1 classifiers" in text
    assert "int8 of `resnet50`, 64 ran dequantized, in float: 1.5 ms, 3.0x the best float16's time." in text


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (on_a_gpu(), "every bar holds"),
        (on_a_gpu(compiled=0.9), "resnet50 at batch 64: 0.90x of torch.compile float16, wanted 1.0x"),
        (on_a_gpu(eager=1.9), "resnet50 at batch 1: 1.90x of torch eager float32, wanted 2.0x"),
        (on_a_gpu(passed=False), "resnet18: parity missed"),
        (
            [row | {"ratios": {}, "failed": {cuda.COMPILED: "no compiler"}} for row in on_a_gpu()],
            "resnet50 at batch 64: torch.compile float16 not measured: no compiler",
        ),
        ([row for row in on_a_gpu() if row.get("batch") != 64], "resnet50 at batch 64: not measured"),
        ([row for row in on_a_gpu() if row["kind"] != "parity"], "parity: not measured"),
    ],
    ids=["good", "slower than compile", "slower than eager", "parity", "not compiled", "missing", "no parity"],
)
def test_a_missed_bar_is_named(rows: list[dict[str, Any]], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda.check(rows) == (0 if words == "every bar holds" else 1)
    assert words in capsys.readouterr().out


def test_committed_results_are_of_a_gpu_and_in_the_readme() -> None:
    if not cuda.RESULTS.exists():
        pytest.skip("no results of a GPU are committed yet")
    found = [json.loads(line) for line in cuda.RESULTS.read_text().splitlines()]
    assert found[0]["gpu"] != "none"
    assert cuda.table(found) in (ROOT / "README.md").read_text("utf-8")


def test_without_a_gpu_it_is_exit_4_with_the_cause(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        provider.require()
    except Unavailable as error:
        cause = str(error)
    else:
        pytest.skip("there is a GPU here")
    assert cuda.main(["--quick"]) == 4
    assert capsys.readouterr() == ("", f"error: {cause}\n")


def test_a_dry_run_cannot_overwrite_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda.main(["--allow-cpu"]) == 2
    assert "give --output" in capsys.readouterr().err


@pytest.mark.cuda
def test_on_the_gpu_one_network_is_measured(tmp_path: Path) -> None:
    """All but torch.compile, which takes minutes."""
    cuda_stand_in.require_gpu()
    out = tmp_path / "out.jsonl"
    words = ["resnet8_w32", "--quick", "--compile-seconds", "0", "--seconds", "1", "--output", str(out)]
    assert cuda.main(words) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    (parity,) = (row for row in rows if row["kind"] == "parity")
    assert [name for name in ("fp32", "tf32", "fp16") if not parity[name]["passed"]] == []
    for row in (row for row in rows if row["kind"] == "latency"):
        assert failed_to_run(row) == {cuda.COMPILED}
