"""The choice by hand-made numbers, and one real race."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgecnn import choose
from edgecnn.choose import Candidate, Trial, decide, drop_of
from edgecnn.samples import Samples
from exporters.quantize import QuantRecipe, quantize_model
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from runtimes.latency import Ratio, Verdict
from runtimes.parity import OutputParity, ParityReport


def rival(verdict: Verdict, refused: str = "") -> Candidate:
    low, high = {"faster": (2.6, 2.8), "slower": (0.4, 0.5), "same": (0.99, 1.01), "inconclusive": (0.8, 1.3)}[verdict]
    ratio = Ratio("int8", "float", (low + high) / 2, low, high, verdict)
    return Candidate("int8", 100, 1.0, ratio, 30.0, 0.995, 0.981, 0.002, refused)


BASE = Candidate("float", 400, 2.7, accuracy=0.983)


@pytest.mark.parametrize(
    ("candidate", "allow_slower", "chosen", "words"),
    [
        (
            rival("faster"),
            False,
            "int8",
            "int8 is 2.70x of float's speed on this CPU (95 %: 2.60 to 2.80), top-1 98.1 % against",
        ),
        (
            rival("slower"),
            False,
            "float",
            "0.45x of float's speed on this CPU (95 %: 0.40 to 0.50): kept float; --allow-slower",
        ),
        (rival("slower"), True, "int8", "int8 because --allow-slower asks for it"),
        (rival("same"), False, "float", "no gain beyond the noise: kept float"),
        (rival("inconclusive"), False, "float", "no gain beyond the noise: kept float"),
        (rival("faster", "int8 loses 3.0 points"), False, "float", "int8 loses 3.0 points: kept float"),
        (rival("faster", "int8 loses 3.0 points"), True, "float", "int8 loses 3.0 points: kept float"),
    ],
)
def test_budget_first_then_speed(candidate: Candidate, allow_slower: bool, chosen: str, words: str) -> None:
    name, sentence = choose._choose(BASE, candidate, allow_slower)
    assert name == chosen
    assert words in sentence


def parity(top1: float | None, snr_db: float, nonfinite: int = 0) -> ParityReport:
    return ParityReport(50, (OutputParity("y", 0.1, snr_db, top1, nonfinite),))


@pytest.mark.parametrize(
    ("report", "scores", "drop"),
    [
        (parity(0.9, 30.0), {"float": 0.95, "int8": 0.94}, 0.01),  # labels count before agreement
        (parity(0.9, 30.0), {"float": 0.95, "int8": 0.97}, -0.02),  # int8 may be better
        (parity(0.9, 30.0), {}, 0.1),
        (parity(None, 20.0), {}, 0.01),  # noise power
        (parity(None, -5.0), {}, 1.0),
        (parity(None, math.inf), {}, 0.0),
        (parity(1.0, -math.inf, nonfinite=3), {}, 1.0),  # NaN is never within a budget
    ],
)
def test_what_int8_costs(report: ParityReport, scores: dict[str, float], drop: float) -> None:
    assert drop_of(report, scores, report.top1) == pytest.approx(drop, abs=1e-12)


def samples(count: int, labelled: bool) -> Samples:
    images = np.random.default_rng(0).normal(size=(count, 3, 8, 8)).astype(np.float32)
    labels = np.zeros(count, np.int64) if labelled else None
    return Samples("made", tuple(map(str, range(count))), lambda i: images[i], labels, ("a", "b"))


def test_a_real_race_keeps_the_promise() -> None:
    """Whatever wins: the verdict, the ratio and the choice tell one story."""
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    data = samples(6, labelled=False)
    int8 = quantize_model(model, data.feeds("x", 1), QuantRecipe()).model
    decision = decide(model, int8, Trial(data, "x", max_drop=0.5, rounds=40))
    found = decision.rival
    assert found is not None
    assert found.speedup is not None
    assert decision.race.rounds >= 6
    assert (decision.chosen == "int8") == (found.speedup.verdict == "faster" and not found.refused)
    assert f"{found.speedup.ratio:.2f}x" in decision.verdict
    times = {name: float(np.median(decision.race.times_ms(name))) for name in ("float", "int8")}
    # the median of paired ratios is near the ratio of medians; its inverse is not, unless both are near 1
    assert abs(math.log(found.speedup.ratio) - math.log(times["float"] / times["int8"])) < 0.3
    assert (found.speedup.a, found.speedup.b) == ("int8", "float")
    assert decision.accuracy is None
    assert found.to_dict()["speedup"]["verdict"] == found.speedup.verdict


def test_a_budget_that_cannot_hold_keeps_float() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    data = samples(4, labelled=False)
    int8 = quantize_model(model, data.feeds("x", 1), QuantRecipe()).model
    decision = decide(model, int8, Trial(data, "x", max_drop=0.0, allow_slower=True, rounds=8))
    assert decision.chosen == "float"
    assert "budget 0.0 %" in decision.verdict


def test_without_an_int8_graph_float_stays() -> None:
    decision = decide(parse(CONV_RELU_CONV, **WEIGHTS), None, Trial(samples(2, False), "x", rounds=6))
    assert (decision.chosen, decision.verdict) == ("float", "no layer of this network can be int8: kept float")
    assert decision.rival is None
