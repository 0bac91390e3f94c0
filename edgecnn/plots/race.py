"""The race of a bundle: how much faster each candidate is and what it costs, and how its times are spread.

    speed and cost      x: accuracy lost, to the end of its interval      y: speed-up over float, with its interval
    spread              share of the runs that took at most so long

Small figures, for a page that shows them side by side or one below the other. Test: tests/test_page.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.plots._canvas import COLOURS, figure, literal
from edgecnn.plots.latency import plain_log

WIDTH, HEIGHT = 4.4, 3.5
MARKERS = "osD^vP"
STEPS = 200
"""Points of a curve: a page is small."""
SHOWN_SHARE = 0.99
"""The last hundredth of the runs would stretch the axis: they are stalls."""
SOFT = COLOURS[-1]


@dataclass(frozen=True)
class Point:
    """A candidate: speed-up over float with its interval, and what it loses (None: not measured), in percent points."""

    name: str
    ratio: float
    low: float
    high: float
    lost: float | None
    lost_high: float | None


def speed_and_cost(points: Sequence[Point], lost: str) -> Any:
    """The figure; `lost` is the name of its horizontal axis. What has no cost stands at the far right, hollow: the left
    is better, and it must not look so.
    """
    made, axes = figure(WIDTH, HEIGHT)
    known = [v for p in points for v in (p.lost, p.lost_high) if v is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    wide = max(high - low, 0.1)
    aside = high + 0.28 * wide
    axes.axhline(1, color=SOFT, linewidth=1, linestyle="--", zorder=1)
    axes.annotate("float", (0, 1), (2, 3), ("axes fraction", "data"), "offset points", ha="left", fontsize=8)
    for i, point in enumerate(points):
        _point(axes, point, i, aside)
    unknown = any(point.lost is None for point in points)
    axes.set_xlim(low - 0.12 * wide, (aside if unknown else high) + 0.12 * wide)
    if unknown:
        axes.axvline(high + 0.14 * wide, color=SOFT, linewidth=0.8, linestyle=":")
    ticks = [tick for tick in axes.get_xticks() if tick >= low - 1e-9 and tick <= high + 0.12 * wide]
    axes.set_xticks(
        [*ticks, *([aside] if unknown else [])], [*map(_tick, ticks), *(["not\njudged"] if unknown else [])]
    )
    axes.set_xlabel(lost)
    axes.set_ylabel("speed-up over float")
    axes.yaxis.set_major_formatter("{x:g}x")
    made.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return made


def _tick(value: float) -> str:
    return f"{value:.3g}"


def _point(axes: Any, point: Point, i: int, aside: float) -> None:
    colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
    x = aside if point.lost is None else point.lost
    up = [[max(point.ratio - point.low, 0.0)], [max(point.high - point.ratio, 0.0)]]
    side = None
    if point.lost is not None and point.lost_high is not None:
        side = [[0.0], [max(point.lost_high - point.lost, 0.0)]]
    axes.errorbar([x], [point.ratio], yerr=up, xerr=side, fmt=marker, color=colour, markersize=6, capsize=3,
                  elinewidth=1.2, markerfacecolor="none" if point.lost is None else colour,
                  label=literal(point.name), zorder=3)  # fmt: skip


def spread(times_ms: Mapping[str, Sequence[float]], clock: str) -> Any:
    """The figure; the colours are those of the mapping's order, the first (float) in the last colour."""
    made, axes = figure(WIDTH, HEIGHT)
    shares = np.linspace(0, 1, STEPS + 1)
    curves = {name: np.quantile(np.asarray(values, np.float64), shares) for name, values in times_ms.items()}
    for i, (name, curve) in enumerate(curves.items()):
        axes.plot(curve, shares, color=COLOURS[i - 1 if i else -1], label=literal(name), linewidth=1.6)
    low = min(curve[0] for curve in curves.values()) / 1.05
    high = max(curve[int(SHOWN_SHARE * STEPS)] for curve in curves.values()) * 1.05
    plain_log(axes, "xaxis", low, max(high, low * 1.1))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel(f"{clock} time, ms")
    axes.set_ylabel("runs that took at most so long")
    made.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return made
