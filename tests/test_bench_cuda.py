"""bench/cuda.py without a GPU: its steps run on the CPU, its verdicts on made-up rows, and it says why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cuda_stand_in
from runtimes.base import Unavailable
from runtimes.providers import cuda as provider
from test_bench import load

ROOT = Path(__file__).resolve().parent.parent
cuda = load(ROOT / "bench" / "cuda.py")
ABSENT = ("click", "rich", "safetensors", "PIL", "onnxsim", "onnxscript", "onnx_ir", "matplotlib", "pycocotools")
"""What the machine with the GPU does not have."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A dry run in a process that has torch, onnx, numpy and ONNX Runtime only."""
    out = tmp_path_factory.mktemp("bench") / "dry.jsonl"
    words = ["lenet5", "--quick", "--allow-cpu", "--seconds", "0.2", "--output", str(out)]
    script = (
        f"import sys, runpy\nfor name in {ABSENT!r}: sys.modules[name] = None\n"
        f"sys.argv = ['bench/cuda.py', *{words!r}]\n"
        f"runpy.run_path({str(ROOT / 'bench' / 'cuda.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=out.parent, check=False)
    assert done.returncode == 0, done.stderr
    assert "| `lenet5`, 1 |" in done.stdout
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


def test_parity_holds_each_precision_to_its_own_limit(rows: list[dict[str, Any]]) -> None:
    (parity,) = (row for row in rows if row["kind"] == "parity")
    assert [round(parity[name]["limit_db"]) for name in ("fp32", "tf32", "fp16")] == [80, 40, 40]
    assert all(parity[name]["passed"] for name in ("fp32", "tf32", "fp16"))
    assert parity["fp16"]["snr_db"] < parity["fp32"]["snr_db"]
    assert parity["away"] == []


def on_a_gpu(compiled: float = 1.1, eager: float = 2.5, passed: bool = True) -> list[dict[str, Any]]:
    """Rows as a machine with a GPU would write them."""

    def ratio(value: float) -> dict[str, float]:
        return {"ratio": value, "low": value - 0.01, "high": value + 0.01}

    best = "float16 NHWC graph"
    latency = [
        {
            "kind": "latency", "network": "resnet50", "batch": batch, "best": best,
            "p50_ms": {"float32": 2.0, best: 0.5}, "percent_of_peak": {best: 30.0},
            "ratios": {cuda.COMPILED: ratio(compiled), cuda.EAGER: ratio(eager)},
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


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (on_a_gpu(), "every bar holds"),
        (on_a_gpu(compiled=0.9), "resnet50 at batch 64: 0.90x of torch.compile float16, wanted 1.0x"),
        (on_a_gpu(eager=1.9), "resnet50 at batch 1: 1.90x of torch eager float32, wanted 2.0x"),
        (on_a_gpu(passed=False), "resnet18: parity missed"),
        ([row for row in on_a_gpu() if row.get("batch") != 64], "resnet50 at batch 64: not measured"),
    ],
    ids=["good", "slower than compile", "slower than eager", "parity", "missing"],
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
    cuda_stand_in.require_gpu()
    assert cuda.main(["resnet18", "--quick", "--minutes", "1", "--output", str(tmp_path / "out.jsonl")]) == 0
