"""A PyTorch network as a racer: evaluation mode, no gradients, eager or behind torch.compile. Imports torch.

    array in memory -> tensor (shared, or copied to the GPU) -> module -> wait for the GPU, copy back

That is the road ONNX Runtime's `run` takes too, so that the two are comparable. The first run of a compiled network
compiles it; a machine without a C++ compiler (or Python's headers) is told so. Test: tests/test_racers.py.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.utils._pytree as pytree

from edgecnn.latency.job import Job
from edgecnn.networks.callables import quiet
from edgecnn.networks.sources import Network, resolve
from exporters.torch_export import applied
from runtimes.base import BadInput, EdgeError, Unavailable, one_line
from runtimes.census import Kernel
from runtimes.execution import provider_options
from runtimes.latency import Call
from runtimes.session import random_feeds

DEVICES = {"cpu": "cpu", "cuda": "cuda"}
"""Our providers and torch's devices."""
NO_COMPILER = ("InvalidCxxCompiler", "No working C++ compiler", "C++ compiler not found", "Python.h", "C compiler")


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, torch's operators run on `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def network_of(job: Job) -> Network:
    """The network that `job` names."""
    return resolve(job.model, Path(job.weights) if job.weights else None, job.input_shape or None)


class TorchRacer:
    def __init__(self, job: Job) -> None:
        self.provider, self.subject = job.provider, f"{job.kind}:{job.model}"
        device, self.tf32 = device_of(job.provider), uses_tf32(job.provider)
        network = network_of(job)
        feeds = random_feeds(network.inputs, job.batch, job.seed)
        self.given = {name: torch.from_numpy(value) for name, value in feeds.items()}
        self.fed = {name: value.shape for name, value in feeds.items()}
        self.device = torch.device(device)
        module = network.module.to(self.device)
        self.module: Any = torch.compile(module) if job.kind == "compile" else module

    def run(self) -> object:
        """Raises `Unavailable` without a compiler where one is needed, `BadInput` for what PyTorch cannot run."""
        try:
            return self.ready()()
        except Exception as error:
            raise self._explained(error) from error

    def ready(self) -> Call:
        return self._here if self.device.type == "cpu" else self._there

    def kernels(self) -> tuple[Kernel, ...]:
        return ()

    def _here(self) -> object:
        with torch.no_grad():
            return applied(self.module, self.given)

    def _there(self) -> object:
        """On the GPU: the copies belong to a run, as they do in ONNX Runtime's; TF32 is used where it was asked for.

        Torch's own default is TF32 in convolutions: a float32 graph would be raced against another arithmetic.
        """
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.tf32
        with torch.no_grad():
            given = {name: value.to(self.device) for name, value in self.given.items()}
            leaves = pytree.tree_leaves(applied(self.module, given))
            return [leaf.cpu() for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def _explained(self, error: Exception) -> EdgeError:
        cause = _reason(error)
        if any(word in f"{type(error).__name__} {error}" for word in NO_COMPILER):
            return Unavailable(f"{self.subject}: torch.compile finds no C++ compiler here ({cause}); install g++")
        return BadInput(f"{self.subject}: PyTorch cannot run it ({cause}); try `edgecnn check` on it")


def device_of(provider: str) -> str:
    """Torch's device for a provider; raises `Unavailable` where torch has none that works."""
    device = DEVICES.get(provider.partition(":")[0])
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        if device is None or (device == "cuda" and not torch.cuda.is_available()):
            raise Unavailable(
                f"{provider}: torch {torch.__version__} cannot run there; install a CUDA build, or use cpu"
            )
    number = getattr(provider_options.parse(provider).options, "device_id", 0)
    return f"{device}:{number}" if number else device


def uses_tf32(provider: str) -> bool:
    return bool(getattr(provider_options.parse(provider).options, "use_tf32", False))


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[0] if lines else type(error).__name__, 110)
