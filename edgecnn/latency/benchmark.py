"""How fast is a model here, and which of several is faster: `edgecnn bench`. Imports torch for `torch:SOURCE` alone.

    for each provider, batch and number of threads:
        each model alone, in fresh processes    load, first run, peak memory      (fresh_process.py, median of three)
        all models together, interleaved        latency, ratios, verdicts         (runtimes/latency.py, ratios.py)
        around it                               what disturbed it                 (runtimes/noise.py)
        each model once with profiling          the kernels that really ran       (runtimes/census.py)
    then gates and the baseline                                                   (gates.py, baseline.py)

Everything is loaded and run once in a fresh process before the first race begins: what cannot run is found there.
Test: tests/test_benchmark.py.
"""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecnn.latency import baseline as baselines
from edgecnn.latency import gates
from edgecnn.latency.bench_report import BenchReport, Heat, ModelBench
from edgecnn.latency.fresh_process import Probe, inputs_of, probe
from edgecnn.latency.job import TORCH_KINDS, Job
from edgecnn.latency.racers import Racer, check, kind_of, opened, quiet_openmp, torch_threads
from edgecnn.latency.same_shapes import same_shapes
from edgecnn.shapes import ShapeText
from runtimes import noise
from runtimes.base import BadInput, Track, silent
from runtimes.files import check_output, write_atomic
from runtimes.latency import Race, race
from runtimes.machine import default_threads, describe
from runtimes.provider_options import require, several

PROBES = 3
ITERATIONS, SECONDS_PER_MODEL = 1000, 10.0
"""Without a number of iterations: as many as fit the time, at most so many."""
Name = str | os.PathLike[str]
Jobs = Mapping[str, Job]


@dataclass(frozen=True)
class Timing:
    """How long to race: None iterations are up to 1,000 in up to ten seconds a model."""

    iterations: int | None
    warmup: int
    seed: int


def bench(
    models: Sequence[Name] | Name,
    *,
    provider: str | Sequence[str] = "cpu",
    threads: int | Sequence[int] | None = None,
    batch: int | Sequence[int] = 1,
    iterations: int | None = None,
    warmup: int = 10,
    seed: int = 0,
    input_shape: ShapeText | None = None,
    weights: Name | None = None,
    gate: str | Sequence[str] = (),
    baseline: Name | None = None,
    tolerance: float = baselines.TOLERANCE,
    csv: Name | None = None,
    plot: Name | None = None,
    force: bool = False,
    track: Track = silent,
) -> BenchReport:
    """Measure .onnx files, bundles, `torch:SOURCE` and `compile:SOURCE` on seeded random inputs; several are raced.

    Several providers, batches or numbers of threads: one race for each combination. `gate` and `baseline` decide the
    report's `failure`; `csv` and `plot` are files to write. Raises `BadInput` and `Unavailable`.
    """
    given = [models] if isinstance(models, str | os.PathLike) else list(models)
    names = distinct(given)
    shapes = (input_shape,) if isinstance(input_shape, str) else tuple(input_shape or ())
    like = Job("", "", 1, 1, seed, shapes, weights=None if weights is None else os.fspath(weights))
    combinations = (
        several(provider) if isinstance(provider, str) else tuple(provider),
        _numbers(threads),
        _numbers(batch),
    )
    jobs = plan(names, [os.fspath(model) for model in given], *combinations, like)
    timing = Timing(iterations, warmup, seed)
    wanted = [gates.parse(text, names) for text in ([gate] if isinstance(gate, str) else gate)]
    before = None if baseline is None else baselines.read(Path(baseline), tolerance)
    outputs = _outputs(csv, plot, force)
    jobs = _same_shapes(jobs)
    probes = [{name: _probe(job, track) for name, job in group.items()} for group in jobs]  # what crashes, dies there
    heats = tuple(_heat(group, seen, timing, track) for group, seen in zip(jobs, probes, strict=True))
    report = BenchReport(describe(), heats, seed)
    report = replace(report, gates=tuple(gate.judge(heat) for gate in wanted for heat in heats),
                     baseline=() if before is None else before.judge(heats, report.machine))  # fmt: skip
    _write(report, *outputs)
    return report


def plan(
    names: Sequence[str], models: Sequence[str], providers: Sequence[str], threads: Sequence[int],
    batches: Sequence[int], like: Job,
) -> list[Jobs]:  # fmt: skip
    """One group of jobs a combination, after a look at every file and provider; raises `BadInput`, `Unavailable`."""
    if not models or min(batches) < 1 or min(threads or (1,)) < 1 or not providers:
        raise BadInput(f"bench: {len(models)} models, batch {min(batches)}; at least 1 of each is needed")
    for model in models:
        check(model)
    kinds = [kind_of(model) for model in models]
    if like.weights is not None and not any(kind in TORCH_KINDS for kind, _ in kinds):
        raise BadInput(f"{like.weights}: weights are for torch:SOURCE; model files have their own")
    for name in providers:
        require(name)
    return [
        {
            name: replace(like, kind=kind, model=source, provider=where, batch=batch, threads=count)
            for name, (kind, source) in zip(names, kinds, strict=True)
        }
        for where, batch, count in itertools.product(providers, batches, threads or (default_threads(),))
    ]


def distinct(models: Sequence[Name]) -> list[str]:
    """Names for the table: the paths as given, numbered where one comes again.

    >>> distinct(["a.onnx", "b.onnx", "a.onnx"])
    ['a.onnx', 'b.onnx', 'a.onnx #2']
    """
    names = [os.fspath(model) for model in models]
    return [f"{name} #{names[:i].count(name) + 1}" if name in names[:i] else name for i, name in enumerate(names)]


def _same_shapes(groups: Sequence[Jobs]) -> list[Jobs]:
    """Every group with the sizes that its models are raced with; a model alone has its own."""
    if len(groups[0]) == 1:
        return list(groups)
    wanted = {name: inputs_of(job) for name, job in groups[0].items()}
    return [same_shapes(group, wanted) for group in groups]


def _heat(jobs: Jobs, probes: Mapping[str, Probe], timing: Timing, track: Track) -> Heat:
    """Race one combination."""
    first = next(iter(jobs.values()))
    if any(job.kind in TORCH_KINDS for job in jobs.values()):
        quiet_openmp()
    with torch_threads(list(jobs.values())):
        racers = {name: opened(job) for name, job in jobs.items()}
        calls = {name: racer.ready() for name, racer in racers.items()}
        seconds = None if timing.iterations else SECONDS_PER_MODEL * len(jobs)
        before = noise.look()
        result = race(
            calls, timing.iterations or ITERATIONS, timing.warmup, timing.seed, seconds, track,
            threads=first.threads, clock=None if first.provider == "cpu" else "wall",
        )  # fmt: skip
        seen = noise.between(before, noise.look())
    return Heat(tuple(_row(name, jobs[name], probes[name], racers[name], result) for name in jobs), result, seen)


def _row(name: str, job: Job, seen: Probe, racer: Racer, result: Race) -> ModelBench:
    return ModelBench(
        name, racer.provider, job.batch, job.threads, seen, result.reports[name], racer.kernels(), racer.fed
    )


def _probe(job: Job, track: Track) -> Probe:
    """Medians of a few fresh processes, and the largest of their peaks."""
    seen = [probe(job) for _ in track(range(PROBES), f"loading {job.model}")]
    load, first = (statistics.median(getattr(p, name) for p in seen) for name in ("load_ms", "first_ms"))
    return Probe(load, first, max(p.peak_rss_mb for p in seen), all(p.finite for p in seen))


def _numbers(given: int | Sequence[int] | None) -> tuple[int, ...]:
    return () if given is None else (given,) if isinstance(given, int) else tuple(given)


def _outputs(csv: Name | None, plot: Name | None, force: bool) -> tuple[Path | None, Path | None]:
    """The files to write, if they can be written: found out before the measurement."""
    table = None if csv is None else check_output(Path(csv), force)
    if plot is None:
        return table, None
    from edgecnn.plots.latency import check_plot

    return table, check_plot(Path(plot), force)


def _write(report: BenchReport, csv: Path | None, plot: Path | None) -> None:
    if csv is not None:
        write_atomic(csv, report.to_csv().encode("utf-8", "surrogateescape"))
    if plot is not None:
        from edgecnn.plots.latency import draw

        draw(report, plot)
