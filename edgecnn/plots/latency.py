"""The samples of `edgecnn bench`: on the left in the order taken, on the right as shares that took at most so long.

One row of panels a combination of provider, batch and threads; wall time on a logarithmic axis, because a stall is
many times the median. Points on a curve: p50, p90, p99, where the samples are enough for them;
their numbers stand beside the axes.
Test: tests/test_plots_latency.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.plots._canvas import COLOURS, check_plot, figure, literal, save
from runtimes.latency import LatencyReport
from runtimes.timing.bench_report import BenchReport, Heat
from runtimes.words import number

__all__ = ["check_plot", "draw"]

MOST_DOTS = 4000
PERCENTILES = (50, 90, 99)


def draw(report: BenchReport, path: Path) -> None:
    """Write the picture to `path`; its ending says which format."""
    rows = len(report.heats)
    made, axes = figure(10, 0.6 + 3.1 * rows, rows, 2, squeeze=False)
    for heat, (left, right) in zip(report.heats, axes, strict=True):
        _panel(heat, left, right)
    handles, labels = axes[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper left", ncols=min(3, len(labels)), frameon=False, markerscale=3)
    save(made, path)


def _panel(heat: Heat, left: Any, right: Any) -> None:
    for i, model in enumerate(heat.models):
        colour = COLOURS[i % len(COLOURS)]
        _in_order(left, model.latency, colour, literal(model.model))
        _shares(right, model.latency, colour)
    _percentiles(right, heat)
    low, high = limits([m.latency for m in heat.models])
    for axis, name in ((left, "yaxis"), (right, "xaxis")):
        plain_log(axis, name, low, high)
    left.set_title(heat.name, loc="left", fontsize="medium")
    left.set_xlabel("round")
    left.set_ylabel("wall time, ms")
    right.set_title("share of runs that took at most", loc="left", fontsize="medium")
    right.set_xlabel("wall time, ms")
    right.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")


def _in_order(axis: Any, latency: LatencyReport, colour: str, label: str) -> None:
    step = math.ceil(len(latency.samples_ms) / MOST_DOTS)
    rounds = np.arange(1, len(latency.samples_ms) + 1)[::step]
    axis.plot(rounds, latency.samples_ms[::step], ".", color=colour, markersize=3, alpha=0.5, label=label, mew=0)


def _shares(axis: Any, latency: LatencyReport, colour: str) -> None:
    values = np.sort(latency.samples_ms)
    axis.step(values, np.arange(1, len(values) + 1) / len(values), where="post", color=colour)
    for percent, found in marked(latency).items():
        axis.plot([found], [percent / 100], "o", color=colour, markersize=5)


def marked(latency: LatencyReport) -> dict[int, float]:
    """The percentiles that the samples are enough for, in ms."""
    found = {p: latency.p50_ms if p == 50 else latency.percentile_ms(p) for p in PERCENTILES}
    return {percent: value for percent, value in found.items() if value is not None}


def _percentiles(axis: Any, heat: Heat) -> None:
    """Beside the axes, where no curve can be: a line a model, in its colour."""
    rows = [{f"p{percent}": number(ms) for percent, ms in marked(model.latency).items()} for model in heat.models]
    lines = [("0.3", [*rows[0], " ms"])]
    lines += [(COLOURS[i % len(COLOURS)], [*row.values()]) for i, row in enumerate(rows)]
    for i, (colour, words) in enumerate(lines):
        text = "".join(word if word == " ms" else f"{word:>6}" for word in words)
        axis.annotate(text, (1, 1), (2, -12 * i), "axes fraction", "offset points",
                      color=colour, family="monospace", fontsize="small", va="top")  # fmt: skip


def plain_log(axis: Any, name: str, low: float, high: float) -> None:
    """A logarithmic axis with numbers that people read: 0.5, 1, 2, 5, 10."""
    side = name[0]
    getattr(axis, f"set_{side}scale")("log")
    getattr(axis, f"set_{side}lim")(low, high)
    ticks = ticks_between(low, high)
    getattr(axis, f"set_{side}ticks")(ticks, [f"{tick:g}" for tick in ticks])
    getattr(axis, name).set_minor_formatter("")


def limits(reports: list[LatencyReport]) -> tuple[float, float]:
    """The axis in ms: all samples, at least a tenth apart, with a little room."""
    low, high = min(min(r.samples_ms) for r in reports), max(max(r.samples_ms) for r in reports)
    return low / 1.1, max(high, low * 1.1) * 1.1


def ticks_between(low: float, high: float) -> list[float]:
    """Round numbers between `low` and `high`, three to eight of them where they lie within a few decades.

    >>> ticks_between(0.9, 11), ticks_between(1.02, 1.3)
    ([1.0, 2.0, 5.0, 10.0], [1.1, 1.2, 1.3])
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [float(f"{d * 10.0**e:.6g}") for e in decades for d in digits if low <= d * 10.0**e <= high]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / 8)]
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    steps = next((step * k for k in (5, 2, 1) if (high - low) / (step * k) >= 2.5), step)
    return [float(f"{n * steps:.6g}") for n in range(math.ceil(low / steps), math.floor(high / steps) + 1)]
