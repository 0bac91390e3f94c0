"""`edgecnn bench`: what is measured belongs to the model, a faster model is called faster, a crash is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecnn import benchmark, fresh_process
from edgecnn.benchmark import BenchReport, ModelBench, bench
from edgecnn.cli import main
from edgecnn.fresh_process import Job, Probe
from runtimes.base import BadInput, EdgeError, Unavailable
from runtimes.census import Kernel
from runtimes.latency import LatencyReport, Race
from runtimes.machine import describe
from small_nets import conv_net, model, save
from test_pack import heavy

FEW = {"iterations": 20, "warmup": 1, "threads": 1}


def job(path: Path, **changes: object) -> Job:
    return Job(**{"model": str(path), "provider": "cpu", "threads": 1, "batch": 1, "seed": 0, **changes})  # type: ignore[arg-type]


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


def test_peak_memory_is_the_models_and_not_the_callers(tmp_path: Path) -> None:
    """A forked child starts with its parent's ru_maxrss: the number must not grow with the caller."""
    path = save(conv_net(), tmp_path / "net.onnx")
    before = fresh_process.probe(job(path)).peak_rss_mb
    ballast = np.ones(60_000_000)  # 480 MB, really touched
    assert fresh_process.peak_bytes() > 4e8
    assert fresh_process.probe(job(path)).peak_rss_mb < before + 100
    assert ballast[-1] == 1


def test_peak_memory_is_resident_memory() -> None:
    """Against the kernel's other count of the same thing, which can only be larger (see edgecnn/fresh_process.py)."""
    resource = pytest.importorskip("resource", reason="Windows has no getrusage, and no peak is measured there")
    unit = 1 if sys.platform == "darwin" else 1024
    assert 2e7 < fresh_process.peak_bytes() <= 1.01 * unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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
def test_a_network_is_to_be_exported_first(source: str, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        bench(source, **FEW)
    assert str(caught.value) == (
        f"{source}: is a PyTorch network; export it first: `edgecnn export {source} -o {name}.onnx`"
    )
    with pytest.raises(BadInput, match="lenet6: no such file"):
        bench("lenet6", **FEW)


def test_the_same_file_twice_is_the_same(tmp_path: Path) -> None:
    path = save(conv_net(16, 16), tmp_path / "net.onnx")
    report = bench([path, path], iterations=300, threads=1)
    assert report.race.names == (str(path), f"{path} #2")
    assert report.ratios[0].verdict in ("same", "inconclusive")


def fixed(times: dict[str, list[float]]) -> BenchReport:
    """A report of made-up samples."""
    reports = {name: LatencyReport(tuple(values), tuple(values)) for name, values in times.items()}
    rows = tuple(
        ModelBench(name, "cpu", 1, 1, Probe(1.0, 1.0, 1.0), report, (Kernel("Conv", "cpu", 2, 1.0),))
        for name, report in reports.items()
    )
    return BenchReport(describe(), rows, Race(reports, "cpu"), 0)


def test_a_race_without_a_clear_outcome_is_inconclusive() -> None:
    steady, wild = [1.0] * 50, [0.8, 1.3] * 25
    assert fixed({"a": steady, "b": wild}).failure is not None
    assert fixed({"a": steady, "b": wild}).failure.exit_code == 3  # type: ignore[union-attr]
    assert fixed({"a": steady, "b": [2.0] * 50}).failure is None
    assert fixed({"a": steady, "b": steady}).failure is None
    three = fixed({"a": steady, "b": [2.0] * 50, "c": [3.0] * 50})
    assert [(r.a, r.b) for r in three.winning] == [("a", "b"), ("a", "c")]
    assert len(three.ratios) == 3


def test_the_command_shows_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(conv_net(), tmp_path / "net.onnx")
    assert main(["bench", str(path), "--iterations", "20", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert lines[-1] == f"again: edgecnn bench {path} --iterations 20 --threads 1"
    assert "median of 20 runs" in lines[-2]
    assert main(["bench", str(path), "--iterations", "20", "--threads", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["samples"] == 20


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.onnx"))
    save(conv_net(), path)
    command = [sys.executable, "-m", "edgecnn", "bench", os.fsencode(path), "--iterations", "5", "--json"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert os.fsencode(json.loads(done.stdout)["models"][0]["model"]) == os.fsencode(path)


def test_a_bundle_whose_weights_lie_beside_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The census opens the model once more, and must find them too."""
    heavy(tmp_path / "n.edge", monkeypatch)
    (row,) = bench(tmp_path / "n.edge", iterations=6, threads=1).models
    assert sum(count for op, count in row.to_dict()["kernels"].items() if "Conv" in op) == 1  # Conv, or FusedConv
