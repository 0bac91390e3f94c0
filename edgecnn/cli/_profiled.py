"""The record of `profile` as tables. Knows columns, not how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.cli._tables import MOST_ROWS, shortened
from edgecnn.words import amount, size
from runtimes.base import counted

if TYPE_CHECKING:
    from edgecnn.profiling.profile_report import Pair, ProfileReport
    from edgecnn.profiling.profiled import Row
    from edgecnn.profiling.slow_spots import Spot
    from runtimes.device.page import Page

WIDEST = 40
HEADINGS = {"node": "node", "module": "module", "op": "operator"}
FEWEST = 3


def profiled(page: Page, report: ProfileReport, written: Sequence[Path]) -> None:
    peaks = report.measured.peaks
    page.note(
        f"{report.machine.cpu}, {counted(peaks.threads, 'thread')}, best measured here: "
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
    words = () if report.by == "op" else ("layer", "ran as")
    columns = (
        HEADINGS[report.by],
        *words,
        ">us",
        ">share",
        ">?MACs",
        ">?bytes",
        ">?MAC/B",
        ">GMAC/s",
        ">of peak",
        ">?GB/s",
    )
    total = report.measured.nodes_us
    page.table(columns, [_row(row, total, bool(words)) for row in report.rows[:MOST_ROWS]])
    _rest(page, len(report.rows), sum(row.time_us for row in report.rows[MOST_ROWS:]), total)


def _row(row: Row, total: float, worded: bool) -> tuple[object, ...]:
    ran = ", ".join(row.kernels[:FEWEST]) + ("..." if len(row.kernels) > FEWEST else "")
    name = shortened(row.name, WIDEST) + (f" x{row.count}" if row.count > 1 else "")
    return (
        name, *((shortened(row.layer, WIDEST), ran) if worded else ()), f"{row.time_us:,.0f}",
        f"{row.time_us / total:.1%}" if total else "-", amount(row.macs) if row.macs else "-", size(row.moved_bytes),
        row.intensity, row.gmacs, "-" if row.of_peak is None else f"{row.of_peak:.0%}", row.gb_s,
    )  # fmt: skip


def _rest(page: Page, count: int, time_us: float, total: float) -> None:
    if count > MOST_ROWS:
        page.note(f"... and {count - MOST_ROWS} more rows with {time_us / total:.1%} of the time; --json lists all")


def _side_by_side(page: Page, report: ProfileReport) -> None:
    """The worst losses, and below them the best gains where not everything fits."""
    found = report.pairs
    columns = (
        f"{HEADINGS[report.by] if report.by != 'node' else 'layer'} of both",
        "layer",
        "ran as",
        ">us",
        ">?us there",
        ">lost us",
        ">speed-up",
    )
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
    """What is lost, with its remedy, and where the work is."""
    lost = [(f"{spot.kind}: {spot.what}", spot) for spot in report.spots if spot.kind != "work"]
    work = [(spot.what, spot) for spot in report.spots if spot.kind == "work"]
    for title, chosen in (("what it costs beyond its work", lost), ("where the work is", work)):
        rows = [_spot(what, spot) for what, spot in chosen[:MOST_ROWS]]
        if rows:
            page.table((">us", ">share", "what", "where", "remedy"), rows, title)
        if len(chosen) > len(rows):
            page.note(f"... and {len(chosen) - len(rows)} more; --json lists all")


def _spot(what: str, spot: Spot) -> tuple[object, ...]:
    where = shortened(spot.where[0], WIDEST) if spot.where else "the model's ends"
    more = f" +{len(spot.where) - 1}" if len(spot.where) > 1 else ""
    return f"{spot.time_us:,.0f}", f"{spot.share:.1%}", what, where + more, spot.remedy
