"""The tables of `edgecnn bench`: one a combination, the ratios, what disturbed the race, and how the gates went."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgecnn.cli._tables import machine
from runtimes.base import counted

if TYPE_CHECKING:
    from edgecnn.latency.bench_report import BenchReport, Heat, ModelBench
    from edgecnn.report import Page
    from runtimes.ratios import Ratio

HEADINGS = {
    "p50_ms": ">p50 ms", "p90_ms": ">p90", "p99_ms": ">p99", "mean_ms": ">mean", "images_per_s": ">images/s",
    "load_ms": ">load ms", "first_ms": ">first ms", "peak_rss_mb": ">peak MB",
}  # fmt: skip
NEEDED_RUNS = {"p90_ms": 100, "p99_ms": 1000}


def benched(page: Page, report: BenchReport) -> None:
    from runtimes.census import dequantized

    machine(page, report.machine)
    for heat in report.heats:
        _heat(page, heat, sweep=len(report.heats) > 1)
    for name, ran in _kernels(report.models):
        page.note(f"kernels that ran in {name}: {ran}")
    for model in report.models:
        if not model.probe.finite:
            page.note(f"{model.model}: answers these inputs with NaN or infinity; is it the right file?")
        if dequantized(model.kernels):
            page.note(f"{model.model}: its int8 ran dequantized, in float; {model.provider} has no integer convolution")
    for outcome in report.outcomes:
        page.note(f"gate {outcome}")


def _heat(page: Page, heat: Heat, sweep: bool) -> None:
    """Columns that no model can fill are left out, and a line says why."""
    rows = [model.to_dict() for model in heat.models]
    shown = [key for key in HEADINGS if any(row[key] is not None for row in rows)]
    columns = ("model", *(HEADINGS[key] for key in shown))
    page.table(
        columns, [(row["model"], *(row[key] for key in shown)) for row in rows], title=f"{heat.name}{_fed(heat)}"
    )
    missing = [f"{key.removesuffix('_ms')} needs {runs:,}" for key, runs in NEEDED_RUNS.items() if key not in shown]
    if missing:
        page.note(f"{counted(heat.race.rounds, 'run')}: {' and '.join(missing)}.")
    if len(heat.models) > 2:
        pairs = [(r.a, r.b, f"{r.ratio:.3f}x", f"{r.low:.3f} to {r.high:.3f}", r.verdict) for r in heat.ratios]
        page.table(("speed of", "over", ">ratio", ">95 %", "verdict"), pairs)
    if sweep and len(heat.models) > 1:
        page.note(heat.verdict)
    page.note(f"noise: {'; '.join(_noise(heat))}")


def _fed(heat: Heat) -> str:
    """The sizes of the inputs, each once; other models' inputs may have other names or orders of axes."""
    sizes = dict.fromkeys("x".join(map(str, shape)) for model in heat.models for shape in model.fed.values())
    return f", fed {', '.join(sizes)}" if any(sizes) else ""


def _noise(heat: Heat) -> Iterator[str]:
    """The model that differs most from itself, then the causes that the system's counters tell."""
    if heat.itself:
        worst = max(heat.itself, key=_beside)
        yield f"a model against itself {worst.ratio:.3f}x (95 %: {worst.low:.3f} to {worst.high:.3f})"
    if heat.noise.load is not None:
        yield f"load average {heat.noise.load:.1f} before"
    yield from heat.noise.causes or ("nothing else seen",)


def _beside(half: Ratio) -> float:
    return max(half.ratio, 1 / half.ratio)


def _kernels(models: tuple[ModelBench, ...]) -> Iterator[tuple[str, str]]:
    """(model, its kernels in words), once where they are the same in every combination."""
    seen = set()
    for model in models:
        ran = ", ".join(f"{count} {op}" for op, count in model.to_dict()["kernels"].items())
        if ran and (model.model, ran) not in seen:
            seen.add((model.model, ran))
            yield model.model, ran
