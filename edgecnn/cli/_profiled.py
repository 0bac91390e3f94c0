"""The record of `profile` as tables. Knows columns, not how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.cli._tables import MOST_ROWS, shortened
from edgecnn.words import amount, size

if TYPE_CHECKING:
    from edgecnn.profile_report import Pair, ProfileReport
    from edgecnn.profiled import Row
    from edgecnn.report import Page

WIDEST = 40
HEADINGS = {"node": "node", "module": "module", "op": "operator"}
FEWEST = 3


def profiled(page: Page, report: ProfileReport, written: Sequence[Path]) -> None:
    peaks = report.measured.peaks
    page.note(
        f"{report.machine.cpu}, {peaks.threads} thread{'s' if peaks.threads > 1 else ''}, best measured here: "
        f"fp32 {peaks.fp32_gmacs:.0f} GMAC/s, int8 {peaks.int8_gmacs:.0f} GMAC/s, "
        f"copying {peaks.memory_gb_s:.0f} GB/s (memory), {peaks.cache_gb_s:.0f} GB/s (cache)"
    )
    if report.against is None:
        _rows(page, report)
    else:
        _side_by_side(page, report)
    _spots(page, report)
    for note in (report.balance, *report.notes, *(f"wrote {path}" for path in written)):
        page.note(note)


def _rows(page: Page, report: ProfileReport) -> None:
    columns = (HEADINGS[report.by], "layer", "ran as", ">us", ">share", ">MACs", ">bytes", ">MAC/B", ">GMAC/s",
               ">of peak", ">GB/s")  # fmt: skip
    total = report.measured.nodes_us
    shown = report.rows[:MOST_ROWS]
    page.table(columns, [_row(row, total) for row in shown])
    _rest(page, len(report.rows), sum(row.time_us for row in report.rows[MOST_ROWS:]), total)


def _row(row: Row, total: float) -> tuple[object, ...]:
    ran = ", ".join(row.kernels[:FEWEST]) + ("..." if len(row.kernels) > FEWEST else "")
    name = shortened(row.name, WIDEST) + (f" x{row.count}" if row.count > 1 else "")
    return (
        name, shortened(row.layer, WIDEST), ran, f"{row.time_us:,.0f}", f"{row.time_us / total:.1%}" if total else "-",
        amount(row.macs) if row.macs else "-", size(row.moved_bytes), row.intensity, row.gmacs,
        "-" if row.of_peak is None else f"{row.of_peak:.0%}", row.gb_s,
    )  # fmt: skip


def _rest(page: Page, count: int, time_us: float, total: float) -> None:
    if count > MOST_ROWS:
        page.note(f"... and {count - MOST_ROWS} more rows with {time_us / total:.1%} of the time; --json lists all")


def _side_by_side(page: Page, report: ProfileReport) -> None:
    """The worst losses, and below them the best gains where not everything fits."""
    found = report.pairs
    columns = ("layer of both", "layer", "ran as", ">us", ">us there", ">lost us", ">speed-up")
    head = found if len(found) <= MOST_ROWS else found[: MOST_ROWS - 5]
    page.table(columns, map(_pair, head))
    if len(found) > len(head):
        page.note(f"... and {len(found) - len(head)} more, the best of them:")
        page.table(columns, map(_pair, found[-5:][::-1]))


def _pair(pair: Pair) -> tuple[object, ...]:
    times = ("-" if t is None else f"{t:,.0f}" for t in (pair.time_us, pair.against_us))
    speed = "-" if pair.speedup is None else f"{pair.speedup:.2f}x"
    ran = ", ".join(pair.kernels[:FEWEST])
    return (shortened(pair.name, WIDEST), pair.layer, ran, *times, f"{pair.lost_us:+,.0f}", speed)


def _spots(page: Page, report: ProfileReport) -> None:
    """One row a cause, the remedy in the last column; work in a table of its own."""
    causes = [spot for spot in report.spots if spot.kind != "work"]
    columns = (">us", ">share", "what", "where", "remedy")
    for title, chosen in (
        ("what it costs beyond its work", causes),
        ("where the work is", [s for s in report.spots if s not in causes]),
    ):
        rows = []
        for spot in chosen[:MOST_ROWS]:
            where = shortened(spot.where[0], 32) + (f" +{len(spot.where) - 1}" if len(spot.where) > 1 else "")
            rows.append(
                (
                    f"{spot.time_us:,.0f}",
                    f"{spot.share:.1%}",
                    f"{spot.kind}: {spot.what}" if spot.kind != "work" else spot.what,
                    where,
                    spot.remedy,
                )
            )
        if rows:
            page.table(columns, rows, title)
