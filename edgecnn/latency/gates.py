"""Limits for continuous integration: `--gate "int8 >= 2.5x float"`, `--gate "p90 of int8 <= 3 ms"`.

    A >= Fx B               A is at least F times as fast as B           interval of the race's ratio
    WHAT of A <= T ms       WHAT: p50, p90, p99 or mean, in us, ms or s  interval of that number (block bootstrap)

    whole interval on the right side: passed      on the wrong side: missed      on both sides: inconclusive
    fewer than 8 rounds: inconclusive, whatever they say

A and B are model paths as given, their stems where unique, or #1, #2 ... by place. Test: tests/test_gates.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from runtimes import plugins
from runtimes.base import BadInput, counted
from runtimes.timing.bench_report import Heat, Outcome, State
from runtimes.timing.ratios import MIN_ROUNDS

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_RATIO = re.compile(rf"\s*(.+?)\s*>=\s*{_NUMBER}\s*x\s+(.+?)\s*")
_LIMIT = re.compile(rf"\s*(p50|p90|p99|mean)\s+of\s+(.+?)\s*<=\s*{_NUMBER}\s*(us|ms|s)\s*")
_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class RatioGate:
    """`model` is at least `least` times as fast as `than`."""

    text: str
    model: str
    than: str
    least: float

    def judge(self, heat: Heat) -> Outcome:
        found, why = heat.race.ratio(self.model, self.than), too_few(heat.race.rounds)
        state = "inconclusive" if why else side(self.least, found.low, found.high)
        return Outcome(self.text, heat.name, state, "x", self.least, found.ratio, found.low, found.high, why)


@dataclass(frozen=True)
class LimitGate:
    """`what` of `model` is at most `most_ms`."""

    text: str
    model: str
    what: str
    most_ms: float

    def judge(self, heat: Heat) -> Outcome:
        report = heat.race.reports[self.model]
        found, why = report.interval_ms(self.what), too_few(heat.race.rounds)
        if found is None or why:
            why = why or f"{len(report.samples_ms)} samples are too few for {self.what}"
            return Outcome(self.text, heat.name, "inconclusive", "ms", self.most_ms, why=why)
        value, low, high = found
        return Outcome(self.text, heat.name, side(-self.most_ms, -high, -low), "ms", self.most_ms, value, low, high)


Gate = RatioGate | LimitGate


def too_few(rounds: int, whose: str = "") -> str:
    """
    >>> too_few(2), too_few(2, "the baseline has "), too_few(8)
    ('2 rounds, at least 8 are needed', 'the baseline has 2 rounds, at least 8 are needed', '')
    """
    return f"{whose}{counted(rounds, 'round')}, at least {MIN_ROUNDS} are needed" if rounds < MIN_ROUNDS else ""


def side(least: float, low: float, high: float) -> State:
    """
    >>> side(2.5, 2.6, 2.8), side(2.5, 2.3, 2.4), side(2.5, 2.4, 2.6)
    ('passed', 'missed', 'inconclusive')
    """
    return "passed" if low >= least else "missed" if high < least else "inconclusive"


def parse(text: str, names: Sequence[str]) -> Gate:
    """The gate that `text` spells, for a race of `names`; raises `BadInput` before anything is measured."""
    if found := _LIMIT.fullmatch(text):
        what, model, number, unit = found.groups()
        return LimitGate(text.strip(), find(model, names), what, float(number) * _UNITS_MS[unit])
    if found := _RATIO.fullmatch(text):
        model, number, than = found.groups()
        gate = RatioGate(text.strip(), find(model, names), find(than, names), float(number))
        if gate.model == gate.than or not gate.least:
            raise BadInput(f"gate {text!r}: compares {gate.model} with itself or with 0; name two models and a factor")
        return gate
    raise BadInput(f"gate {text!r}: is no gate; write 'A >= 2.5x B' or 'p90 of A <= 3 ms'")


def find(word: str, names: Sequence[str]) -> str:
    """The model that `word` means: its name, its place (#1 is the first), or its file's stem where only one has it.

    >>> find("#2", ["a/float.onnx", "a/int8.onnx"]), find("float", ["a/float.onnx", "a/int8.onnx"])
    ('a/int8.onnx', 'a/float.onnx')
    """
    if word in names:
        return word
    if re.fullmatch(r"#\d+", word) and 1 <= int(word[1:]) <= len(names):
        return names[int(word[1:]) - 1]
    stems = [PurePath(name).stem for name in names]
    if stems.count(word) == 1:
        return names[stems.index(word)]
    if word in stems:
        raise BadInput(f"gate: {word} names {stems.count(word)} models; give the path, or #1, #2 ... by place")
    raise BadInput(f"gate: {plugins.unknown(word, [*names, *stems], 'model in this race')}")
