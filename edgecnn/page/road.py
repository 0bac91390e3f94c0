"""The stages that the network went through, each compared with the original network. Test: tests/test_page.py."""

from __future__ import annotations

import math

from edgecnn.page.facts import FLOAT, Facts, Stage
from edgecnn.page.html import Html, Section, number, table, tag
from edgecnn.words import decibel, size
from runtimes.base import counted
from runtimes.words import number as words

INT8_STAGE = "quantize"


def road(facts: Facts) -> Section | None:
    if not facts.stages:
        return None
    of = facts.original
    columns = ("stage", ">seconds", ">size", ">nodes", f">against {of}", ">largest difference", "note")
    body = [table(f"Every stage, compared with {of} on the same inputs", columns, map(_row, facts.stages))]
    if facts.bundle.chosen == FLOAT and facts.stages[-1].name == INT8_STAGE:
        told = "The last stage is of the int8 graph, which took part in the race and is not in this bundle."
        body.append(tag("p", told, class_="note"))
    return Section("stages", f"From {of} to this file", verdict(facts), body)


def verdict(facts: Facts) -> str:
    stages, first, last = facts.stages, facts.stages[0], facts.stages[-1]
    seconds = sum(stage.seconds or 0.0 for stage in stages)
    floats = [s.snr_db for s in stages if s.name != INT8_STAGE and s.snr_db is not None]
    count = f"{counted(len(stages), 'stage')} in {seconds:.0f} s"
    grown = f", {words(first.nodes)} nodes became {words(last.nodes)}" if len(stages) > 1 else ""
    least = f"; every float stage is within {decibel(min(floats))} of {facts.original}" if floats else ""
    if floats and math.isinf(min(floats)):
        least = f"; every float stage gives the numbers of {facts.original}" if min(floats) > 0 else ""
    end = f", int8 within {decibel(last.snr_db)}" if last.name == INT8_STAGE and last.snr_db is not None else ""
    return f"{count}{grown}{least}{end}."


def _row(stage: Stage) -> list[str | Html]:
    return [
        stage.name,
        number(stage.seconds, f"{stage.seconds or 0:.2f}"),
        number(stage.size_bytes, size(stage.size_bytes or 0)),
        number(stage.nodes, words(stage.nodes)),
        number(stage.snr_db, decibel(stage.snr_db)),
        number(stage.max_abs, words(stage.max_abs)),
        stage.note,
    ]
