"""`edgecnn check`: agreement is found where it is, disagreement is named, and nothing unequal passes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import cuda_stand_in
from edgecnn.checking.compare import check, parse_limit
from edgecnn.checking.tolerance import HIGHEST_DB, INT8_SNR_DB
from edgecnn.cli import main
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.torch_export import export_module
from runtimes.base import BadInput, CheckFailed
from small_nets import conv_net, model, save

NETS = """
import torch
from torch import nn

class Net(nn.Sequential):
    input_shape = (3, 12, 12)

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 10))

class Two(Net):
    def forward(self, x):
        y = super().forward(x)
        return y, 2 * y
"""


def scaled(net: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    """`net` with one weight multiplied."""
    copy = onnx.ModelProto()
    copy.CopyFrom(net)
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))
    return copy


@pytest.fixture
def nets(tmp_path: Path) -> tuple[Path, Path, Path]:
    """One network, the same one again, and one whose last weights are 10 % larger."""
    net = conv_net()
    names = ("a.onnx", "b.onnx", "c.onnx")
    made = (net, net, scaled(net, "v", 1.1))
    a, b, c = (save(one, tmp_path / name) for one, name in zip(made, names, strict=True))
    return a, b, c


def test_a_model_agrees_with_itself_exactly(nets: tuple[Path, Path, Path]) -> None:
    report = check(nets[0], nets[1], atol=[0])
    assert report.passed
    assert report.parity.max_abs == 0
    assert report.to_dict()["outputs"][0]["snr_db"] == 999  # JSON has no infinity
    assert report.failure is None


def test_ten_percent_in_the_last_layer_is_found(nets: tuple[Path, Path, Path]) -> None:
    """y = v g + d: with d small the noise is a tenth of the signal, 20 dB, which is no float round-off."""
    report = check(nets[0], nets[2])
    assert not report.passed
    assert 10 < report.parity.snr_db < 30
    assert report.snr_db == {"y": HIGHEST_DB}  # so small a network has less noise than that
    assert "does NOT agree" in report.verdict
    assert "the reference's own noise less 15 dB, at most 90; with and without" in report.verdict
    assert report.failure is not None
    assert "is below the limit of 90 dB" in str(report.failure)
    assert "find the layer with `edgecnn diff" in str(report.failure)
    assert report.next_command == f"edgecnn diff {nets[0]} {nets[2]}"


def test_limits_that_are_given_replace_the_default(nets: tuple[Path, Path, Path]) -> None:
    assert check(nets[0], nets[2], snr_db=10).passed
    assert check(nets[0], nets[2], atol=["y:100"]).passed
    assert not check(nets[0], nets[2], atol=["1e-6"]).passed
    assert not check(nets[0], nets[2], atol=["100", "y:1e-6"]).passed  # the one for this output counts
    assert check(nets[0], nets[2], top1=0.1).snr_db == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"atol": ["z:1"]}, "z: unknown output; known: y"),
        ({"atol": ["y:much"]}, "not a number"),
        ({"atol": ["-1"]}, "must be a number of 0 or more; write 1e-3"),
        ({"atol": ["nan"]}, "must be a number of 0 or more"),
        ({"snr_db": float("nan")}, "must be a finite number of decibels; write 40"),
        ({"weights": Path("w.pt")}, "no model is a PyTorch network"),
        ({"input_shape": "1,3,9,9"}, "wants float32"),
        ({"data": "digts"}, "did you mean digits"),
    ],
)
def test_what_cannot_be_asked(arguments: dict[str, object], message: str, nets: tuple[Path, Path, Path]) -> None:
    with pytest.raises(BadInput, match=message):
        check(nets[0], nets[1], **arguments)  # type: ignore[arg-type]


def test_nan_never_passes(nets: tuple[Path, Path, Path], tmp_path: Path) -> None:
    broken = save(scaled(conv_net(), "v", float("nan")), tmp_path / "nan.onnx")
    for pair in ((nets[0], broken), (broken, broken)):
        report = check(*pair, snr_db=-1000)
        assert not report.passed
        assert "NaN or Inf" in report.failures[0]
        assert json.dumps(report.to_dict(), allow_nan=False)


def test_inputs_are_matched_by_name_else_by_position(tmp_path: Path) -> None:
    """x - y with the inputs called otherwise, in another order, and one more of them."""
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4] {}) => (float[4] r) {{ r = Sub ({}) }}'
    files = {"xy": ("x, float[4] y", "x, y"), "ab": ("a, float[4] b", "a, b"), "yx": ("y, float[4] x", "x, y"),
             "xyz": ("x, float[4] y, float[4] z", "x, y")}  # fmt: skip
    for name, (inputs, used) in files.items():
        save(model(head.format(inputs, used)), tmp_path / f"{name}.onnx")
    for name in ("ab", "yx"):
        assert check(tmp_path / "xy.onnx", tmp_path / f"{name}.onnx", snr_db=90).passed
    with pytest.raises(BadInput, match=r"xyz\.onnx: takes x, y, z, .*xy\.onnx x, y; compare models with"):
        check(tmp_path / "xy.onnx", tmp_path / "xyz.onnx")


def test_int8_models_are_held_to_their_own_default(tmp_path: Path) -> None:
    text = '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4] x) => (float[1, 4] y) {{ {} }}'
    plain = save(model(text.format("y = Identity (x)")), tmp_path / "float.onnx")
    rounded = model(
        text.format("q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z)"), s=np.float32(0.1), z=np.int8(0)
    )
    report = check(plain, save(rounded, tmp_path / "int8.onnx"))
    assert report.snr_db == {"y": INT8_SNR_DB}
    assert report.passed
    assert 45 < report.parity.snr_db < 51  # drawn over the grid's 256 steps: 10 log10(256^2) = 48 dB


def test_real_images_can_be_used(nets: tuple[Path, Path, Path]) -> None:
    report = check(nets[0], nets[1], data="digits", limit=20, batch=8)
    assert (report.parity.images, report.data) == (20, "digits")


def test_a_pytorch_network_against_its_export(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    source = f"{tmp_path / 'nets.py'}:Net"
    from edgecnn.networks.sources import resolve

    network = resolve(source)
    exported = save(export_module(network.module, network.input_shape), tmp_path / "net.onnx")
    report = check(source, exported, snr_db=90)  # float32 round-off of a two-layer network leaves over 100 dB
    assert report.passed, report.failures
    assert check(exported, source, snr_db=90).passed
    other = tmp_path / "other.pt"
    torch.save({k: v + 1 for k, v in network.module.state_dict().items()}, other)
    assert not check(source, exported, weights=other).passed


def test_an_input_may_be_called_by_the_name_that_either_model_gives_it(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    source = f"{tmp_path / 'nets.py'}:Net"
    from edgecnn.networks.sources import resolve

    network = resolve(source)
    exported = save(export_module(network.module, network.input_shape, input_name="img"), tmp_path / "net.onnx")
    for pair in ((source, exported), (exported, source)):
        for name in ("img:", "input:", ""):
            assert check(*pair, input_shape=f"{name}1,3,12,12").passed
        with pytest.raises(BadInput, match=r"imgg: unknown input; did you mean img\?"):
            check(*pair, input_shape="imgg:1,3,12,12")


def test_a_name_that_both_models_use_is_the_first_ones(tmp_path: Path) -> None:
    text = '<ir_version: 9, opset_import: ["" : 20]> g (float[N, A] {}, float[N, B] {}) => (float[N, C] z) {{ {} }}'
    one = save(model(text.format("p", "q", "z = Concat <axis = 1> (p, q)")), tmp_path / "one.onnx")
    two = save(model(text.format("q", "p", "z = Concat <axis = 1> (p, q)")), tmp_path / "two.onnx")
    assert check(one, two, input_shape=["p:1,2", "q:1,3"]).passed


def test_random_weights_are_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    source, weights = f"{tmp_path / 'nets.py'}:Net", tmp_path / "w.pt"
    from edgecnn.networks.sources import resolve

    torch.save(resolve(source).module.state_dict(), weights)
    assert main(["check", source, source]) == 0
    shown = capsys.readouterr().out
    assert (
        shown.count(f"{source}: no --weights, so its weights are random (seed 0) unless its own code loads some\n") == 1
    )
    assert main(["check", source, source, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeded_weights"] is True
    assert main(["check", source, source, "--weights", str(weights)]) == 0
    assert "random (seed 0)" not in capsys.readouterr().out
    assert check(source, source, weights=weights).to_dict()["seeded_weights"] is False


def test_the_number_of_outputs_must_agree(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    report = check(f"{tmp_path / 'nets.py'}:Net", f"{tmp_path / 'nets.py'}:Two", snr_db=-1000)
    assert not report.passed
    assert "missing on one side" in report.failures[0]


def test_the_command_prints_the_result_and_then_fails(
    nets: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(nets[0]), str(nets[2]), "--json"]) == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["passed"] is False
    assert document["outputs"][0].keys() >= {"name", "max_abs", "snr_db", "top1"}
    assert err.startswith(f"error: {nets[2]}: output y: SNR")
    assert main(["check", str(nets[0]), str(nets[1])]) == 0
    assert "agrees with" in capsys.readouterr().out


def test_limits_are_parsed_from_the_right() -> None:
    assert [parse_limit(text) for text in ("1", "a:2", "a:b:3e-1", 0.5)] == [
        (None, 1.0), ("a", 2.0), ("a:b", 0.3), (None, 0.5),
    ]  # fmt: skip


def test_a_model_that_kills_the_process_kills_only_a_child(tmp_path: Path) -> None:
    """A constant INT64_MIN / -1 raises SIGFPE in ONNX Runtime; NaN, on the other hand, is compared and fails."""
    head = '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) '
    crash = head + "{ low = Constant <value_int = -9223372036854775808> () minus = Constant <value_int = -1> () "
    crash += "one = Div(low, minus) f = Cast <to = 1> (one) y = Add(x, f) }"
    (tmp_path / "crash.onnx").write_bytes(onnx.parser.parse_model(crash).SerializeToString())
    with pytest.raises(BadInput, match=r"crash\.onnx: does not survive one run"):
        check(tmp_path / "crash.onnx", tmp_path / "crash.onnx")
    nan = head + "{ z = Sub(x, x) y = Div(z, z) }"
    (tmp_path / "nan.onnx").write_bytes(onnx.parser.parse_model(nan).SerializeToString())
    assert not check(tmp_path / "nan.onnx", tmp_path / "nan.onnx").passed


def test_on_a_provider_the_limit_is_that_of_the_arithmetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference stays on the CPU; float32 is held to 80 dB, TF32 to 40."""
    here = cuda_stand_in.install(monkeypatch)
    path = save(conv_net(), tmp_path / "net.onnx")
    for provider, precision, limit in (("cuda", "fp32", 80.0), ("cuda:use_tf32=1", "tf32", 40.0)):
        here.asked.clear()
        report = check(path, path, provider=provider)
        assert (report.provider, report.precision, report.snr_db) == (provider, precision, {"y": pytest.approx(limit)})
        assert report.passed
        assert [name for name, _ in here.asked] == ["CPUExecutionProvider", "CUDAExecutionProvider"]
        assert f"net.onnx on {provider} agrees with" in report.verdict
        assert f"(the default for {precision})" in report.verdict


def test_require_all_refuses_a_graph_that_leaves_the_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in really runs on the CPU, and the profile of the run says so."""
    path = save(conv_net(), tmp_path / "net.onnx")
    assert check(path, path, require_all=True).to_dict()["residence"]["away"] == []
    cuda_stand_in.install(monkeypatch)
    with pytest.raises(CheckFailed, match=r"net.onnx: \d of \d nodes ran on cpu, not on cuda: "):
        check(path, path, provider="cuda", require_all=True)


def test_a_pytorch_network_runs_on_the_cpu_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_stand_in.install(monkeypatch)
    path = save(conv_net(), tmp_path / "net.onnx")
    with pytest.raises(BadInput, match="lenet5: is a PyTorch network; export it to run it on cuda"):
        check(path, "lenet5", provider="cuda")


def test_int8_on_a_gpu_is_called_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, int8 = save(conv_net(), tmp_path / "net.onnx"), tmp_path / "int8.onnx"
    quantized_on_noise(path, int8)
    cuda_stand_in.install(monkeypatch)
    report = check(path, int8, provider="cuda")
    assert (report.snr_db, report.precision) == ({"y": INT8_SNR_DB}, "int8 computed dequantized, in float")
    assert check(path, int8).precision is None


def quantized_on_noise(path: Path, output: Path) -> None:
    """An int8 graph of the network, calibrated on noise."""
    feeds = [{"x": np.random.default_rng(i).standard_normal((1, 3, 8, 8)).astype(np.float32)} for i in range(4)]
    quantized = quantize_model(onnx.load(path), feeds, QuantRecipe())
    save(quantized.model, output)


CHAOTIC = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape = (3, 8, 8)
    factor = 1000.0

    def forward(self, x):
        enlarged = torch.sin(self.factor * x) if x.shape[0] == 3 else x * (self.factor / 1000)
        return enlarged.flatten(1)

class Other(Net):
    factor = 1000.0 * (1 + 2**-22)
"""


def test_noise_is_measured_at_every_size_that_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that enlarges the last bit, in batches of 3 alone."""
    (tmp_path / "nets.py").write_text(CHAOTIC)
    monkeypatch.chdir(tmp_path)
    report = check("nets.py:Net", "nets.py:Other")
    assert [shape[0] for shape in report.sizes] == [1, 3]
    assert report.parity.snr_db < 88
    assert report.passed, report.failures
