"""`python NAME.edge bench`: the bundle alone, or raced against its float graph and against models that are named.

    each model alone, in fresh processes    load, first run, peak memory       (this bundle started again as a child)
    all models together, interleaved        latency, ratios, noise, kernels    (runtimes/timing/racer.py)

Test: tests/test_device_bundle.py.
"""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtimes.bundle import FLOAT_MODEL, MODEL, open_bundle
from runtimes.execution.fresh import PROBES, Probe, ask, measured, middle
from runtimes.execution.model_file import built_size
from runtimes.execution.provider_options import require
from runtimes.machine import default_threads, describe
from runtimes.timing.bench_report import BenchReport
from runtimes.timing.racer import OnnxRacer, Timing, distinct, heat


@dataclass(frozen=True)
class Entry:
    """One model of the race: the arguments of its `OnnxRacer`."""

    path: str
    provider: str
    threads: int
    batch: int
    seed: int
    input_shape: tuple[str, ...]
    member: str = MODEL

    def opened(self) -> OnnxRacer:
        return OnnxRacer(Path(self.path), *list(asdict(self).values())[1:])


def bench(bundle: str, given: Namespace) -> BenchReport:
    """Race what `bundle` holds and the models that are `given`, on seeded random inputs."""
    require(given.provider)
    threads = given.threads or default_threads()
    entries = {}
    for name, path, member in _raced(bundle, given.models):
        shape = tuple(given.input_shape) or built_size(Path(path), given.batch)
        entries[name] = Entry(path, given.provider, threads, given.batch, given.seed, shape, member)
    probes = {name: _probe(bundle, entry) for name, entry in entries.items()}  # what crashes, dies there
    racers = {name: entry.opened() for name, entry in entries.items()}
    timing = Timing(given.iterations, given.warmup, given.seed)
    return BenchReport(
        describe(), (heat(racers, probes, given.provider, threads, given.batch, timing),), given.seed
    )  # fmt: skip


def _raced(bundle: str, models: list[str]) -> list[tuple[str, str, str]]:
    """(name, path, member) of each model, in the order of the race."""
    members = [MODEL, *([FLOAT_MODEL] if FLOAT_MODEL in open_bundle(bundle).archive.members else [])]
    found = [(bundle, MODEL), *((bundle, member) for member in members[1:]), *((model, MODEL) for model in models)]
    names = distinct([path if member == MODEL else f"{path}:{member}" for path, member in found])
    return [(name, *each) for name, each in zip(names, found, strict=True)]


def _probe(bundle: str, entry: Entry) -> Probe:
    command = [sys.executable, *(["-I"] if sys.flags.isolated else []), bundle, "_probe"]
    seen = [Probe(**ask(command, asdict(entry), entry.path, "ONNX Runtime")) for _ in range(PROBES)]
    return middle(seen)


def probed(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The child's answer."""
    importlib.import_module("onnxruntime")  # not the model's time
    fields = {name: asked[name] for name in Entry.__dataclass_fields__}
    entry = Entry(**{**fields, "input_shape": tuple(fields["input_shape"])})
    return asdict(measured(entry.opened))
