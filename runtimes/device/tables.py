"""What `run`, `verify`, `settle` and `bench` found, as tables. Test: tests/test_benchmark.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtimes.base import counted
from runtimes.words import number

if TYPE_CHECKING:
    from runtimes.device.page import Page
    from runtimes.machine import Machine
    from runtimes.proof.golden import GoldenCheck
    from runtimes.proof.prediction import RunReport
    from runtimes.proof.settling import SettleReport
    from runtimes.proof.verification import VerifyReport
    from runtimes.timing.bench_report import BenchReport, Heat, ModelBench
    from runtimes.timing.ratios import Ratio

MACHINE_WIDE = ("cpu", "isa", "cores", "threads", "memory_mb", "os", "onnxruntime")
HEADINGS = {
    "p50_ms": ">p50 ms (wall)", "p90_ms": ">p90", "p99_ms": ">p99", "mean_ms": ">mean", "images_per_s": ">images/s",
    "load_ms": ">load ms", "first_ms": ">first ms", "peak_rss_mb": ">peak MB",
}  # fmt: skip
NEEDED_RUNS = {"p90_ms": 100, "p99_ms": 1000}


def predicted(page: Page, report: RunReport) -> None:
    """One row an image: its classes, what its mask holds, or what was found in it; and the pictures that were saved."""
    rows: list[tuple[object, ...]] = []
    for p in report.predictions:
        top = getattr(p, "top", None)
        if top:
            rest = ", ".join(f"{a.label} {a.score:.2%}" for a in top[1:])
            rows.append((p.input, top[0].label, f"{top[0].score:.2%}", rest))
        else:
            rows.append((p.input, p.words or "nothing found"))
    page.table(("input", "label", ">score", "then") if rows and len(rows[0]) == 4 else ("input", "answer"), rows)
    for file in (file for p in report.predictions for file in getattr(p, "files", ())):
        page.note(f"saved {file}")


def verified(page: Page, report: VerifyReport) -> None:
    """One row a golden check."""
    rows = [("x".join(map(str, g.shape)), g.images, _measure(g), g.value, g.limit, g.passed) for g in report.golden]
    page.table(("golden input", ">images", "measure", ">value", ">limit", "holds"), rows)


def _measure(check: GoldenCheck) -> str:
    return check.measure.replace("_", " ") + (f" of {check.of}" if check.of else "")


def settled(page: Page, report: SettleReport) -> None:
    """One row a graph: its time, size, and how far its golden outputs are from the original's."""
    page.pairs(machine_pairs(report.machine))
    rows = []
    for graph in (report.float_graph, report.rival):
        worst, ratio = graph.worst, "-" if graph is report.float_graph else f"{report.speedup.ratio:.2f}x"
        proof = (_measure(worst), worst.value, worst.limit, not graph.wrong)
        rows.append((graph.name, graph.p50_ms, ratio, f"{graph.size_bytes:,}", *proof))
    page.table(("graph", ">median ms", ">speed-up", ">bytes", "golden", ">value", ">limit", "holds"), rows)
    threads = counted(report.threads, "thread")
    page.note(f"{counted(report.race.rounds, 'round')}, interleaved, {report.race.clock} time, on {threads}")
    page.note(f"wrote {report.output}, {report.size_bytes:,} bytes")


def machine_pairs(found: Machine) -> list[tuple[str, str]]:
    return [(name, _plain(value)) for name, value in found.to_dict().items() if name in MACHINE_WIDE]


def benched(page: Page, report: BenchReport) -> None:
    page.pairs(machine_pairs(report.machine))
    for heat in report.heats:
        _heat(page, heat, sweep=len(report.heats) > 1)
    for name, ran in _kernels(report.models):
        page.note(f"kernels that ran in {name}: {ran}")
    for model in report.models:
        if not model.probe.finite:
            page.note(f"{model.model}: answers these inputs with NaN or infinity; is it the right file?")
        for remark in model.remarks:
            page.note(f"{model.model}: {remark}")
    for outcome in report.outcomes:
        page.note(f"gate {outcome}")
    for row in report.unmeasured:
        page.note(f"in the baseline, not measured now: {row}")


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
    if heat.clocks:
        page.note(f"{heat.clocks}.")
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
    yield from heat.noise.causes or ("nothing else seen" if heat.noise.seen else "nothing else could be seen",)


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


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else number(value)
