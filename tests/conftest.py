"""What several test files share: networks exported once a session, and photographs from scikit-learn."""

from __future__ import annotations

import copy
import functools
import gc
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from edgecnn import stages
from edgecnn.data.load import load_data
from edgecnn.networks.sources import Network, resolve, settle
from exporters.artifact import Stage
from exporters.isolation import sandbox
from exporters.isolation.warm import warm_children
from profiles import PEAKS
from runtimes.base import Tensors


@dataclass(frozen=True)
class Walked:
    """A network of the zoo that has walked the float part of the real road."""

    network: Network
    model: onnx.ModelProto
    stages: tuple[Stage, ...]
    reference: stages.Reference


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_arrives() -> None:
    """A shell starts background jobs (a CI runner's, say) with Ctrl-C ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_progress_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes ten seconds for what is tested, and would write a line more on stderr."""
    monkeypatch.setattr("edgecnn.cli._progress.FIRST_SECONDS", 3600.0)


@pytest.fixture
def quick_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is said around a measurement: a model is probed once, the machine's peaks are given."""
    monkeypatch.setattr("edgecnn.latency.benchmark.PROBES", 1)
    monkeypatch.setattr("edgecnn.profiling.profile.measure_peaks", lambda threads: PEAKS)


@pytest.fixture(scope="session", autouse=True)
def children() -> Iterator[None]:
    """One process that has imported onnxsim, and a fork of it for every child: a fresh one takes a second.

    `fresh_children` is for the files that are about fresh ones.
    """
    with warm_children():
        yield


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """torch's exporter reads its whole operator library anew for each export, more than half a small one's time.

    Here once a process and operator set; every export still gets a registry of its own, to which it may add.
    """
    try:
        registry_class: Any = import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
        read = functools.cache(registry_class.from_torchlib)
    except (ImportError, AttributeError):  # private to torch: where it has moved, tests are slower
        yield
        return

    def copied(*args: Any, **options: Any) -> Any:
        made = copy.copy(read(*args, **options))
        made.functions = {target: list(found) for target, found in made.functions.items()}
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_class, "from_torchlib", staticmethod(copied))
        yield


@pytest.fixture(scope="session", autouse=True)
def operators_looked_up_once() -> Iterator[None]:
    """An export has torch touch all its composite operators once for each of their namespaces; here, new ones only.

    And it gives a thousand of them other kernels for a while, whose `py_impl` spends its time on annotations. The two
    are a third of a small export.
    """
    try:
        exporting, base = import_module("torch._export.utils"), import_module("torch._ops").OperatorBase
        touch, plain = exporting._materialize_cpp_cia_ops, base.py_impl
        registered, keys = torch._C._dispatch_get_registrations_for_dispatch_key, torch._C.DispatchKey
    except (ImportError, AttributeError):  # private to torch, too
        yield
        return
    known: list[str] = []

    def touch_new() -> None:
        if (now := registered("CompositeImplicitAutograd")) != known:
            touch()
            known[:] = now

    def give(operator: Any, key: Any, kernel: Any) -> Any:
        operator.py_kernels[key] = kernel
        operator._dispatch_cache.clear()
        return kernel

    def py_impl(operator: Any, key: Any) -> Any:
        usual = type(key) is keys and key != keys.Python and key not in operator.py_kernels
        return functools.partial(give, operator, key) if usual else plain(operator, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "_materialize_cpp_cia_ops", touch_new)
        patch.setattr(base, "py_impl", py_impl)
        yield


@pytest.fixture(scope="module")
def fresh_children() -> Iterator[None]:
    with sandbox.use(sandbox.fresh):
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 32 seeded crops of scikit-learn's two sample photographs."""
    from sklearn.datasets import load_sample_images

    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    pictures = load_sample_images().images
    for i in range(32):
        picture, side = pictures[i % 2], int(rng.integers(200, 400))
        top, left = (int(rng.integers(0, n - side)) for n in picture.shape[:2])
        Image.fromarray(picture[top : top + side, left : left + side]).save(folder / f"{i:02d}.jpg", quality=95)
    return folder


@pytest.fixture(scope="session")
def walk() -> Callable[[str], Walked]:
    """`walk("resnet18")`: the network, seeded, after `stages.float_road`; each is exported once a session.

    The last BatchNorm of every residual branch is damped to 0.2, about where training leaves it: random branches at
    full strength double any rounding error every few blocks, and ResNet-50's own float32 noise is then at 97 dB. Their
    images are 128 pixels high, a third of the pixels: it is layers that add up rounding.
    """

    @functools.cache
    def walked(name: str) -> Walked:
        network = resolve(name, input_shape=(3, 128, 128) if name.startswith("resnet") else None)
        last = {"resnet18": "bn2", "resnet50": "bn3"}.get(name, "none")
        with torch.no_grad():
            for path, module in network.module.named_modules():
                if path.endswith(last) and isinstance(module, torch.nn.BatchNorm2d):
                    module.weight.fill_(0.2)
        settle(network.module, network.ready)
        return Walked(network, *stages.float_road(network))

    return walked


@pytest.fixture(scope="session")
def photo_feeds(photos: Path) -> Callable[[Network, int], list[Tensors]]:
    """`photo_feeds(network, n)`: the first n photographs as feeds of one image."""

    def feeds(network: Network, count: int) -> list[Tensors]:
        return load_data(str(photos), network.ready).feeds(stages.INPUT_NAME, 1)[:count]

    return feeds


def pytest_collection_finish() -> None:
    """What is loaded by now stays: looking through it for garbage again and again is a tenth of an export's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: with one file a process (`--dist loadfile`), none of them runs alone at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
