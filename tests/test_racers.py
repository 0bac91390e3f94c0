"""PyTorch sources in a race: run by torch on the threads of the race, compiled where there is a compiler."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from edgecnn.latency import benchmark, fresh_process, torch_racer
from edgecnn.latency.benchmark import bench
from edgecnn.latency.job import Job
from edgecnn.latency.racers import check, kind_of, opened, refuse_source, torch_threads
from edgecnn.latency.torch_racer import TorchRacer, device_of
from runtimes.base import BadInput, Unavailable
from runtimes.session import random_feeds
from small_nets import conv_net, save

ROOT = Path(__file__).resolve().parent.parent
NETS = """
import torch
from torch import nn

class Net(nn.Sequential):
    input_shape = (3, 8, 8)

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(144, 5)
        )
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NETS)
    return f"{tmp_path / 'nets.py'}:Net"


def job(source: str, **changes: object) -> Job:
    return Job(**{"model": source, "provider": "cpu", "threads": 1, "batch": 2, "seed": 3, "kind": "torch", **changes})  # type: ignore[arg-type]


def test_the_racer_is_the_module_on_the_seeded_input(source: str, tmp_path: Path) -> None:
    """Against the module called by hand, in evaluation mode, with the weights given."""
    from edgecnn.networks.sources import resolve

    module = resolve(source).module
    with torch.no_grad():
        module[0].bias.fill_(7.0)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    racer = opened(job(source, weights=str(tmp_path / "w.pt")))
    assert isinstance(racer, TorchRacer)
    made = racer.ready()()
    assert isinstance(made, torch.Tensor)
    info = racer_input(racer)
    expected = module.eval()(torch.from_numpy(info))
    assert not made.requires_grad
    assert torch.equal(made, expected.detach())
    assert torch.equal(made, racer.ready()()), "no dropout"  # type: ignore[arg-type]
    assert racer.kernels() == ()


def racer_input(racer: TorchRacer) -> np.ndarray:
    from runtimes.session import TensorInfo

    return random_feeds((TensorInfo("input", "float32", ("batch", 3, 8, 8)),), 2, 3)["input"]


def test_torch_gets_the_threads_of_the_race(source: str) -> None:
    before = torch.get_num_threads()
    with torch_threads([job(source, threads=before + 1)]):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with torch_threads([job("x.onnx", kind="onnx", threads=before + 1)]):
        assert torch.get_num_threads() == before


def test_a_network_races_a_model_file(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "PROBES", 1)
    path = save(conv_net(8, 8), tmp_path / "net.onnx")
    report = bench([f"torch:{source}", path], iterations=8, warmup=1, threads=1)
    document = report.to_dict()
    rows = document["models"]
    assert [(r["model"], r["provider"], r["threads"]) for r in rows] == [
        (f"torch:{source}", "cpu", 1), (str(path), "cpu", 1)]  # fmt: skip
    assert rows[0]["kernels"] == {}
    assert rows[0]["peak_rss_mb"] > rows[1]["peak_rss_mb"] + 50, "torch itself lies in it"
    assert rows[0]["first_ms"] > 0
    assert len(document["ratios"]) == 1


@pytest.mark.slow
def test_a_compiled_network_answers_what_the_module_does(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    try:
        racer = opened(job(source, kind="compile"))
        racer.run()
    except Unavailable as error:
        pytest.skip(str(error))
    eager = opened(job(source)).ready()()
    assert torch.allclose(racer.ready()(), eager, atol=1e-5)  # type: ignore[arg-type]  # sums in another order


def test_torchs_own_word_for_no_compiler(source: str) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def module(_: torch.Tensor) -> None:
        raise InvalidCxxCompiler

    def without_c_compiler(_: torch.Tensor) -> None:  # Triton's word, on a GPU
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable or set triton knobs")

    racer = TorchRacer(job(source))
    racer.module = module
    with pytest.raises(Unavailable, match=r"torch.compile finds no C\+\+ compiler here .*; install g\+\+"):
        racer.run()
    racer.module = without_c_compiler
    with pytest.raises(Unavailable, match=r"Failed to find C compiler"):
        racer.run()
    racer.module = lambda _: 1 / 0
    with pytest.raises(BadInput, match=r"PyTorch cannot run it \(division by zero\)"):
        racer.run()


@pytest.mark.slow
def test_a_missing_compiler_is_unavailable(source: str, tmp_path: Path) -> None:
    """In a fresh process with an empty search path and an empty cache; the child's error keeps its kind."""
    script = (
        "import json, sys; from edgecnn.latency import fresh_process; from edgecnn.latency.job import Job\n"
        "try: fresh_process.probe(Job(**json.loads(sys.argv[1])))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    changes = {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **changes}
    environment.pop("CXX", None)
    what = json.dumps(job(source, kind="compile").__dict__)
    done = subprocess.run([sys.executable, "-c", script, what], capture_output=True, text=True, env=environment,
                          timeout=120)  # fmt: skip
    assert done.stdout.startswith("Unavailable compile:"), done.stdout + done.stderr
    assert "torch.compile finds no C++ compiler here" in done.stdout


def test_a_provider_that_torch_cannot_use(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for provider in ("cuda", "tpu"):
        with pytest.raises(Unavailable, match=f"{provider}: torch .* cannot run there"):
            opened(job(source, provider=provider))


def test_the_copies_belong_to_a_run_on_a_device(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's `meta` device computes shapes only: the input goes there, and the answer is asked back."""
    racer = TorchRacer(job(source))
    racer.device = torch.device("meta")
    racer.module = racer.module.to("meta")
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: f"back from {tensor.device}")
    assert racer.ready()() == ["back from meta"]


@pytest.fixture
def tf32_on() -> Iterator[None]:
    """Both switches of torch, on during the test and back behind it."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = True
    yield
    cudnn.allow_tf32, matmul.allow_tf32 = before


def test_on_a_gpu_torch_computes_in_the_arithmetic_that_was_asked_for(
    source: str, tf32_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's own default is TF32 in convolutions; ours, against which it is raced, is float32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("cuda:device_id=1,use_tf32=1") == "cuda:1"
    assert device_of("cuda:use_tf32=1") == "cuda"
    monkeypatch.setattr(torch_racer, "device_of", lambda provider: "meta")
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor)
    for provider, wanted in (("cuda", False), ("cuda:use_tf32=1", True), ("cuda", False)):
        TorchRacer(job(source, provider=provider)).ready()()
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (wanted, wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("torch:", "wants a PyTorch network"),
        ("torch:net.onnx", "give a model file as it is"),
        ("compile:net.edge", "give a model file as it is"),
        ("none.onnx", "no such file"),
        ("lenet5", "race it as torch:lenet5"),
    ],
)
def test_what_cannot_be_raced(given: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check(given)


@pytest.mark.parametrize("given", ["nets.py:Net", "torch:nets.py:Net", "compile:nets.py:Net"])
def test_the_command_that_is_advised_takes_what_export_takes(given: str) -> None:
    with pytest.raises(BadInput, match=re.escape("`edgecnn export nets.py:Net -o Net.onnx`")):
        refuse_source(given)


def test_a_source_that_does_not_run_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(NETS.replace("Linear(144", "Linear(145"))
    with pytest.raises(BadInput, match="does not run on 1,3,8,8"):
        fresh_process.measure(job(f"{tmp_path / 'bad.py'}:Net"))
    with pytest.raises(BadInput, match="lenet6"):
        bench("torch:lenet6", iterations=6, threads=1)


def test_kinds() -> None:
    assert kind_of("torchvision:resnet18") == ("onnx", "torchvision:resnet18")
    assert kind_of("compile:resnet18") == ("compile", "resnet18")
