"""A model in a race: how it is fed, what a race times of it, and a race of several, with what disturbed it.

    model file ──OnnxRacer──> ready: one run, from arrays in this process's memory to an answer there
    racers ──heat──> latency (runtimes/latency.py), noise (runtimes/timing/noise.py), kernels (runtimes/census.py)

Test: tests/test_racers.py, tests/test_benchmark.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runtimes.base import Track, silent
from runtimes.bundle import MODEL
from runtimes.census import Kernel, census
from runtimes.execution.fresh import Probe
from runtimes.execution.model_file import external_of, model_of, open_any
from runtimes.execution.shapes import shapes_of
from runtimes.latency import Call, race
from runtimes.session import Session
from runtimes.timing import noise
from runtimes.timing.bench_report import Heat, ModelBench

ITERATIONS, SECONDS_PER_MODEL = 1000, 10.0
"""Without a number of iterations: as many as fit the time, at most so many."""


class Racer(Protocol):
    provider: str

    @property
    def fed(self) -> Mapping[str, tuple[int, ...]]:
        """The sizes of its inputs."""

    def run(self) -> object:
        """One run on the job's seeded inputs; raises `BadInput` where they do not fit."""

    def ready(self) -> Call:
        """What a race times: the same run again and again, checked beforehand by one."""

    def kernels(self) -> tuple[Kernel, ...]:
        """What ONNX Runtime ran; empty for PyTorch."""


class OnnxRacer:
    """An .onnx file or the `member` of a bundle on ONNX Runtime; `input_shape` one text an input."""

    def __init__(
        self, path: Path, provider: str, threads: int, batch: int, seed: int, input_shape: tuple[str, ...] = (),
        member: str = MODEL,
    ) -> None:  # fmt: skip
        self.path, self.threads, self.member = path, threads, member
        self.session: Session = open_any(path, provider, threads, member)
        self.provider = self.session.provider
        sizes = shapes_of(input_shape, self.session.inputs, batch)
        self.feeds = self.session.random_feeds(batch, seed, sizes)
        self.fed = {name: value.shape for name, value in self.feeds.items()}

    def run(self) -> object:
        return self.session(self.feeds)

    def ready(self) -> Call:
        return self.session.prepare(self.feeds)

    def kernels(self) -> tuple[Kernel, ...]:
        model, external = model_of(self.path, self.member), external_of(self.path, self.member)
        return census(model, self.feeds, self.provider, self.threads, external=external)


def distinct(models: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Names for the table: the paths as given, numbered where one comes again.

    >>> distinct(["a.onnx", "b.onnx", "a.onnx"])
    ['a.onnx', 'b.onnx', 'a.onnx #2']
    """
    names = [os.fspath(model) for model in models]
    return [f"{name} #{names[:i].count(name) + 1}" if name in names[:i] else name for i, name in enumerate(names)]


@dataclass(frozen=True)
class Timing:
    """How long to race: None iterations are up to 1,000 in up to ten seconds a model."""

    iterations: int | None
    warmup: int
    seed: int


def heat(
    racers: Mapping[str, Racer], probes: Mapping[str, Probe], provider: str, threads: int, batch: int, timing: Timing,
    track: Track = silent,
) -> Heat:  # fmt: skip
    """Race `racers`, which were opened on `provider` with `threads` and `batch`."""
    calls = {name: racer.ready() for name, racer in racers.items()}
    seconds = None if timing.iterations else SECONDS_PER_MODEL * len(racers)
    before = noise.look()
    result = race(
        calls, timing.iterations or ITERATIONS, timing.warmup, timing.seed, seconds, track,
        threads=threads, clock=None if provider == "cpu" else "wall",
    )  # fmt: skip
    seen = noise.between(before, noise.look())
    rows = [
        ModelBench(name, racer.provider, batch, threads, probes[name], result.reports[name], racer.kernels(), racer.fed)
        for name, racer in racers.items()
    ]
    return Heat(tuple(rows), result, seen)
