"""How fast is a model here, and which of several is faster: `edgecnn bench`. Imports torch for `torch:SOURCE` alone.

    for each provider, batch and number of threads:
        each model alone, in fresh processes    load, first run, peak memory      (fresh_process.py, median of three)
        all models together, interleaved        latency, ratios, verdicts         (runtimes/latency.py, ratios.py)
        around it                               what disturbed it                 (runtimes/timing/noise.py)
        each model once with profiling          the kernels that really ran       (runtimes/census.py)
    then gates and the baseline                                                   (gates.py, baseline.py)

Everything is loaded and run once in a fresh process before the first race begins: what cannot run is found there.
Test: tests/test_benchmark.py.
"""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgecnn import doubts
from edgecnn.given_model import refuse_module
from edgecnn.latency import baseline as baselines
from edgecnn.latency import gates
from edgecnn.latency.assumptions import Jobs, of_pictures, of_sizes, sized
from edgecnn.latency.fresh_process import probe
from edgecnn.latency.job import TORCH_KINDS, Job
from edgecnn.latency.racers import check, kind_of, opened, quiet_openmp, torch_threads
from runtimes.base import BadInput, Track, silent
from runtimes.execution.fresh import PROBES, Probe, middle
from runtimes.execution.provider_options import require, several
from runtimes.execution.shapes import ShapeText, texts_of
from runtimes.files import check_output, require_apart, write_atomic
from runtimes.machine import default_threads, describe
from runtimes.timing.bench_report import BenchReport, Combination, Heat
from runtimes.timing.racer import OnnxRacer, Racer, Timing, distinct, heat

Name = str | os.PathLike[str]
FRESH = "loads each model in fresh processes: give torch:FILE.py:NAME, or export it first"


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
    tell: doubts.Tell = doubts.unheard,
) -> BenchReport:
    """Measure .onnx files, bundles, `torch:SOURCE` and `compile:SOURCE` on seeded random inputs; several are raced.

    Several providers, batches or numbers of threads: one race for each combination. `gate` and `baseline` decide the
    report's `failure`; `csv` and `plot` are files to write. `tell` hears what was assumed before the race; the report's
    `warnings` have it too. Raises `BadInput` and `Unavailable`.
    """
    refuse_module(models, "bench", FRESH)
    given = [models] if isinstance(models, str | os.PathLike) else list(models)
    for model in given:
        refuse_module(model, "bench", FRESH)
    names = distinct(given)
    shapes = tuple(texts_of(input_shape))
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
    if before is not None:
        before.require(names, [_combination(group) for group in jobs])
    outputs = _outputs(csv, plot, force, [*_files(jobs), baseline, weights])
    asked, jobs = jobs, sized(jobs)
    lines = (line for one, other in zip(asked, jobs, strict=True) for line in of_sizes(one, other))
    heard = list(doubts.aloud(tell, doubts.told(*lines)))
    probes = [{name: _probe(job, track) for name, job in group.items()} for group in jobs]  # what crashes, dies there
    heats = tuple(_heat(group, seen, timing, track, tell, heard) for group, seen in zip(jobs, probes, strict=True))
    report = BenchReport(describe(), heats, operator.index(seed), warnings=tuple(heard))
    report = replace(report, gates=tuple(gate.judge(heat) for gate in wanted for heat in heats))
    if before is not None:
        compared = before.judge(heats, report.machine)
        report = replace(report, baseline=compared, unmeasured=before.unmeasured(heats))
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


def _combination(jobs: Jobs) -> Combination:
    first = next(iter(jobs.values()))
    return Combination(first.provider, first.threads, first.batch)


def _heat(
    jobs: Jobs, probes: Mapping[str, Probe], timing: Timing, track: Track, tell: doubts.Tell, heard: list[str]
) -> Heat:
    """Race one combination; what is to be said of its inputs, and is not in `heard`, is told and added there."""
    first = next(iter(jobs.values()))
    if any(job.kind in TORCH_KINDS for job in jobs.values()):
        quiet_openmp()
    with torch_threads(list(jobs.values())):
        racers = {name: opened(job) for name, job in jobs.items()}
        lines = (of_pictures(name, outputs_of(racer)) for name, racer in racers.items())
        heard += doubts.aloud(tell, tuple(line for line in doubts.told(*lines) if line not in heard))
        return heat(racers, probes, first.provider, first.threads, first.batch, timing, track)


def outputs_of(racer: Racer) -> tuple[str, ...]:
    return tuple(info.name for info in racer.session.outputs) if isinstance(racer, OnnxRacer) else ()


def _probe(job: Job, track: Track) -> Probe:
    return middle([probe(job) for _ in track(range(PROBES), f"loading {job.model}")])


def _numbers(given: int | Sequence[int] | None) -> tuple[int, ...]:
    return () if given is None else tuple(map(operator.index, given if isinstance(given, Iterable) else [given]))


def _files(jobs: Iterable[Jobs]) -> list[str]:
    """The files that `jobs` may read: of a network in `FILE.py:NAME`, the file."""
    models = {job.model for group in jobs for job in group.values()}
    return sorted(models | {model.rpartition(":")[0] for model in models if ":" in model})


def _outputs(
    csv: Name | None, plot: Name | None, force: bool, inputs: Sequence[Name | None]
) -> tuple[Path | None, Path | None]:
    """The files to write, if they can be written and are none of `inputs`: found out before the measurement."""
    table, drawing = (None if name is None else Path(name) for name in (csv, plot))
    require_apart([table, drawing], inputs)
    if table is not None:
        check_output(table, force)
    if drawing is not None:
        from edgecnn.plots.latency import check_plot

        check_plot(drawing, force)
    return table, drawing


def _write(report: BenchReport, csv: Path | None, plot: Path | None) -> None:
    if csv is not None:
        write_atomic(csv, report.to_csv().encode("utf-8", "surrogateescape"))
    if plot is not None:
        from edgecnn.plots.latency import draw

        draw(report, plot)
