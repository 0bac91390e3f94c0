"""The grids of joined tensors and of HardSwish, recomputed in numpy from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.quantization.affine import Grid, activation_grid
from exporters.quantization.grids import cuts_apart, gate_grid, grids_of, hard_grid, join, on_grid
from exporters.quantization.placement import Plan


@given(high=st.floats(-5, 762))
@settings(max_examples=200, deadline=None)
def test_the_second_factor_of_hardswish_is_the_same_integers(high: float) -> None:
    """Every one of the 256 values: clip(x + 3, 0, 6) / 6 is what the cut integers are on the gate's grid."""
    grid = hard_grid(high)
    gate = gate_grid(grid)
    q = np.arange(256, dtype=np.uint8)
    x = grid.dequantize(q).astype(np.float64)
    cut = np.minimum(q, on_grid(1.0, gate))
    np.testing.assert_allclose(gate.dequantize(cut), np.clip(x + 3, 0, 6) / 6, atol=1e-6)  # float32 of the scale
    assert on_grid(1.0, gate) == min(2 * int(grid.zero_point), 255)
    assert grid.low == pytest.approx(-3, abs=1e-5)
    assert grid.high >= high - 1e-3


def test_a_range_beyond_reason_saturates() -> None:
    assert hard_grid(5000.0).high == 762


def test_hardsigmoid_needs_no_more_than_three_above_zero() -> None:
    assert hard_grid(3.0).high == pytest.approx(3, abs=0.03)


def test_joined_grids_hold_every_member() -> None:
    ranges = {"a": (-1.0, 2.0), "b": (0.0, 4.0), "c": (0.5, 3.0)}
    found = join(frozenset("abc"), ranges)
    grid = activation_grid(-1, 4)
    assert {(float(g.scale), int(g.zero_point)) for g in found.values()} == {(float(grid.scale), int(grid.zero_point))}
    assert set(found) == set("abc")


@pytest.mark.parametrize(("high", "joins"), [(1.1, True), (0.9, False)])
def test_a_member_that_would_lose_two_bits_keeps_its_own_grid(high: float, joins: bool) -> None:
    """Boxes (0 to 640) beside scores (0 to 1) under one scale would round every score to zero."""
    assert bool(join(frozenset("ab"), {"a": (0.0, 4.0), "b": (0.0, high)})) is joins


def test_a_fixed_grid_is_not_joined() -> None:
    assert join(frozenset("ab"), {"a": (0.0, 1.0), "b": (0.0, 1.0)}, frozenset("b")) == {}


def test_all_grids_of_a_plan() -> None:
    plan = Plan(
        int8=frozenset(),
        grids={"a": "a", "p": "a", "h": "h", "e": "e", "s": "s", "u": "u", "v": "v"},
        made_by_int8=frozenset(),
        float_nodes=(),
        joined=(frozenset("uv"), frozenset("sh")),
        hard_inputs=frozenset("ae"),
        gates={"s": "e"},
    )
    assert plan.observed == ["a", "e", "h", "u", "v"]
    ranges = {"a": (-9.0, 5.0), "e": (-9.0, 90.0), "h": (-0.4, 5.0), "u": (-1.0, 1.0), "v": (0.0, 3.0)}
    grids = grids_of(plan, ranges)

    def numbers(grid: Grid) -> tuple[float, int]:
        return float(grid.scale), int(grid.zero_point)

    assert numbers(grids["a"]) == numbers(grids["p"]) == numbers(hard_grid(5.0))
    assert numbers(grids["e"]) == numbers(hard_grid(3.0)), "a HardSigmoid alone is flat beyond 3"
    assert numbers(grids["s"]) == (pytest.approx(3 / 127 / 6), 0)
    assert numbers(grids["h"]) == numbers(activation_grid(-0.4, 5.0)), "joined with a gate: stays apart"
    assert numbers(grids["u"]) == numbers(grids["v"]) == numbers(activation_grid(-1.0, 3.0))


def cut_plan(**cuts: tuple[str, float, float]) -> Plan:
    """A chain of `cuts` of tensor a, each of which reads the one before it."""
    return Plan(
        int8=frozenset(),
        grids=dict.fromkeys(["a", *cuts], "a"),
        made_by_int8=frozenset(),
        float_nodes=(),
        cuts=cuts,
        behind={name: name for name in cuts},
    )


@pytest.mark.parametrize(
    ("ends", "range_of_a", "apart"),
    [
        ((0.0, np.inf), (-1.0, 1.0), None),
        ((-np.inf, 0.0), (-1.0, 1.0), None),
        ((0.0, 6.0), (-3.0, 1.0), None),  # 4 times
        ((0.0, 6.0), (-3.1, 1.0), (0.0, 1.0)),  # more than that: two bits would be lost
        ((2.0, 6.0), (-1.0, 1.0), (2.0, 2.0)),  # beyond
        ((-6.0, -2.0), (-1.0, 1.0), (-2.0, -2.0)),
        ((0.5, np.inf), (-1.0, 1.0), None),
        ((0.5, 0.6), (-1.0, 1.0), None),
        ((-2.0, -0.5), (0.0, 1.0), (-0.5, -0.5)),
        ((0.0, np.inf), (-2.0, -1.0), None),  # nothing is left of it, and zero is on every grid
    ],
)
def test_a_cut_stays_on_the_grid_that_holds_what_it_leaves(
    ends: tuple[float, float], range_of_a: tuple[float, float], apart: tuple[float, float] | None
) -> None:
    plan, ranges = cut_plan(c=("a", *ends)), {"a": range_of_a}
    assert plan.observed == ["a"], "what it leaves follows from what it reads"
    assert cuts_apart(plan, ranges) == ({} if apart is None else {"c": apart})
    grids = grids_of(plan, ranges)
    assert grids["c"] == (grids["a"] if apart is None else activation_grid(*apart))


def test_a_cut_behind_a_cut_is_held_against_the_grid_that_it_reads() -> None:
    ranges = {"a": (-8.0, 8.0)}
    near = cut_plan(c=("a", 0.0, 1.0), d=("c", 0.5, 1.0), e=("d", 2.0, 3.0))
    assert cuts_apart(near, ranges) == {"c": (0.0, 1.0), "e": (2.0, 2.0)}
    grids = grids_of(near, ranges)
    assert grids["d"] == grids["c"] == activation_grid(0.0, 1.0)
    far = cut_plan(c=("a", -4.0, 4.0), d=("c", 0.0, 1.0))
    assert cuts_apart(far, ranges) == {"d": (0.0, 1.0)}


def test_the_grid_of_a_gate_is_its_own_whatever_else_is_on_it() -> None:
    """max(x, s x) of x from 0 to 1 is x; a cut beyond 1 has another grid, and so have its maxima."""
    plan = Plan(
        int8=frozenset(),
        grids={"e": "e", **dict.fromkeys("smcn", "s")},
        made_by_int8=frozenset(),
        float_nodes=(),
        hard_inputs=frozenset("e"),
        gates={"s": "e"},
        maxima={"m": "s", "n": "s"},
        cuts={"c": ("s", -np.inf, -0.5)},
        behind={"c": "c", "n": "c"},
    )
    assert plan.observed == ["e", "m", "n"]
    grids = grids_of(plan, {"e": (-9.0, 9.0), "m": (0.0, 1.0), "n": (-0.5, 0.25)})
    assert grids["s"] == grids["m"] == gate_grid(hard_grid(3.0))
    assert grids["c"] == grids["n"] == activation_grid(-0.5, 0.25)
