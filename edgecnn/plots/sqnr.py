"""SQNR of every layer of a diff as a picture: what the network has lost up to there, and what the layer adds itself.

Test: tests/test_diff.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.plots._canvas import COLOURS, figure, save
from runtimes.base import counted

if TYPE_CHECKING:
    from edgecnn.checking.divergence import DiffReport

HIGHEST_DB, LOWEST_DB = 150.0, -10.0
MOST_NAMES = 40


def draw(report: DiffReport, path: Path) -> None:
    """Write the picture of `report.layers` to `path`."""
    save(plot(report), path)


def plot(report: DiffReport) -> Any:
    """The figure. Equal layers lie on a line above all numbers, those that cannot be compared at the lower edge."""
    rows = [row for row in report.layers if not row.index]
    numbers = [[_within(getattr(row, kind)) for row in rows] for kind in ("snr_db", "alone_db")]
    places = range(len(rows))
    made, axes = figure(max(7.0, min(0.22 * len(rows) + 2, 18.0)), 5.0)
    highest = max((v for line in numbers for v in line if v < HIGHEST_DB), default=HIGHEST_DB - 20)
    equal = highest + max(8.0, 0.15 * (highest - min((v for line in numbers for v in line), default=0.0)))
    lines = [[equal if v >= HIGHEST_DB else v for v in line] for line in numbers]
    axes.plot(places, lines[0], color=COLOURS[0], marker="o", markersize=3.5, label="up to this layer", zorder=3)
    axes.plot(places, lines[1], color=COLOURS[1], marker="s", markersize=3.5, linestyle="", label="this layer alone",
              zorder=2)  # fmt: skip
    _mark(axes, report, rows, lines)
    _name(axes, [row.layer.node for row in rows])
    axes.set_ylabel("SQNR against the reference, dB")
    axes.set_title(f"{Path(report.candidate).name} against {Path(report.reference).name}, "
                   f"{counted(report.samples, 'sample')}",
                   fontsize=10)  # fmt: skip
    _edge(axes, equal, highest)
    made.legend(loc="outside lower left", ncols=3, frameon=False)
    return made


def _edge(axes: Any, equal: float, highest: float) -> None:
    """The line on which equal layers lie, named on the axis, where no number of decibels is level with it."""
    axes.axhline(equal, color="0.75", linewidth=0.8, linestyle="--", zorder=1)
    low = min(axes.get_ylim()[0], highest - 10)
    axes.set_ylim(low, equal + 0.05 * (equal - low))
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= (highest + equal) / 2]
    axes.set_yticks([*ticks, equal], [*(f"{tick:g}" for tick in ticks), "equal"])


def _within(value: float) -> float:
    return LOWEST_DB if math.isnan(value) else max(LOWEST_DB, min(HIGHEST_DB, value))


def _mark(axes: Any, report: DiffReport, rows: list[Any], lines: list[list[float]]) -> None:
    for i, row in enumerate(rows):
        if report.first is not None and row.point == report.first.point:
            axes.scatter([i], [lines[0][i]], s=120, facecolors="none", edgecolors="#b00020", linewidths=1.8, zorder=4,
                         label=f"first that differs: {report.first.node}")  # fmt: skip


def _name(axes: Any, names: list[str]) -> None:
    """Every layer's name, or every second, third ... where there are many."""
    step = max(1, math.ceil(len(names) / MOST_NAMES))
    places = list(range(0, len(names), step))
    axes.set_xticks(places, [_short(names[i]) for i in places], rotation=90, fontsize=7)
    axes.set_xlim(-0.5, max(len(names) - 0.5, 0.5))


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"...{name[-most + 3 :]}"
