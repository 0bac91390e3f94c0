"""The record of `profile`: rows, causes, two models side by side, and the sentence that sums it up.

    INT8 --against FLOAT     rows with the same node in both, else the same module; what one side alone has stands alone

Test: tests/test_profile.py.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgecnn.profiling.profiled import PUT_IN, By, Measured, Piece, Row, module_of
from edgecnn.profiling.slow_spots import Spot
from edgecnn.words import percent
from exporters.layerwise.layer_times import WHOLE
from runtimes.base import counted
from runtimes.latency import Ratio
from runtimes.machine import Machine
from runtimes.words import number

HALF = 0.5
FEW = 8
BUSY = 1.25


@dataclass(frozen=True)
class Pair:
    """One layer in two models; a time is None where the layer is in the other one only."""

    name: str
    layer: str
    kernels: tuple[str, ...]
    time_us: float | None
    against_us: float | None

    @property
    def lost_us(self) -> float:
        """What the first model takes longer."""
        return (self.time_us or 0.0) - (self.against_us or 0.0)

    @property
    def speedup(self) -> float | None:
        return self.against_us / self.time_us if self.time_us and self.against_us else None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "kernels": list(self.kernels), "lost_us": self.lost_us, "speedup": self.speedup}


@dataclass(frozen=True)
class ProfileReport:
    """`measured` with its `spots`; `against` is the other model, if there is one, and `ratio` what the race of the two
    said. `by` and `depth` make the rows.
    """

    machine: Machine
    measured: Measured
    spots: tuple[Spot, ...]
    against: Measured | None = None
    ratio: Ratio | None = None
    by: By = "node"
    depth: int | None = None
    warnings: tuple[str, ...] = ()
    """What was assumed of sizes and inputs."""

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.measured.rows(self.by, self.depth)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Layers of both models, the worst loss of the first one on top; empty without `against`."""
        return () if self.against is None else pairs(self.measured, self.against, self.by, self.depth)

    @property
    def balance(self) -> str:
        """The kernels' sum against whole runs, with and without the profiler."""
        total, t = self.measured.nodes_us, self.measured.timing
        time, more = "CPU time" if t.clock == "cpu" else "wall time", total - t.plain_us
        each = f", {number(more / len(self.measured.pieces))} us a kernel that the profiler adds" if more > 0 else ""
        each = ", for kernels wait for the processor too" if t.waited > BUSY and more > 0 else each
        return (
            f"the kernels' medians add up to {ms(total)}, a run without profiling takes {ms(t.plain_us)} of {time}: "
            f"{percent(more / t.plain_us, sign=True)}{each}. A profiled run takes {ms(t.profiled_us)}; "
            f"{ms(t.between_us)} of it lie between the kernels. Medians of {counted(t.runs, 'run')} each."
        )

    @property
    def notes(self) -> tuple[str, ...]:
        waited = self.measured.timing.waited
        if waited <= BUSY:
            return ()
        return (
            f"the machine was busy: a run took {waited:.1f} times its CPU time; times are too long and shares of the "
            "peak too low, measure again on a quiet one",
        )

    @property
    def verdict(self) -> str:
        return f"{self.measured.model}: {self._half()}{self._lost()}{self._other()}."

    def _half(self) -> str:
        total, chosen = self.measured.nodes_us, []
        for row in self.measured.rows():
            chosen.append(row)
            if sum(r.time_us for r in chosen) >= HALF * total or len(chosen) == FEW:
                break
        share = sum(row.time_us for row in chosen) / total if total else 0.0
        ideal, time_us = sum(row.ideal_us or 0 for row in chosen), sum(row.time_us for row in chosen)
        at = f" at {percent(ideal / time_us)} of their peak" if time_us and ideal else ""
        return f"{percent(share)} of the time is in {len(chosen)} of {counted(len(self.measured.rows()), 'node')}{at}"

    def _lost(self) -> str:
        causes = [spot for spot in self.spots if spot.kind not in ("work", "slow int8")]
        slow = sum(spot.share for spot in self.spots if spot.kind == "slow int8")
        words = f"; {percent(sum(s.share for s in causes))} goes to {_kinds(causes)}" if causes else ""
        return words + (f"; {percent(slow)} is int8 layers that miss the fast kernel" if slow else "")

    def _other(self) -> str:
        if self.ratio is None:
            return ""
        found = pairs(self.measured, self.against) if self.against else ()
        worse = sum(pair.lost_us > 0 and pair.speedup is not None for pair in found)
        words = str(self.ratio).removeprefix(f"{self.ratio.a} ")
        return f"; it {words}, {counted(worse, 'layer is', 'layers are')} slower than there"

    def to_dict(self) -> dict[str, Any]:
        return {
            "machine": self.machine.to_dict(),
            "peaks": self.measured.peaks.to_dict(),
            **self.measured.to_dict(),
            "spots": [spot.to_dict() for spot in self.spots],
            "against": None if self.against is None else self.against.to_dict(),
            "ratio": None if self.ratio is None else self.ratio.to_dict(),
            "layers": [pair.to_dict() for pair in self.pairs],
            "balance": self.balance,
            "verdict": self.verdict,
            "warnings": list(self.warnings),
        }


def ms(time_us: float) -> str:
    return f"{number(time_us / 1e3)} ms"


def pairs(one: Measured, other: Measured, by: By = "node", depth: int | None = None) -> tuple[Pair, ...]:
    """Rows of both models. By node: where both have it alike, else by module where both have that.

    By module, cut to `depth` names; by operator: of the file, for the two do not run the same ones.
    """
    key = _nodes_or_modules(one, other)
    if by == "module":
        key = functools.partial(module_of, depth=depth)
    elif by == "op":
        key = _operator
    ours, theirs = (_grouped(measured.pieces, key) for measured in (one, other))
    names = dict.fromkeys((*ours, *theirs))
    found = [_pair(name, ours.get(name, []), theirs.get(name, []), one, other) for name in names]
    return tuple(sorted(found, key=lambda pair: -pair.lost_us))


def _nodes_or_modules(one: Measured, other: Measured) -> Callable[[Piece], str]:
    nodes = {p.node for p in one.pieces} & {p.node for p in other.pieces}
    nodes -= _fused(one) ^ _fused(other)  # in one model the kernel is the node, in the other more than the node
    rest = [{p.module for p in m.pieces if p.node not in nodes and p.module} for m in (one, other)]
    modules = rest[0] & rest[1]

    return lambda piece: piece.module if piece.node not in nodes and piece.module in modules else piece.node


def _operator(piece: Piece) -> str:
    return piece.op or PUT_IN.get(piece.ran.kind, piece.ran.op)


def _grouped(pieces: Sequence[Piece], key: Callable[[Piece], str]) -> dict[str, list[Piece]]:
    groups: dict[str, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(key(piece), []).append(piece)
    return groups


def _fused(measured: Measured) -> set[str]:
    """Nodes that ran as a kernel which stands for several: Sigmoid and Mul as QuickGelu."""
    return {p.node for p in measured.pieces if p.ran.op in WHOLE}


def _pair(name: str, ours: Sequence[Piece], theirs: Sequence[Piece], one: Measured, other: Measured) -> Pair:
    row, past = one.row(name, ours), other.row(name, theirs)
    return Pair(
        name, row.layer or past.layer, row.kernels or past.kernels, row.time_us if ours else None,
        past.time_us if theirs else None,
    )  # fmt: skip


def _kinds(spots: Sequence[Spot]) -> str:
    """`layout, 3 islands` in the order of cost."""
    counts: dict[str, int] = {}
    for spot in spots:
        counts[spot.kind] = counts.get(spot.kind, 0) + 1
    plural = {"boundary": "boundaries"}
    one = {"layout": "layout", "requantize": "requantizing"}
    return ", ".join(one[k] if n == 1 and k in one else counted(n, k, plural.get(k, "")) for k, n in counts.items())


def as_csv(report: ProfileReport) -> str:
    """The report's rows, or the layers side by side, as a table with a heading; units are in the names."""
    total = report.measured.nodes_us
    rows = [p.to_dict() for p in report.pairs] if report.against else [r.to_dict(total) for r in report.rows]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: " ".join(v) if isinstance(v, list) else v for k, v in row.items()})
    return stream.getvalue()
