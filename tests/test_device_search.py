"""The search for a GPU's settings, with made-up times: what is faster is kept, what is not near enough is out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import cuda_stand_in
import graphs
from edgecnn import api
from edgecnn.choosing import device_build, device_search
from edgecnn.choosing.device_search import FLOAT, HALF, Device, Variant, form_of, search
from edgecnn.choosing.judge import Judgement
from edgecnn.choosing.trial import Trial
from edgecnn.cli import main
from edgecnn.data.samples import Samples
from exporters.graph import attributes
from exporters.rewrites import pad_inputs
from exporters.searching import rewriting
from runtimes.base import BadInput, CheckFailed, Unavailable
from runtimes.execution.provider_options import parse
from runtimes.latency import LatencyReport, Race
from runtimes.providers import cuda
from runtimes.session import open_session
from small_nets import conv_net

GAINS = {"use_tf32": 1.2, "fp16": 2.0, "prefer_nhwc": 1.3, "fuse_conv_bias": 0.9, "enable_cuda_graph": 1.5}


class FakeGpu:
    """10 ms over the product of what each setting gains; `out` names variants that are refused, with the reason."""

    def __init__(self, gains: Mapping[str, float] = GAINS, out: Mapping[str, str] | None = None) -> None:
        self.gains, self.out = gains, out or {}
        self.races: list[list[str]] = []

    def judge(self, variant: Variant) -> tuple[Judgement | None, str]:
        why = self.out.get(variant.name, "")
        return (None if why else Judgement(90.0, 1.0, None, 0.0, None, "")), why

    def time_ms(self, variant: Variant) -> float:
        """float16 without tensor cores is no faster than float32; with them TF32 gains nothing more."""
        half = variant.arithmetic == HALF and variant.asked.options.use_tf32
        gain = self.gains.get("fp16", 1.0) / self.gains.get("use_tf32", 1.0) if half else 1.0
        gain *= self.gains.get(variant.model, 1.0) if variant.model != variant.arithmetic else 1.0
        options = variant.asked.options
        for name in ("use_tf32", "prefer_nhwc", "fuse_conv_bias", "enable_cuda_graph"):
            gain *= self.gains.get(name, 1.0) if getattr(options, name) else 1.0
        return 10.0 / gain

    def race(self, variants: Sequence[Variant]) -> Race:
        self.races.append([v.name for v in variants])
        noise = 1 + 0.001 * np.random.default_rng(0).standard_normal(60)
        reports = {v.name: LatencyReport(tuple(self.time_ms(v) * noise), tuple(noise)) for v in variants}
        return Race(reports, "wall")


def test_the_fastest_arithmetic_and_every_setting_that_wins() -> None:
    gpu = FakeGpu()
    picked = search(parse("cuda"), (FLOAT, HALF), gpu)
    assert picked.variant.model == HALF
    assert picked.variant.asked.text == "cuda:use_tf32=1,prefer_nhwc=1,enable_cuda_graph=1"
    assert picked.variant.name == "float16 + CUDA graph + NHWC"
    assert picked.speedup is not None
    assert picked.speedup.ratio == pytest.approx(2.0 * 1.3 * 1.5, rel=0.01)
    assert {t.variant.name: t.adopted for t in picked.tried} == {
        "float32 + CUDA graph": True,
        "TF32 + CUDA graph": False,
        "float16 + CUDA graph": False,
        "float16 + CUDA graph + NHWC": True,
        "float16 + CUDA graph + NHWC + fused bias": False,
        "float16 + CUDA graph + NHWC + heuristic B": False,
    }
    assert gpu.races[0] == ["float32", "float32 + CUDA graph"]
    assert gpu.races[-1] == ["float32", "float16 + CUDA graph + NHWC"]
    assert "int8 was not tried" in picked.verdict


def test_fused_bias_comes_with_channels_last() -> None:
    """Without it ONNX Runtime's sums are wrong, and bias alone may be what makes channels-last slow."""
    picked = search(parse("cuda"), (FLOAT, HALF), FakeGpu({"fp16": 2.0, "prefer_nhwc": 0.9, "fuse_conv_bias": 1.3}))
    assert picked.variant.name == "float16 + fused bias"
    assert picked.variant.asked.text == "cuda:use_tf32=1,prefer_nhwc=1,fuse_conv_bias=1"


def test_another_form_of_the_first_convolution_is_raced_last_and_kept_where_it_wins() -> None:
    blocks, padded = form_of(HALF, "space_to_depth"), form_of(HALF, "pad_inputs")
    gpu = FakeGpu({**GAINS, blocks: 1.1, padded: 1.05})
    picked = search(parse("cuda"), (FLOAT, HALF, blocks, padded), gpu)
    assert picked.variant.name == "float16 + CUDA graph + NHWC + first convolution on blocks"
    assert (picked.variant.model, picked.variant.arithmetic, picked.variant.precision) == (blocks, HALF, "fp16")
    assert len(gpu.races[-2]) == 3, "the best so far and two forms"
    assert search(parse("cuda"), (FLOAT, HALF, blocks), FakeGpu({**GAINS, blocks: 0.9})).variant.model == HALF


def test_forms_are_those_that_do_something_to_the_graph() -> None:
    trial_feed = samples().feeds("x", 1)[0]
    found, left_out = device_build.forms(conv_net(), [trial_feed], 1)
    assert left_out == ()
    assert set(found) == {form_of(HALF, "pad_inputs")}, "its first convolution has no stride"
    there = open_session(found[form_of(HALF, "pad_inputs")], threads=1)(trial_feed)["y"]
    assert np.allclose(there, open_session(conv_net(), threads=1)(trial_feed)["y"], rtol=0.01, atol=0.01)


def test_every_form_is_padded_alike_on_both_sides() -> None:
    """A first convolution on blocks is not, as it is rewritten, and cuDNN may have no kernel for it."""
    model = graphs.parse(
        """g (float[N,3,16,16] x) => (float[N,4,8,8] y) {
            a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)
            y = Relu(a)
        }""",
        w=(4, 3, 3, 3),
    )
    found, _ = device_build.forms(model, [{"x": np.ones((1, 3, 16, 16), np.float32)}], 1)
    convs = [n for n in found[form_of(HALF, "space_to_depth")].graph.node if n.op_type == "Conv"]
    assert [attributes(node)["pads"] for node in convs] == [[1, 1, 1, 1]]


def test_a_form_that_is_not_the_same_function_is_told_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise CheckFailed("SNR 20 dB")

    monkeypatch.setattr(rewriting, "prove", fails)
    found, left_out = device_build.forms(conv_net(), samples().feeds("x", 1), 1)
    assert found == {}
    assert left_out == ("4 input channels: not tried, SNR 20 dB",)


def test_a_form_that_fails_is_told_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(pad_inputs, "run", fails)
    found, left_out = device_build.forms(conv_net(), samples().feeds("x", 1), 1)
    assert found == {}
    assert left_out == ("4 input channels: not tried, KeyError: 'x'; a defect of edgecnn, please report it",)


def test_fused_bias_of_float32_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_stand_in.install(monkeypatch)
    trial = Trial(samples(), "x", max_drop=1.0)
    device = Device({FLOAT: conv_net()}, trial, trial.samples.feeds("x", 1)[0], 130.0)
    fused = Variant("float32", FLOAT, parse("cuda")).plus("fused bias", {"fuse_conv_bias": True, "prefer_nhwc": True})
    assert device.judge(fused)[1].startswith("cuda: fuse_conv_bias=1 is wrong without use_tf32=1")


def test_a_draw_keeps_the_simpler_one() -> None:
    picked = search(parse("cuda"), (FLOAT, HALF), FakeGpu({"fp16": 1.001}))
    assert (picked.variant.name, picked.speedup) == ("float32", None)
    assert "nothing near enough was faster" in picked.verdict


def test_what_is_not_near_enough_does_not_race() -> None:
    why = "31.0 dB to the CPU's float32, the limit is 40"
    gpu = FakeGpu(out={"float16 + CUDA graph": why, "float16 + CUDA graph + NHWC": why})
    picked = search(parse("cuda"), (FLOAT, HALF), gpu)
    assert picked.variant.asked.text == "cuda:use_tf32=1,prefer_nhwc=1,enable_cuda_graph=1"
    assert not any("float16" in name for names in gpu.races for name in names)
    refused = {t.variant.name: t.refused for t in picked.tried if t.refused}
    assert refused == dict.fromkeys(gpu.out, why)


def test_a_setting_that_cannot_be_opened_is_told_and_left_out() -> None:
    gpu = FakeGpu(out={"float32 + CUDA graph": "m.onnx: nodes are not on CUDA"})
    assert search(parse("cuda"), (FLOAT, HALF), gpu).variant.name == "float16 + NHWC"


class LaunchBound(FakeGpu):
    """Launches hide every other time, and float16 has one more of them."""

    def time_ms(self, variant: Variant) -> float:
        if variant.asked.options.enable_cuda_graph:
            return super().time_ms(variant)
        return 20.0 + (variant.arithmetic == HALF)


def test_where_launches_take_the_time_float16_is_seen_in_a_recording() -> None:
    picked = search(parse("cuda"), (FLOAT, HALF), LaunchBound())
    assert picked.variant.name == "float16 + CUDA graph + NHWC"


def test_float16_that_needs_channels_last_to_win_is_seen() -> None:
    gpu = FakeGpu({"use_tf32": 1.5, "fp16": 1.4, "prefer_nhwc": 2.0})
    assert search(parse("cuda"), (FLOAT, HALF), gpu).variant.name == "float16 + NHWC"


def test_without_a_float16_graph_it_is_not_asked_for() -> None:
    picked = search(parse("cuda"), (FLOAT,), FakeGpu())
    assert picked.variant.model == FLOAT
    assert "float16" not in {t.variant.name for t in picked.tried}


def test_the_users_own_settings_are_where_it_begins() -> None:
    gpu = FakeGpu()
    picked = search(parse("cuda:prefer_nhwc=1,gpu_mem_limit=1000"), (FLOAT, HALF), gpu)
    assert picked.variant.asked.options.gpu_mem_limit == 1000
    assert not any("NHWC" in t.variant.name for t in picked.tried)


def test_float32_that_is_wrong_itself_is_an_error() -> None:
    with pytest.raises(BadInput, match="cuda: float32 itself is out: 20 dB"):
        search(parse("cuda"), (FLOAT,), FakeGpu(out={"float32": "20 dB"}))


def test_the_document_can_be_written_and_names_every_setting() -> None:
    picked = search(parse("cuda"), (FLOAT, HALF), FakeGpu(out={"TF32 + CUDA graph": "too far"}))
    rows = json.loads(json.dumps([t.to_dict() for t in picked.tried], allow_nan=False))
    assert rows[1]["refused"] == "too far"
    assert {row["precision"] for row in rows} == {"fp32", "tf32", "fp16"}
    assert rows[3]["provider"] == "cuda:use_tf32=1,prefer_nhwc=1,enable_cuda_graph=1"


def samples(count: int = 4) -> Samples:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((count, 3, 8, 8)).astype(np.float32)
    return Samples("noise", tuple(map(str, range(count))), lambda i: images[i])


def test_the_real_judge_tells_near_from_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of the stand-in run on the CPU, so that float32 is exact; another network is not."""
    cuda_stand_in.install(monkeypatch)
    trial = Trial(samples(), "x", max_drop=1.0)
    device = Device({FLOAT: conv_net(), HALF: conv_net(seed=1)}, trial, trial.samples.feeds("x", 1)[0], 130.0)
    assert device.judge(Variant("float32", FLOAT, parse("cuda")))[1] == ""
    found, why = device.judge(Variant("float16", HALF, parse("cuda")))
    assert found is not None
    assert "dB to the CPU's float32, the limit is 40" in why


def test_the_real_judge_holds_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_stand_in.install(monkeypatch)
    trial = Trial(samples(), "x", max_drop=-1.0)
    device = Device({FLOAT: conv_net()}, trial, trial.samples.feeds("x", 1)[0], 130.0)
    assert "(budget -100 %)" in device.judge(Variant("float32", FLOAT, parse("cuda")))[1]


def test_what_cannot_be_opened_is_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise Unavailable("model: CUDAExecutionProvider cannot take it")

    trial = Trial(samples(), "x")
    device = Device({FLOAT: conv_net()}, trial, trial.samples.feeds("x", 1)[0], 130.0)
    monkeypatch.setattr(device_search, "open_session", fails)
    assert device.judge(Variant("float32", FLOAT, parse("cuda"))) == (
        None,
        "model: CUDAExecutionProvider cannot take it",
    )


def test_build_packs_what_won_with_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole road on the stand-in; only times and judgements are made up."""
    cuda_stand_in.install(monkeypatch)
    monkeypatch.setattr(device_search, "Device", lambda *_: FakeGpu())
    bundle = tmp_path / "net.edge"
    words = ["build", "lenet5", "--calib", "digits", "--limit", "8", "-o", str(bundle), "--provider", "cuda"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["chosen"], document["provider"]) == ("fp16", "cuda:use_tf32=1,prefer_nhwc=1,enable_cuda_graph=1")
    assert document["speedup"]["verdict"] == "faster"
    assert document["stages"][-1]["name"] == "device"
    assert document["half_nodes"] > 0
    from runtimes.bundle import open_bundle

    opened = open_bundle(bundle)
    assert opened.manifest["provider"] == document["provider"]
    assert opened.chosen == "fp16"
    assert main(["verify", str(bundle)]) == 0  # on the CPU, within its golden limit
    capsys.readouterr()
    assert main([*words, "--force"]) == 0
    text = capsys.readouterr().out
    assert "float16 + CUDA graph + NHWC" in text
    assert "edgecnn verify" in text


def test_a_bundle_that_appeared_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda_stand_in.install(monkeypatch)
    bundle = tmp_path / "net.edge"

    def racers(*_: object) -> FakeGpu:
        bundle.write_text("another build's")
        return FakeGpu()

    monkeypatch.setattr(device_search, "Device", racers)
    words = ["build", "lenet5", "--calib", "digits", "--limit", "8", "-o", str(bundle), "--provider", "cuda"]
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert bundle.read_text() == "another build's"


def test_build_without_a_gpu_is_exit_4_before_torch_is_loaded(tmp_path: Path) -> None:
    try:
        cuda.require()
    except Unavailable as error:
        cause = str(error)
    else:
        pytest.skip("there is a GPU here")
    script = (
        "import sys; from edgecnn.cli import main; code = main(); "
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    words = ["build", "resnet18", "--calib", "random:2", "-o", str(tmp_path / "n.edge"), "--provider", "cuda"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"error: {cause}\nFalse\n"


@pytest.mark.cuda
def test_on_the_gpu_the_search_ends_with_something_that_runs(tmp_path: Path) -> None:
    cuda_stand_in.require_gpu()
    from edgecnn.road import build

    report = build("resnet8_w32", tmp_path / "n.edge", calib="digits", limit=16, provider="cuda")
    assert report.provider.startswith("cuda")
    assert report.picked.tried


@pytest.mark.parametrize(
    "option",
    [
        {"target": "avx2"},
        {"portable": True},
        {"input": "uint8"},
        {"dynamic_size": True},
        {"keep_float": True},
        {"all_int8": True},
        {"calibrator": "percentile"},
        {"allow_slower": True},
        {"search_budget": 5},
    ],
    ids=lambda o: next(iter(o)),
)
def test_what_belongs_to_the_cpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: dict[str, object]
) -> None:
    cuda_stand_in.install(monkeypatch)
    name = next(iter(option)).replace("_", "-")
    with pytest.raises(BadInput, match=rf"--{name}: does nothing with --provider cuda"):
        api.build("lenet5", tmp_path / "n.edge", calib="digits", provider="cuda", **option)
    assert not list(tmp_path.iterdir())
