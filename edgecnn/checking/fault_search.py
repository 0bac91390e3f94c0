"""Look for the layer at fault: by bisection, else at every layer, until what is blamed explains the outputs.

    bisect ──> a suspect ──> the candidate's factors are taken back later?      undo them, look again
                        ──> what follows is right, and wrong with the           it is laid out or scaled otherwise:
                            reference's tensor in its place?                    compare it no more, look again

Test: tests/test_diff.py, tests/test_diff_suspects.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgecnn.checking import bisection
from edgecnn.checking.bisection import ByDrop, Found, Reading, by_cause, by_limit
from edgecnn.checking.comparison import BEST_DB, Comparison, Row
from edgecnn.checking.divergence import Divergence, db
from edgecnn.checking.gains import learned, suspicious
from edgecnn.checking.region import allowed, region
from edgecnn.checking.suspects import not_comparable
from runtimes.base import Track, counted, silent

INT8_HIGH_DB = 45.0
"""What eight bits leave of a first layer; more is not needed to call it healthy."""
INT8_LAYER_DB = 20.0
"""A layer that leaves less than this by itself is no rounding of eight bits."""
OUTLIER_DB = 12.0
"""So far below the median of all layers, one stands out."""
NAMED = 3
"""Layers that a note names."""


@dataclass(frozen=True)
class Looked:
    """What bisection read, the first layer that differs (None: none does), all layers where these were looked at.

    `doubt`: why nothing can be said, where the candidate runs up to no tensor and all its layers are right.
    """

    found: Found
    first: Divergence | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    doubt: str = ""


def look(comparison: Comparison, layers: bool, drops: bool, track: Track = silent) -> Looked:
    """`drops`: an int8 candidate without a limit. `layers`: every layer is looked at in any case.

    Tensors that only one side has so are undone or left out of `comparison`, and told in a note.
    """
    notes: list[str] = []
    looked = _once(comparison, layers, drops, track)
    if _scaled(comparison, looked):
        comparison.gains = learned(comparison, track)
        if comparison.gains:
            notes.append(_told(comparison))
            looked = _once(comparison, layers, drops, track)
    while looked.first is not None and not_comparable(comparison, looked.first):
        first = looked.first
        notes.append(
            f"{first.op} node {first.node} is compared no more: what follows it is right, and wrong with the "
            "reference's tensor in its place, so that it only holds the same otherwise"
        )
        comparison.drop(first.point)
        looked = _once(comparison, layers, drops, track)
    return replace(looked, notes=(*notes, *looked.notes))


def _scaled(comparison: Comparison, looked: Looked) -> bool:
    """Whether powers of two may be what makes an int8 layer look wrong."""
    if comparison.candidate.quantized == comparison.reference.quantized or comparison.gains:
        return False
    suspects = [row.point for row in looked.rows if min(row.alone_db, row.snr_db) < INT8_LAYER_DB and not row.index]
    if looked.first is not None and looked.first.at_fault:
        suspects.append(looked.first.point)
    near = {p for i in suspects for p in (i, *comparison.points.parents[i])}
    return bool(near) and suspicious(comparison, sorted(near))


def _told(comparison: Comparison) -> str:
    names = comparison.tensors(range(len(comparison.pairs)), 1)
    nodes = [comparison.layer(i).node for i, name in enumerate(names) if name in comparison.gains]
    more = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
    where = f"{', '.join(nodes[:NAMED])}{more} (cross-layer equalization, or a factor that was folded)"
    return f"powers of two per channel, which a later layer takes back, are undone behind {where}"


def _once(comparison: Comparison, layers: bool, drops: bool, track: Track) -> Looked:
    found = bisection.search(comparison.points, comparison.measure, ByDrop(INT8_HIGH_DB) if drops else by_limit)
    first = None if found.point is None else _proven(comparison, found.readings[found.point], found.point)
    notes, rows, doubt = _same_nan(comparison, found), list[Row](), ""
    unproven = first is not None and not first.at_fault
    if layers or unproven:
        rows = list(comparison.stream(track))
    if unproven and first is not None:
        first, note = _by_rows(comparison, rows, first, drops)
        if by_cause(found.readings) and not (first is not None and first.at_fault):
            first, note, doubt = _stuck(comparison, first, note)
        notes += [note] if note else []
    return Looked(found, first, tuple(rows), tuple(notes), doubt)


def _stuck(comparison: Comparison, first: Divergence | None, note: str) -> tuple[Divergence | None, str, str]:
    """(the first layer up to which the candidate does not run, what to tell, why none can be named), where every layer
    runs on the reference's inputs and is right there.
    """
    found = bisection.search(comparison.points, comparison.measure, by_cause)
    if found.point is None:
        return first, note, ""
    if all(reading.cause for reading in found.readings.values()):
        cause = found.readings[found.point].cause.removeprefix(f"{comparison.candidate.name}: ")
        return None, "", f"each layer alone is right, but from its inputs it runs up to no tensor: {cause}"
    why = "every layer alone runs and is right, so that what it is given in the candidate is what stops it"
    return _proven(comparison, found.readings[found.point], found.point), why, ""


def _same_nan(comparison: Comparison, found: Found) -> list[str]:
    """A note where both sides agree, and what they agree on is no number: `check` lets that never pass."""
    if found.point is not None or not bisection.by_odd(found.readings):
        return []
    point = bisection.search(comparison.points, comparison.measure, bisection.by_odd).point
    layer = comparison.layer(point or 0)
    where = f" (module {layer.module})" if layer.module else ""
    return [f"both give NaN or Inf in the same places, first {layer.op} node {layer.node}{where}; mend that layer"]


def _proven(comparison: Comparison, reading: Reading, point: int) -> Divergence:
    """The point that bisection found, and whether its layer alone is at fault."""
    alone, cause = comparison.isolate(point)
    limit = allowed(comparison, point, reading.limit_db)
    fault = alone < limit and replace(reading, limit_db=limit).bad
    return _told_where(comparison, point, reading.snr_db, alone, limit, fault, reading.cause or cause)


def _told_where(
    comparison: Comparison, point: int, snr: float, alone: float, limit: float, fault: bool, cause: str = ""
) -> Divergence:
    layer, there = comparison.layer(point), region(comparison, point)
    return Divergence(layer.node, layer.op, layer.module, snr, alone, limit, fault, cause, point,
                      there.nodes, there.begins)  # fmt: skip


def _by_rows(
    comparison: Comparison, rows: Sequence[Row], first: Divergence, drops: bool
) -> tuple[Divergence | None, str]:
    """What all layers say where bisection was not borne out: (the first that differs by itself, what to tell)."""
    if drops:
        return _standing_out(comparison, rows)
    limit = min(first.limit_db, BEST_DB)
    found = next((row for row in rows if row.alone_db < limit and row.snr_db < limit), None)
    why = "the error is not monotone along the graph (a ReLU may hide it), so every layer was looked at in order"
    if found is None:
        return first, f"{why}; none differs by itself, the difference builds up over many"
    return _told_where(comparison, found.point, found.snr_db, found.alone_db, limit, True), why


def _standing_out(comparison: Comparison, rows: Sequence[Row]) -> tuple[Divergence | None, str]:
    """The first int8 layer that is worse than the others; a region of several may be worse than one layer may."""
    limit = _outlier_limit(rows)
    low = [row for row in rows if row.alone_db < limit and row.snr_db < INT8_LAYER_DB]
    slack = {row.point: region(comparison, row.point).slack_db for row in low}
    why = f"no layer drops suddenly, so every layer was looked at; standing out is below {db(limit)} alone"
    for row in low:
        least = limit - slack[row.point]
        if row.alone_db < least and row.snr_db < INT8_LAYER_DB - slack[row.point]:
            return _told_where(comparison, row.point, row.snr_db, row.alone_db, least, True), why
    left = f"; {_excused(comparison, low[0])}" if low else ""
    return None, f"{why}; none does, the error is that of all roundings together{left}"


def _excused(comparison: Comparison, row: Row) -> str:
    there = region(comparison, row.point)
    return (
        f"what cannot be told apart are the {there.nodes} nodes {there.begins} to {row.layer.node}: "
        f"{db(row.alone_db)}, which {counted(there.roundings, 'rounding')} may leave"
    )


def _outlier_limit(rows: Sequence[Row]) -> float:
    """Layers that move numbers are equal or nearly so; the median is of those that round."""
    rounding = [row.alone_db for row in rows if 0 < row.alone_db < 100]
    return min(INT8_LAYER_DB, statistics.median(rounding) - OUTLIER_DB) if rounding else INT8_LAYER_DB
