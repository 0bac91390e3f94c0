"""The roofline: each layer at its MACs a byte and its MACs a second, under what this machine can do at best.

    y <= min(peak, intensity x bandwidth)        the area of a point is its share of the time

Source: Williams, Waterman & Patterson 2009, "Roofline". Test: tests/test_roofline.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edgecnn.plots._canvas import COLOURS, figure, render
from edgecnn.profiling.profile_report import ProfileReport, ms
from edgecnn.profiling.profiled import Measured, Row
from edgecnn.words import percent
from runtimes.base import counted

COLOUR = {"int8": COLOURS[1], "float": COLOURS[0]}
LARGEST, SMALLEST = 1600.0, 12.0
"""Points squared: of a layer with all the time, and the least that can be seen."""
NAMED = 6
LEAST_SHARE = 0.002
"""A layer with less of the time is left out: a crowd of them would stretch the axes."""
PAPER = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
NAME_WIDE, FURTHER = 0.22, (0.0, 0.07, 0.14)
LEAD = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.5}
POINTS_HIGH = 300.0
"""About the height of the axes."""


def roofline(report: ProfileReport, suffix: str) -> bytes:
    """The picture of the report's nodes as the bytes of a file that ends with `suffix`."""
    measured = report.measured
    layers = [row for row in measured.rows("node") if row.macs]
    rows = [row for row in layers if row.time_us >= LEAST_SHARE * measured.nodes_us]
    made, axes = figure(8.0, 5.2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = _limits(rows, measured)
    axes.set_xlim(low, high)
    _roofs(axes, measured, low, high)
    for kind in ("float", "int8"):
        _points(axes, [row for row in rows if ("int8" in row.kinds) == (kind == "int8")], kind, measured.nodes_us)
    axes.set_ylim(*_heights(rows, measured))
    _names(axes, rows, measured)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("MACs per byte moved")
    axes.set_ylabel("GMAC/s")
    share = sum(row.time_us for row in rows) / measured.nodes_us if measured.nodes_us else 0.0
    threads = counted(measured.peaks.threads, "thread")
    name = _tail(Path(measured.model).name)
    counts = f"{len(rows)} of {counted(len(layers), 'layer')} with MACs"
    axes.set_title(
        f"{name}: {counts}, {percent(share)} of {ms(measured.nodes_us)}, "
        f"{threads}", loc="left", fontsize=10,
    )  # fmt: skip
    if rows:
        axes.legend(loc="lower right", frameon=False, fontsize=8)
    return render(made, suffix)


def _limits(rows: list[Row], measured: Measured) -> tuple[float, float]:
    """Wide enough for every layer, and for the place where the memory's roof meets the higher peak."""
    found = [row.intensity for row in rows if row.intensity]
    ridge = max(measured.peaks.fp32_gmacs, measured.peaks.int8_gmacs) / measured.peaks.memory_gb_s
    return min([*found, ridge]) / 2.5, max([*found, ridge]) * 2.5


def _heights(rows: list[Row], measured: Measured) -> tuple[float, float]:
    rates = [row.gmacs for row in rows if row.gmacs]
    top = max(measured.peaks.fp32_gmacs, measured.peaks.int8_gmacs, *rates) * 1.9
    return min([*rates, top / 20]) / 2.5, top


def _roofs(axes: Any, measured: Measured, low: float, high: float) -> None:
    """Horizontal at the peaks, slanted at the bandwidths up to the higher peak."""
    peaks = measured.peaks
    top = max(peaks.fp32_gmacs, peaks.int8_gmacs)
    for kind, peak in (("float", peaks.fp32_gmacs), ("int8", peaks.int8_gmacs)):
        axes.axhline(peak, color=COLOUR[kind], linewidth=1.2)
        name = "fp32" if kind == "float" else "int8"
        axes.annotate(f"{name} peak\n{peak:.0f} GMAC/s", (high, peak), (4, 0), textcoords="offset points", ha="left",
                      va="center", color=COLOUR[kind], fontsize=8, annotation_clip=False)  # fmt: skip
    for name, rate, style in (("memory", peaks.memory_gb_s, "-"), ("cache", peaks.cache_gb_s, "--")):
        ends = (low, max(low, min(high, top / rate)))
        axes.plot(ends, [end * rate for end in ends], color="0.45", linewidth=1.0, linestyle=style,
                  label=f"{name}: {rate:.0f} GB/s", zorder=1)  # fmt: skip


def _points(axes: Any, rows: list[Row], kind: str, total: float) -> None:
    if not rows:
        return
    areas = [_area(row, total) for row in rows]
    label = f"{counted(len(rows), 'layer')} in {kind}"
    axes.scatter([row.intensity for row in rows], [row.gmacs for row in rows], areas, color=COLOUR[kind], alpha=0.65,
                 edgecolor="white", linewidth=0.6, label=label, zorder=3)  # fmt: skip


def _names(axes: Any, rows: list[Row], measured: Measured) -> None:
    """The dearest layers by name, below or above their point where there is room, with a thin line to it.

    No name lies on a roof, out of the axes, on another name or on the line to one.
    """
    total = sum(row.time_us for row in rows)
    points = [_place(axes, row) for row in rows]
    names: list[tuple[float, float]] = []
    for row, (x, y) in zip(rows, points, strict=True):
        away = math.sqrt(_area(row, total)) / 2 / POINTS_HIGH + 0.03
        for v in (y + sign * (away + more) for more in FURTHER for sign in (-1, 1)):
            free = all(abs(x - a) > NAME_WIDE or abs(v - b) > 0.045 for a, b in names)
            free = (
                free
                and 0.03 < v < 0.97
                and not any(b - 0.025 < v < c + 0.025 for b, c in _roofs_over(axes, x, measured))
            )
            free = free and not any(abs(x - a) < NAME_WIDE / 2 and min(y, v) < b < max(y, v) for a, b in names)
            free = free and all(abs(x - a) > NAME_WIDE / 2 or abs(v - b) > 0.035 for a, b in points)
            if free and len(names) < NAMED:
                names.append((x, v))
                axes.annotate(_tail(row.name, 28), (x, y), (x, v), "axes fraction", "axes fraction", LEAD, ha="center",
                              va="center", fontsize=7, color="0.2", zorder=4, bbox=PAPER)  # fmt: skip
                break


def _roofs_over(axes: Any, x: float, measured: Measured) -> list[tuple[float, float]]:
    """Lowest and highest place of each roof along a name at `x`, as shares of the axes' height."""
    peaks = measured.peaks
    top = max(peaks.fp32_gmacs, peaks.int8_gmacs)
    low, high = axes.get_xlim()
    ends = [low * (high / low) ** (x + side * NAME_WIDE / 3) for side in (-1, 1)]
    slanted = [[min(top, end * rate) for end in ends] for rate in (peaks.memory_gb_s, peaks.cache_gb_s)]
    flat = [[peaks.fp32_gmacs] * 2, [peaks.int8_gmacs] * 2]
    return [(_share(axes.get_ylim(), a), _share(axes.get_ylim(), b)) for a, b in (*flat, *slanted)]


def _place(axes: Any, row: Row) -> tuple[float, float]:
    """Where the point of `row` lies, as shares of the axes' width and height."""
    return _share(axes.get_xlim(), row.intensity or 1.0), _share(axes.get_ylim(), row.gmacs or 1.0)


def _share(limits: tuple[float, float], value: float) -> float:
    """How far along a logarithmic axis `value` lies."""
    low, high = limits
    return math.log(value / low) / math.log(high / low)


def _area(row: Row, total: float) -> float:
    return max(SMALLEST, LARGEST * row.time_us / total) if total else SMALLEST


def _tail(name: str, most: int = 40) -> str:
    return name if len(name) <= most else f"...{name[3 - most :]}"
