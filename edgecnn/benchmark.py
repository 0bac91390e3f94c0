"""How fast is a model here, and which of several is faster: `edgecnn bench`. Never imports torch.

    each model alone, in fresh processes    load, first run, peak memory      (fresh_process.py, median of three)
    all models together, interleaved        latency, ratios, verdicts         (runtimes/latency.py)
    each model once with profiling          the kernels that really ran       (runtimes/census.py)

Test: tests/test_benchmark.py.
"""

from __future__ import annotations

import functools
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecnn.fresh_process import Job, Probe, probe
from edgecnn.opened import external_of, is_bundle, is_model_file, model_of, open_any
from edgecnn.shapes import ShapeText, parse_shapes
from runtimes.base import BadInput, Inconclusive, Tensors, Track, silent
from runtimes.census import Kernel, census, kernels_dict
from runtimes.latency import LatencyReport, Race, Ratio, race
from runtimes.machine import Machine, default_threads, describe
from runtimes.session import Session, random_feeds

PROBES = 3
ITERATIONS, SECONDS_PER_MODEL = 1000, 10.0
"""Without a number of iterations: as many as fit the time, at most so many."""


@dataclass(frozen=True)
class ModelBench:
    """One model's numbers. `probe` comes from fresh processes, `latency` from the race, `kernels` from the census."""

    model: str
    provider: str
    batch: int
    threads: int
    probe: Probe
    latency: LatencyReport
    kernels: tuple[Kernel, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "provider": self.provider,
            "batch": self.batch,
            "threads": self.threads,
            **self.latency.to_dict(self.batch),
            **asdict(self.probe),
            "kernels": kernels_dict(self.kernels),
            "providers_used": sorted({kernel.provider for kernel in self.kernels}),
        }


@dataclass(frozen=True)
class BenchReport:
    """`models` in the order given; `race` holds every sample."""

    machine: Machine
    models: tuple[ModelBench, ...]
    race: Race
    seed: int

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Every pair once, in the order given."""
        return self.race.ratios()

    @property
    def winning(self) -> tuple[Ratio, ...]:
        """The fastest model (by median) against each of the others."""
        fastest = min(self.race.names, key=lambda name: statistics.median(self.race.times_ms(name)))
        return tuple(self.race.ratio(fastest, name) for name in self.race.names if name != fastest)

    @property
    def verdict(self) -> str:
        if len(self.models) > 1:
            return f"{'; '.join(map(str, self.winning))}; {self.race.rounds} rounds, {self.race.clock} time."
        only = self.models[0]
        where = f"{only.provider}, {only.threads} thread{'s' if only.threads > 1 else ''}"
        return f"{only.model}: {only.latency.p50_ms:.3g} ms on {where}, median of {self.race.rounds} runs."

    @property
    def failure(self) -> Inconclusive | None:
        """What the command line exits with: None unless the race of several models has no clear outcome."""
        open_ones = [ratio for ratio in self.winning if ratio.verdict == "inconclusive"]
        if not open_ones:
            return None
        return Inconclusive(f"{open_ones[0]}; raise --iterations, or use a quieter machine")

    def to_dict(self) -> dict[str, Any]:
        return {
            "machine": self.machine.to_dict(),
            "models": [model.to_dict() for model in self.models],
            "ratios": [ratio.to_dict() for ratio in self.ratios],
            "clock": self.race.clock,
            "seed": self.seed,
        }


def bench(
    models: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    provider: str = "cpu",
    threads: int | None = None,
    batch: int = 1,
    iterations: int | None = None,
    warmup: int = 10,
    seed: int = 0,
    input_shape: ShapeText | None = None,
    track: Track = silent,
) -> BenchReport:
    """Measure .onnx files and bundles on seeded random inputs; several are raced and compared.

    `iterations` None: up to 1,000 runs in up to ten seconds a model. Raises `BadInput` and `Unavailable`.
    """
    given = [models] if isinstance(models, str | os.PathLike) else list(models)
    paths = {name: Path(model) for name, model in zip(distinct(given), given, strict=True)}
    if not paths or batch < 1 or warmup < 0:
        raise BadInput(f"bench: {len(paths)} models, batch {batch}, {warmup} warm-ups; at least 1, 1 and 0 are needed")
    for path in paths.values():
        refuse_source(os.fspath(path))
        is_bundle(path)  # every file can be read, before the first one is measured
    threads = default_threads() if threads is None else threads
    texts = (input_shape,) if isinstance(input_shape, str) else tuple(input_shape or ())
    jobs = {name: Job(os.fspath(path), provider, threads, batch, seed, texts) for name, path in paths.items()}
    probes = {name: _probe(job, track) for name, job in jobs.items()}  # first: a model that crashes dies there
    sessions = {name: open_any(path, provider, threads) for name, path in paths.items()}
    feeds = {name: _feeds(session, batch, seed, texts) for name, session in sessions.items()}
    result = race(
        {name: functools.partial(session, feeds[name]) for name, session in sessions.items()},
        iterations or ITERATIONS, warmup, seed, None if iterations else SECONDS_PER_MODEL * len(paths), track,
        threads=threads, clock=None if provider == "cpu" else "wall",
    )  # fmt: skip
    kernels = {
        name: census(model_of(path), feeds[name], provider, threads, external=external_of(path))
        for name, path in paths.items()
    }
    rows = [
        ModelBench(name, session.provider, batch, threads, probes[name], result.reports[name], kernels[name])
        for name, session in sessions.items()
    ]
    return BenchReport(describe(), tuple(rows), result, seed)


def distinct(models: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Names for the table: the paths as given, numbered where one comes again.

    >>> distinct(["a.onnx", "b.onnx", "a.onnx"])
    ['a.onnx', 'b.onnx', 'a.onnx #2']
    """
    names = [os.fspath(model) for model in models]
    return [f"{name} #{names[:i].count(name) + 1}" if name in names[:i] else name for i, name in enumerate(names)]


def refuse_source(model: str) -> None:
    """Raise `BadInput` for the name of a PyTorch network, which must be exported first."""
    from edgecnn.zoo import list_models

    if is_model_file(model) or not (":" in model or model in {row.name for row in list_models()}):
        return
    name = model.rpartition(":")[2] or "model"
    raise BadInput(f"{model}: is a PyTorch network; export it first: `edgecnn export {model} -o {name}.onnx`")


def _probe(job: Job, track: Track) -> Probe:
    """Medians of a few fresh processes, and the largest of their peaks."""
    seen = [probe(job) for _ in track(range(PROBES), f"loading {job.model}")]
    load, first = (statistics.median(getattr(p, name) for p in seen) for name in ("load_ms", "first_ms"))
    return Probe(load, first, max(p.peak_rss_mb for p in seen))


def _feeds(session: Session, batch: int, seed: int, texts: Sequence[str]) -> Tensors:
    return random_feeds(session.inputs, batch, seed, parse_shapes(texts, [info.name for info in session.inputs]))
