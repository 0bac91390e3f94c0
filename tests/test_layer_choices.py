"""Why a layer is float never contradicts the two times that stand beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from edgecnn.choosing.layer_choices import LayerChoice, Returned, explained, layer_choices, returned_by
from exporters.quantization.why_float import LEFT_OUT, OUTRACED
from exporters.searching.search import COMPARISON, Design, Found, Step

NAMES = ("stem", "act", "head", "tail", "last", "odd", "pad")
INT8 = {"stem": 484.0, "act": 23.0, "head": 9.0, "tail": 40.0, "last": 7.0, "pad": 3.0}
FLOATS = {"stem": 120.0, "act": 27.0, "head": 30.0, "tail": 41.0, "last": 9.0, "odd": 5.0}


def step(what: str, *kept: str, ratio: float, adopted: bool = True) -> Step:
    return Step(what, Design(kept_float=tuple(sorted(kept))), ratio, ratio - 0.01, ratio + 0.01, adopted)


FOUND = Found(
    Design(kept_float=("act", "odd", "stem", "tail")),
    (
        step("all rewrites", ratio=1.5),
        step("head in float", "head", ratio=0.9, adopted=False),
        step("stem in float", "stem", "act", ratio=1.08),
        step("tail in float", "stem", "act", "tail", ratio=1.02),
    ),
    True,
)


def test_a_way_that_lost_gives_no_reasons() -> None:
    """The second way took the same layer back to float in another region, and lost at its end."""
    elsewhere = Step("act in float", Design(kept_float=("act", "stem", "tail")), 1.5, 1.4, 1.6, True, 2)
    lost = Step(COMPARISON, elsewhere.design, 0.9, 0.8, 0.95, False)
    both = replace(FOUND, steps=(*FOUND.steps[:3], Step("x", Design(), 1.0, 1.0, 1.0, True, 2), elsewhere, lost))
    choices = {choice.node: choice for choice in layer_choices(Shop(), both)}  # type: ignore[arg-type]
    assert "graph at 1.08x" in choices["act"].why


@pytest.mark.parametrize(("tried", "why"), [(("hardswish",), OUTRACED), (("pad_inputs",), LEFT_OUT)])
def test_an_int8_form_that_lost_its_race_is_not_told_as_missing(tried: tuple[str, ...], why: str) -> None:
    shop = Shop()
    shop.reasons = (("last", LEFT_OUT),)
    steps = (Step("all rewrites", Design(rewrites=tried), 0.9, 0.8, 0.95, False), *FOUND.steps)
    choices = layer_choices(shop, replace(FOUND, steps=steps))  # type: ignore[arg-type]
    assert {choice.node: choice.why for choice in choices}["last"] == why


class Shop:
    """The times of a table."""

    reasons = (("last", "excluded by last"),)

    def built(self, design: Design) -> Any:
        return SimpleNamespace(quantized=SimpleNamespace(float_nodes=self.reasons))

    def times(self, design: Design) -> tuple[Any, Any]:
        assert design.kept_float == ()
        return SimpleNamespace(by_node=INT8), SimpleNamespace(by_node=FLOATS)

    def source(self, rewrites: object) -> Any:
        return SimpleNamespace(graph=SimpleNamespace(node=[SimpleNamespace(name=name) for name in NAMES]))


@pytest.mark.parametrize(
    ("node", "kind", "why"),
    [
        ("stem", "float", "faster in float: int8 484 us, float 120 us"),
        ("act", "float", "its region of 2 layers won in float, graph at 1.08x; alone int8 23 us, float 27 us"),
        ("tail", "float", "won in float, its ends counted, graph at 1.02x; alone int8 40 us, float 41 us"),
        ("head", "int8", "int8 9 us, float 30 us"),
        ("last", "float", "excluded by last"),
        ("odd", "float", "its region won in float"),
        ("pad", "int8", ""),  # only int8 has it
    ],
)
def test_every_reason_is_that_of_the_race(node: str, kind: str, why: str) -> None:
    choices = {choice.node: choice for choice in layer_choices(Shop(), FOUND)}  # type: ignore[arg-type]
    assert choices[node] == LayerChoice(node, kind, INT8.get(node), FLOATS.get(node), why)


def test_who_says_faster_in_float_is() -> None:
    for choice in layer_choices(Shop(), FOUND):  # type: ignore[arg-type]
        if choice.why.startswith("faster in float"):
            assert choice.int8_us is not None
            assert choice.float_us is not None
            assert choice.int8_us > choice.float_us


def test_the_step_that_counts_is_the_last_that_was_adopted() -> None:
    """A second climb begins anew: what the first took back to float is not its doing."""
    first, second = (step("a", "x", "y", ratio=1.3), step("b", ratio=1.1)), step("c", "x", ratio=1.4)
    steps = [*first, second, step("d", "y", ratio=9.0, adopted=False)]
    assert returned_by(steps) == {"x": Returned(1, 1.4), "y": Returned(2, 1.3)}


@dataclass(frozen=True)
class Graph:
    """Of a `Quantized`, what is explained."""

    float_nodes: tuple[tuple[str, str], ...]


def test_what_is_float_is_explained_by_what_was_measured_of_float_or_by_the_budget() -> None:
    """`head` was int8 in the design that was timed, and is float for a reason of its own."""
    plain = Graph(tuple((name, "excluded by name") for name in ("stem", "head", "tail", "other")))
    layers = [LayerChoice(name, kind, 2.0, 1.0, "timed") for name, kind in
              (("stem", "float"), ("head", "int8"), ("tail", "float"))]  # fmt: skip
    told = explained(plain, layers, {"tail": "for the budget"})  # type: ignore[arg-type]
    assert dict(told.float_nodes) == {
        "stem": "timed", "head": "excluded by name", "tail": "for the budget", "other": "excluded by name",
    }  # fmt: skip
