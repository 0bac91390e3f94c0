"""Which layers cost most accuracy in int8: each of them alone in int8, all else in float, against the float network.

    sensitivity(layer)  =  SQNR of the outputs when only this layer is int8        low: sensitive

Layers go back to float in that order until an accuracy budget holds. Measuring beats guessing: the error of a layer's
weights hardly tells what it does to the answers. One integer graph is in memory at a time.
Source: Wu et al. 2020, "Integer quantization for deep learning inference: principles and empirical evaluation",
section 6 (partial quantization). Test: tests/test_sensitivity.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exporters.graph import Graph, label
from exporters.quantization import placement
from exporters.quantization.quantize import on_ranges
from exporters.quantization.work import Work, excluding, layers
from runtimes.base import Runner, Tensors, Track, silent
from runtimes.parity import compare
from runtimes.session import open_session


@dataclass(frozen=True)
class Sensitivity:
    """One layer: SQNR (dB) of the network with it alone in int8; None where time was up before it was measured."""

    node: str
    snr_db: float | None


class Ranking(NamedTuple):
    """The `layers`, the most sensitive first; and the `work` with the ranges that any of them needs alone."""

    layers: tuple[Sensitivity, ...]
    work: Work


def rank(
    work: Work,
    reference: Runner,
    images: Sequence[Tensors],
    time_left: Callable[[], float],
    threads: int | None = None,
    track: Track = silent,
) -> Ranking:
    """The int8 layers of `work` by sensitivity on `images` against the float `reference`, the most sensitive first.

    Layers that the time does not suffice for come last, in the order of the graph.
    """
    plan = work.plan()
    names = [label(node) for node in layers(Graph(work.model, copied=False), plan)]
    others = {name: [other for other in names if other != name] for name in names}
    recipes = [excluding(work.recipe, others[name]) for name in names]
    plans = [placement.plan(work.model, recipe.exclude, recipe.forms, reasons=False) for recipe in recipes]
    work = work.planned(plans, threads, track)
    found = []
    for name, recipe, alone in track([*zip(names, recipes, plans, strict=True)], "measuring layers"):
        snr_db = None
        if time_left() > 0:
            model = work.floated(others[name]).model
            quantized = on_ranges(model, recipe, work.calibration.ranges, plan=alone if model is work.model else None)
            snr_db = compare(reference, open_session(quantized.model, threads=threads), images).worst_db
        found.append(Sensitivity(name, snr_db))
    found.sort(key=lambda s: float("inf") if s.snr_db is None else s.snr_db)
    return Ranking(tuple(found), work)


def fewest(count: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest k in 1..count for which `holds(k)`, by bisection (more layers in float never hurt, nearly).

    None when it does not hold even for `count`. `holds` is asked at most log2(count) + 2 times.

    >>> fewest(10, lambda k: k >= 7), fewest(10, lambda k: False)
    (7, None)
    """
    if count < 1 or not holds(count):
        return None
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
