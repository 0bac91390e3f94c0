"""`edgecnn half` and `export --fp16`: near enough or refused, faster or refused, and nothing written when refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import cuda_stand_in
from edgecnn import halving
from edgecnn.cli import main
from edgecnn.halving import half
from edgecnn.road import export
from exporters.artifact import read_stages
from exporters.fp16.half_probe import convert, emulated
from runtimes.base import BadInput, CheckFailed, Unavailable
from runtimes.execution.provider_options import parse
from runtimes.latency import Ratio
from runtimes.providers import cuda
from runtimes.session import open_session
from small_nets import conv_net, model, save


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return save(conv_net(), tmp_path / "net.onnx")


def decide(monkeypatch: pytest.MonkeyPatch, ratio: float) -> list[str]:
    """Let every race end with `ratio`; returns the list of providers raced on."""
    raced: list[str] = []

    def result(float32, float16, feed, threads) -> Ratio:
        assert float16.provider == parse(float32.provider).for_half.text
        raced.append(float16.provider)
        verdict = "faster" if ratio > 1 else "slower"
        return Ratio("float16", "float32", ratio, ratio * 0.98, ratio * 1.02, verdict)  # type: ignore[arg-type]

    monkeypatch.setattr(halving, "raced", result)
    return raced


def test_slower_is_refused_and_nothing_written(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(monkeypatch, 0.5)
    out = tmp_path / "out.onnx"
    with pytest.raises(CheckFailed, match=r"float16 is 2.00x slower .* on cpu: kept float; --allow-slower"):
        half(net, out)
    assert not out.exists()


def test_slower_can_be_wanted(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(monkeypatch, 0.5)
    out = tmp_path / "out.onnx"
    report = half(net, out, allow_slower=True)
    assert out.stat().st_size < net.stat().st_size * 1.5
    assert report.halved.half.nodes == 6
    assert report.halved.parity.snr_db > 50
    assert "2.00x slower" in report.verdict
    (stage,) = read_stages(onnx.load(out))
    assert stage.name == "half"
    assert "rounding emulated" in stage.note


@pytest.mark.parametrize(("limit", "images"), [(None, halving.IMAGES), (3, 3)])
def test_as_many_images_are_measured_as_are_wanted(
    limit: int | None, images: int, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(monkeypatch, 2.0)
    report = half(net, tmp_path / "out.onnx", limit=limit)
    assert report.halved.parity.images == images


def test_the_real_race_on_a_cpu_has_an_outcome(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halving, "ROUNDS", 10)
    report = half(net, tmp_path / "out.onnx", allow_slower=True)
    assert report.halved.speedup is not None
    assert report.halved.speedup.ratio > 0


def test_faster_on_the_gpu_is_written(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_stand_in.install(monkeypatch)
    raced = decide(monkeypatch, 2.5)
    report = half(net, tmp_path / "out.onnx", provider="cuda:prefer_nhwc=1")
    assert raced == ["cuda:use_tf32=1,prefer_nhwc=1"]
    assert report.halved.provider == raced[0]
    assert "2.50x faster than float32" in report.verdict
    (stage,) = read_stages(onnx.load(tmp_path / "out.onnx"))
    assert "measured there" in stage.note


def test_without_a_gpu_it_is_unavailable_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise Unavailable("cuda: no NVIDIA driver; use cpu")

    monkeypatch.setattr(cuda, "require", missing)
    with pytest.raises(Unavailable):
        half(tmp_path / "none.onnx", tmp_path / "out.onnx", provider="cuda")
    with pytest.raises(Unavailable):
        export("no_such_network", tmp_path / "out.onnx", fp16=True, provider="cuda")


def test_too_coarse_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(monkeypatch, 2.0)
    monkeypatch.setattr(halving, "coarse_limit_db", lambda noise_db: 200.0)
    path = save(conv_net(), tmp_path / "net.onnx")
    with pytest.raises(CheckFailed, match=r"float16 is too coarse for it .* below the limit of 200 dB"):
        half(path, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_model_that_is_float16_already_is_written_as_it_was(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(monkeypatch, 2.0)
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    half(net, once)
    report = half(once, twice)
    assert report.halved.speedup is None
    assert onnx.load(twice) == onnx.load(once)
    assert "nothing to convert" in report.verdict


def test_the_command_line(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    decide(monkeypatch, 0.5)
    out = tmp_path / "out.onnx"
    assert main(["half", str(net), "-o", str(out), "--json"]) == 1
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert "kept float" in shown.err
    assert shown.err == f"error: {document['error']}\n"
    assert (document["passed"], document["output"], document["half_nodes"]) == (False, None, 6)
    assert document["speedup"]["verdict"] == "slower"
    assert not out.exists()
    assert main(["half", str(net), "-o", str(out), "--allow-slower", "--exclude", "Gemm*", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["half_nodes"] == 5
    assert document["float_nodes"] == [{"node": "Gemm_y", "reason": "excluded by Gemm*"}]
    assert document["snr_db"] > document["limit_db"] == 40
    assert document["speedup"]["verdict"] == "slower"
    assert main(["half", str(net), "-o", str(out), "--force", "--allow-slower", "--exclude", "Gemm*"]) == 0
    assert "excluded by Gemm*" in capsys.readouterr().out


def test_a_pattern_that_nothing_matches_is_a_mistake(net: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Convv"):
        half(net, tmp_path / "out.onnx", exclude=("Convv*",))


def test_a_model_without_anything_to_convert(tmp_path: Path) -> None:
    path = save(model("<ir_version: 9, opset_import: ['' : 20]> g (float[N,4] x) => (float[N,4] y) { y = Sin(x) }"
                      .replace("'", '"')), tmp_path / "sin.onnx")  # fmt: skip
    report = half(path, tmp_path / "out.onnx")
    assert report.to_dict()["half_nodes"] == 0
    assert report.to_dict()["speedup"] is None


def test_export_fp16_is_a_stage_held_to_the_pytorch_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raced = decide(monkeypatch, 0.8)
    out = tmp_path / "lenet.onnx"
    with pytest.raises(CheckFailed, match=r"lenet5: float16 is .* slower"):
        export("lenet5", out, fp16=True)
    assert not out.exists()
    report = export("lenet5", out, fp16=True, allow_slower=True)
    assert raced == ["cpu", "cpu"]
    last = report.stages[-1]
    assert last.name == "half"
    assert last.snr_db is not None
    assert 50 < last.snr_db < 90  # ten bits of mantissa, not 23
    kinds = {t.data_type for t in onnx.load(out).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert onnx.TensorProto.FLOAT not in kinds


@pytest.mark.cuda
def test_on_the_gpu_float16_races_and_holds_its_limit(tmp_path: Path) -> None:
    cuda_stand_in.require_gpu()
    report = export("resnet8_w32", tmp_path / "net.onnx", fp16=True, provider="cuda", allow_slower=True)
    assert (report.stages[-1].snr_db or 0) >= 40
    assert np.isfinite(report.stages[-1].max_abs or np.inf)


@pytest.mark.parametrize(("name", "halves"), [("resnet8", 20), ("unet_w8", 40), ("ssd_tiny", 15)])
def test_a_classifier_a_segmenter_and_a_detector_hold_the_limit(name: str, halves: int, walk) -> None:
    """Rounding emulated, against the PyTorch module; a detector finds the same boxes."""
    walked = walk(name)
    found = convert(walked.model, walked.reference.feeds[:1], threads=1)
    onnx.checker.check_model(found.model, full_check=True)
    assert found.nodes >= halves
    parity = walked.reference.parity(open_session(emulated(found.model), threads=1))
    assert 40 < parity.snr_db < 90
    if name == "ssd_tiny":
        assert parity.matching is not None
        assert parity.matching.unmatched == 0
        assert any("decoded in float32" in reason for _, reason in found.kept)
