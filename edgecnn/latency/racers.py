"""What a user races: a model file on ONNX Runtime, or the PyTorch network itself, eager or compiled.

    model.onnx, net.edge     ONNX Runtime on the provider asked for
    torch:SOURCE             the nn.Module in evaluation mode, eager, without gradients               (torch_racer.py)
    compile:SOURCE           the same behind torch.compile, with its defaults

    Job --opened--> Racer --ready--> call: one run, from arrays in this process's memory to an answer there

Torch is imported for the last two alone. Test: tests/test_racers.py.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgecnn.latency.job import TORCH_KINDS, Job
from runtimes.base import BadInput
from runtimes.execution.model_file import is_bundle, is_model_file, open_any
from runtimes.session import TensorInfo
from runtimes.timing.racer import OnnxRacer, Racer


def kind_of(model: str) -> tuple[str, str]:
    """(kind, path or SOURCE) of what a user typed.

    >>> kind_of("a/model.onnx"), kind_of("torch:torchvision:resnet50"), kind_of("compile:nets.py:Net")
    (('onnx', 'a/model.onnx'), ('torch', 'torchvision:resnet50'), ('compile', 'nets.py:Net'))
    """
    kind, colon, source = model.partition(":")
    return (kind, source) if colon and kind in TORCH_KINDS else ("onnx", model)


def check(model: str) -> None:
    """Raise `BadInput` for what cannot be raced, as far as a look tells: a missing file, a network without `torch:`."""
    kind, source = kind_of(model)
    if kind == "onnx":
        refuse_source(source, f"race it as torch:{model} or compile:{model}, or export it")
        is_bundle(Path(source))
    elif not source or is_model_file(source):
        raise BadInput(f"{model}: {kind}: wants a PyTorch network, as in {kind}:resnet18; give a model file as it is")


def refuse_source(model: str, advice: str = "export it first") -> None:
    """Raise `BadInput` for the name of a PyTorch network, where a model file is wanted."""
    from edgecnn.networks.zoo import list_models

    if is_model_file(model) or not (":" in model or model in {row.name for row in list_models()}):
        return
    source = kind_of(model)[1]
    name = source.rpartition(":")[2] or "model"
    raise BadInput(f"{model}: is a PyTorch network; {advice}: `edgecnn export {source} -o {name}.onnx`")


def opened(job: Job) -> Racer:
    """Load what `job` names; raises `BadInput` and `Unavailable`."""
    if job.kind == "onnx":
        return OnnxRacer(Path(job.model), job.provider, job.threads, job.batch, job.seed, job.input_shape)
    from edgecnn.latency.torch_racer import TorchRacer

    return TorchRacer(job)


def wanted(job: Job) -> tuple[TensorInfo, ...]:
    """The inputs of what `job` names, as it declares them; raises what `opened` raises."""
    if job.kind == "onnx":
        return open_any(Path(job.model), job.provider, job.threads).inputs
    from edgecnn.latency.torch_racer import network_of

    return network_of(job).inputs


@contextlib.contextmanager
def torch_threads(jobs: Sequence[Job]) -> Iterator[None]:
    """Inside, torch uses as many threads as the jobs ask for, where one of them is torch's."""
    if all(job.kind == "onnx" for job in jobs):
        yield
        return
    from edgecnn.latency.torch_racer import threads

    with threads(jobs[0].threads):
        yield


def quiet_openmp() -> None:
    """Let OpenMP's threads sleep between loops; before torch is loaded, else too late.

    Spinning threads of one racer steal time from the next one, as ONNX Runtime's would (runtimes/session.py).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
