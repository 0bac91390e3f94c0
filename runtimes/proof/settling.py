"""Settle on one graph where the bundle will run: int8 if it is right and faster here, else float.

    model.onnx (int8)  ──golden inputs──> right here?  ──┐
                                                         ├─race─> the faster of the two, alone in a new bundle
    float.onnx         ──golden inputs──> right here?  ──┘

A graph that was made for another CPU was not raced where it was made. Rules and words are those of `build`: int8 has to
win, a draw is float's, and what a race cannot tell is raced once more, longer. Test: tests/test_settling.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from runtimes import machine
from runtimes.base import BadInput, CheckFailed, Track, silent
from runtimes.bundle import (
    FLOAT,
    FLOAT_MODEL,
    MANIFEST,
    MODEL,
    MODEL_DATA,
    Bundle,
    Verification,
    open_bundle,
    verify,
)
from runtimes.execution.provider_options import require
from runtimes.files import check_output, replace_whole, require_apart
from runtimes.latency import DECIDING_ROUNDS, DECIDING_SECONDS, LONGER, Race, Ratio, race
from runtimes.proof.golden import GoldenCheck, worst_of
from runtimes.proof.verification import differ
from runtimes.proof.writing import check_bundle_output, write_bundle


@dataclass(frozen=True)
class Graph:
    """One of the two: how it answers here, what it weighs, and its median on the clock of the race."""

    name: str
    member: str
    proof: Verification
    size_bytes: int
    p50_ms: float

    @property
    def worst(self) -> GoldenCheck:
        """The golden check that is nearest to its limit, or furthest beyond it."""
        return worst_of(self.proof.golden)

    @property
    def wrong(self) -> str:
        """How its answers differ from the original's; empty where they are within the limit."""
        return "" if self.proof.passed else f"{differ(self.worst)}, the limit is {self.worst.limit:.3g}"

    def to_dict(self) -> dict[str, Any]:
        golden = [check.to_dict() for check in self.proof.golden]
        found = {"name": self.name, "p50_ms": self.p50_ms, "size_bytes": self.size_bytes}
        return {**found, "passed": self.proof.passed, "golden": golden}


@dataclass(frozen=True)
class SettleReport:
    """What was found of both graphs of `bundle`, and the bundle with one of them that was written to `output`."""

    bundle: str
    output: str
    chosen: str
    verdict: str
    float_graph: Graph
    rival: Graph
    race: Race
    provider: str
    threads: int
    machine: machine.Machine
    size_bytes: int = 0

    @property
    def speedup(self) -> Ratio:
        """Of the int8 graph over float."""
        return self.race.ratio(self.rival.name, self.float_graph.name)

    def to_dict(self) -> dict[str, Any]:
        """The document of `edgecnn settle`."""
        return {
            "bundle": self.bundle,
            "output": self.output,
            "chosen": self.chosen,
            "verdict": self.verdict,
            "speedup": self.speedup.to_dict(),
            "candidates": [self.float_graph.to_dict(), self.rival.to_dict()],
            "clock": self.race.clock,
            "rounds": self.race.rounds,
            "provider": self.provider,
            "threads": self.threads,
            "machine": self.machine.to_dict(),
            "size_bytes": self.size_bytes,
        }


def settle(
    bundle: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    provider: str = "cpu",
    threads: int = 1,
    force: bool = False,
    seed: int = 0,
    track: Track = silent,
) -> SettleReport:
    """Race the two graphs of `bundle` on this machine, and write the bundle `output` with the one to use here.

    The chosen graph is the int8 one where its golden outputs hold here and it is faster beyond doubt, else float. The
    new bundle says what was found, and where; all else in it is as it was. Raises `BadInput` for a bundle that keeps no
    float graph (`build --keep-float`), `CheckFailed` for one that is damaged or whose float graph is wrong here.
    """
    asked, path, source = require(provider), Path(output), Path(bundle)
    require_apart([path], [source])
    check_bundle_output(path, force)
    opened = open_bundle(source)
    if not opened.keeps_float:
        raise BadInput(
            f"{source}: holds one graph ({opened.chosen}), nothing to settle; `build --keep-float` keeps both"
        )
    run, name = _raced(opened, provider, threads, seed, track), _winner(opened)

    def graph(name: str, member: str) -> Graph:
        proof = verify(opened, provider, threads, member)
        return Graph(name, member, proof, len(opened.read(member)), run.median_ms(name))

    base, rival, ratio = graph(FLOAT, FLOAT_MODEL), graph(name, MODEL), run.ratio(name, FLOAT)
    if base.wrong:
        raise CheckFailed(f"{source}: golden outputs of its float graph {base.wrong}; nothing written")
    certain = threads == 1 or asked.name != "cpu" or ratio.verdict != "faster"
    alone = None if certain else _raced(opened, provider, 1, seed, track).ratio(name, FLOAT)
    taken, verdict = settled(rival, ratio, alone, asked.name)
    chosen = FLOAT if taken == FLOAT_MODEL else opened.chosen
    found = SettleReport(
        os.fspath(bundle), os.fspath(output), chosen, verdict, base, rival, run, provider, threads, machine.describe()
    )  # fmt: skip
    return _written(opened, taken, found, force)


def _winner(opened: Bundle) -> str:
    """What the graph beside float was called where it was built."""
    name = opened.manifest.get("winner")
    return name if isinstance(name, str) else opened.chosen


def _raced(opened: Bundle, provider: str, threads: int, seed: int, track: Track) -> Race:
    """Both on a real input; once more, for longer, where that looks like a gain and is not certain."""
    inputs, name, calls = opened.golden()[0], _winner(opened), {}
    for one, member in ((FLOAT, FLOAT_MODEL), (name, MODEL)):
        session = opened.session(provider, threads, member)
        feeds = {info.name: array[:1] for info, array in zip(session.inputs, inputs, strict=True)}
        calls[one] = session.prepare(feeds)
    clock: Literal["wall"] | None = None if require(provider).name == "cpu" else "wall"

    def run(times: int) -> Race:
        return race(calls, times * DECIDING_ROUNDS, seed=seed + times - 1, seconds=times * DECIDING_SECONDS,
                    track=track, threads=threads, clock=clock)  # fmt: skip

    first = run(1)
    return run(LONGER) if first.ratio(name, FLOAT).looks_faster else first


def settled(rival: Graph, ratio: Ratio, alone: Ratio | None = None, provider: str = "cpu") -> tuple[str, str]:
    """(member to use here, sentence) for the graph `rival`, whose speed over float's is `ratio`, and `alone` on one
    thread, where that was on several.
    """
    speed = ratio.speed("this CPU" if provider == "cpu" else provider)
    if rival.wrong:
        return FLOAT_MODEL, f"{rival.name}: golden outputs {rival.wrong} here: kept float"
    if ratio.verdict == "faster" and alone is not None and alone.looks_slower:
        return FLOAT_MODEL, f"{speed} in wall time, {alone.ratio:.2f}x on one thread in CPU time: kept float"
    if ratio.verdict == "faster":
        return MODEL, f"{speed}: chose {rival.name}"
    if ratio.verdict == "slower":
        return FLOAT_MODEL, f"{speed}: kept float"
    return FLOAT_MODEL, f"{speed}, {ratio.doubt}: kept float"


# ------------------------------------------------------------------------------------------------------------- writing
def _written(opened: Bundle, taken: str, found: SettleReport, force: bool) -> SettleReport:
    """Write the bundle with the graph `taken` alone, see it hold, and return the report with its size."""
    path, gone = Path(found.output), {MANIFEST, FLOAT_MODEL, *((MODEL_DATA,) if taken == FLOAT_MODEL else ())}
    members = {name: opened.read(name) for name in opened.archive.members if name not in gone}
    members[MODEL] = opened.read(taken)
    with replace_whole(check_output(path, force)) as temporary:
        write_bundle(temporary, _manifest(opened, taken, found), members)
        again = verify(open_bundle(temporary), found.provider, found.threads)
        if not again.passed:
            raise CheckFailed(f"{path}: golden outputs {differ(worst_of(again.golden))}; nothing written")
        size = temporary.stat().st_size
    return replace(found, size_bytes=size)


def _manifest(opened: Bundle, taken: str, found: SettleReport) -> dict[str, Any]:
    """The manifest, of one graph and this machine now; what was said where it was built is kept under `settled`."""
    before, run = opened.manifest, found.race
    times = {name: list(run.times_ms(name)) for name in run.names}
    told = {key: before.get(key) for key in ("chosen", "winner", "verdict", "machine", "race")}
    return {
        **{key: value for key, value in before.items() if key != FLOAT},
        "golden": opened.limits(taken),
        "chosen": found.chosen,
        "winner": FLOAT if taken == FLOAT_MODEL else found.rival.name,
        "verdict": found.verdict,
        "machine": found.machine.to_dict(),
        "race": {"clock": run.clock, "rounds": run.rounds, "threads": found.threads, "times_ms": times},
        "candidates": [
            _candidate(entry, found) for entry in _told(before, "candidates", []) if isinstance(entry, dict)
        ],
        "target": {**_told(before, "target", {}), "this_cpu": True},
        "settled": {**told, "provider": found.provider},
    }


def _told(manifest: Mapping[str, Any], key: str, nothing: Any) -> Any:
    """What `manifest` tells under `key`, if it is of the kind of `nothing`: only packed by edgecnn it surely is."""
    value = manifest.get(key)
    return value if isinstance(value, type(nothing)) else nothing


def _candidate(entry: Mapping[str, Any], found: SettleReport) -> dict[str, Any]:
    """A row of the race: times are those of this machine, or none; what it costs was measured where it was built."""
    rival, name = found.rival, entry.get("name")
    if name == found.float_graph.name:
        return {**entry, "p50_ms": found.float_graph.p50_ms}
    if name != rival.name:
        return {**entry, "p50_ms": None, "speedup": None}
    refused = f"{rival.name}: golden outputs {rival.wrong}" if rival.wrong else entry.get("refused", "")
    return {**entry, "p50_ms": rival.p50_ms, "speedup": found.speedup.to_dict(), "refused": refused}
