"""The search on tables of ratios: what is tried, what is adopted, when it stops. Oracle: exhaustive search."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.searching.search import COMPARISON, Design, Found, Region, search, worst_modules, worst_runs
from runtimes.latency import Ratio, verdict


class Table:
    """Times (ms) of designs by a formula; a race of equal graphs is none."""

    def __init__(
        self,
        time: Callable[[Design], float],
        rewrites: Sequence[str] = (),
        layers: Sequence[str] = (),
        others: Sequence[str] = (),
    ) -> None:
        self.time, self.names, self.layers, self.others = time, rewrites, layers, others
        self.raced: list[tuple[Design, Design]] = []

    def rewrites(self) -> tuple[Sequence[str], Sequence[str]]:
        return self.names, self.others

    def regions(self, design: Design) -> Sequence[Region]:
        return [Region(n, (n,), 1.0) for n in self.layers if n not in design.kept_float]

    def identity(self, design: Design) -> object:
        return design

    def race(self, a: Design, b: Design) -> Ratio:
        self.raced.append((a, b))
        ratio = self.time(b) / self.time(a)
        return Ratio("a", "b", ratio, ratio * 0.995, ratio * 1.005, verdict(ratio * 0.995, ratio * 1.005, 50))


def forever() -> float:
    return 1.0


def rounds(count: int) -> Callable[[], float]:
    """Time for `count` questions."""
    left = iter(range(count, -1, -1))
    return lambda: float(next(left, 0))


def additive(gains: dict[str, float]) -> Callable[[Design], float]:
    """Each part of a design multiplies the time of 10 ms by its factor."""
    return lambda d: 10 * math.prod(gains[n] for n in (*d.rewrites, *d.kept_float))


@given(st.lists(st.sampled_from([0.5, 0.8, 0.99, 1.0, 1.01, 1.3]), min_size=1, max_size=5), st.data())
def test_independent_gains_are_all_found(factors: list[float], data: st.DataObject) -> None:
    """Where parts do not depend on each other, the climb ends within noise of the best of all designs."""
    cut = data.draw(st.integers(0, len(factors)))
    gains = {f"p{i}": f for i, f in enumerate(factors)}
    names = list(gains)
    table = Table(additive(gains), names[:cut], names[cut:])
    found = search(table, forever)
    everything = [
        Design(r, f)
        for k in range(cut + 1)
        for r in itertools.combinations(names[:cut], k)
        for m in range(len(names) - cut + 1)
        for f in itertools.combinations(names[cut:], m)
    ]
    best = min(table.time(d) for d in everything)
    assert found.complete
    within_noise = sum(f in (0.99, 1.01) for f in factors)
    assert table.time(found.design) <= best * 1.0102**within_noise * 1.0001, found


def test_a_rewrite_that_only_hurts_together_with_another_is_taken_out() -> None:
    def time(d: Design) -> float:
        return {(): 10.0, ("a",): 6.0, ("b",): 8.0, ("a", "b"): 7.0}[d.rewrites]

    found = search(Table(time, ["a", "b"]), forever)
    assert found.design == Design(("a",))
    assert [s.what for s in found.steps if s.adopted] == ["all rewrites", "without b"]


def test_rewrites_keep_their_order_when_one_comes_back() -> None:
    def time(d: Design) -> float:
        return 10.0 if len(d.rewrites) == 3 else 10 - 3 * ("a" in d.rewrites) - 3 * ("c" in d.rewrites)

    found = search(Table(time, ["a", "b", "c"]), forever)
    assert found.design.rewrites == ("a", "c")


def test_one_of_two_ways_to_the_same_end_takes_the_place_of_the_other() -> None:
    """`b` changes nothing behind `a`: with both the graph is that of `a` alone."""
    times = {(): 10.0, ("a",): 8.0, ("b",): 6.0, ("a", "b"): 8.0}
    found = search(Table(lambda d: times[d.rewrites], ["a"], others=["b"]), forever)
    assert found.design.rewrites == ("b",)
    assert "b instead of a" in [step.what for step in found.steps if step.adopted]


def test_regions_are_measured_again_after_each_success() -> None:
    table = Table(additive({"x": 0.9, "y": 0.9}), layers=["x", "y"])
    found = search(table, forever)
    assert found.design.kept_float == ("x", "y")


def test_whole_int8_sends_nothing_to_float() -> None:
    """Not even what would be twice as fast there; rewrites still race."""
    times = {(): 10.0, ("a",): 6.0, ("b",): 8.0, ("a", "b"): 7.0}
    table = Table(lambda d: times[d.rewrites] * 0.5 ** len(d.kept_float), ["a", "b"], layers=["x", "y"])
    assert search(table, forever).design.kept_float
    whole = search(table, forever, whole=True)
    assert whole.design == Design(("a",))
    assert whole.complete
    assert not any(step.design.kept_float for step in whole.steps)


def test_nothing_is_adopted_within_the_noise() -> None:
    found = search(Table(lambda d: 10 - 0.01 * len(d.rewrites), ["a", "b"], ["x"]), forever)
    assert found.design == Design()
    assert found.complete
    assert not any(step.adopted for step in found.steps)


@pytest.mark.parametrize("questions", [0, 1, 2, 3])
def test_when_the_time_is_up_the_best_so_far_stands(questions: int) -> None:
    table = Table(additive({"a": 0.5, "b": 0.9, "x": 0.8}), ["a", "b"], ["x"])
    found = search(table, rounds(questions))
    assert not found.complete
    assert found.design == Design(("a", "b")), "the first race is always run"
    assert len(table.raced) <= 1 + questions


@pytest.mark.parametrize("questions", [3, 5, 8])
def test_no_region_is_tried_when_the_time_is_up(questions: int) -> None:
    """However many are proposed: each costs a race."""
    layers = [f"x{i}" for i in range(20)]
    table = Table(additive(dict.fromkeys(layers, 1.2)), layers=layers)
    assert search(table, rounds(questions)).design == Design()
    assert len(table.raced) < questions


def test_the_best_without_rewrites_is_raced_though_the_first_climb_has_met_it() -> None:
    """There it lost to another graph than the one that stands now, or a noisy race."""
    times = {((), ()): 10.0, (("a",), ()): 8.0, ((), ("x",)): 6.0, (("a",), ("x",)): 6.0}
    found = search(Table(lambda d: times[d.rewrites, d.kept_float], ["a"], ["x"]), forever)
    met = [step.what for step in found.steps if step.design == Design((), ("x",))]
    assert met == ["without a", "x in float", COMPARISON]


def test_a_pair_is_raced_once_a_climb_and_the_same_table_gives_the_same_steps() -> None:
    def run() -> Table:
        table = Table(additive({"a": 0.9, "b": 1.2, "c": 0.7, "x": 0.8, "y": 1.1}), ["a", "b", "c"], ["x", "y"])
        table.found = search(table, forever)
        return table

    first, second = run(), run()
    assert first.found == second.found
    assert first.found.to_dict() == second.found.to_dict()
    assert max(Counter(first.raced).values()) <= 2, "there are two climbs"


def test_a_hill_is_left_by_the_second_climb() -> None:
    """With the rewrite, x in float is slower; without it, x and then y in float lead to the fastest of all."""
    times = {
        ((), ()): 10.0, (("r",), ()): 8.0, (("r",), ("x",)): 9.0, (("r",), ("y",)): 9.0, ((), ("x",)): 9.0,
        ((), ("y",)): 12.0, ((), ("x", "y")): 5.0, (("r",), ("x", "y")): 6.0,
    }  # fmt: skip
    found = search(Table(lambda d: times[d.rewrites, d.kept_float], ["r"], ["x", "y"]), forever)
    assert found.design == Design((), ("x", "y"))
    assert found.steps[-1].what == "the best that began without rewrites"
    assert [s.what for s in found.steps if found.left(s)] == ["all rewrites"]

    times[(), ("x", "y")], times[("r",), ("x", "y")] = 8.5, 8.6
    found = search(Table(lambda d: times[d.rewrites, d.kept_float], ["r"], ["x", "y"]), forever)
    assert found.design == Design(("r",))
    assert [s.what for s in found.steps if found.left(s)] == ["x in float", "y in float"]
    told = {step["what"]: (step["adopted"], step["left"]) for step in found.to_dict()["steps"]}
    assert told["all rewrites"] == (True, False)
    assert told["the best that began without rewrites"] == (False, False)


def test_what_went_to_float_comes_back_when_a_later_step_made_it_idle() -> None:
    """x alone in float helps; once y is there too, x only costs a boundary."""
    times = {(): 10.0, ("x",): 8.0, ("y",): 9.0, ("x", "y"): 6.0}
    back = {**times, ("x", "y"): 7.0, ("y",): 5.0}

    class Later(Table):
        """y is proposed only after x."""

        def regions(self, design: Design) -> Sequence[Region]:
            return [r for r in super().regions(design) if r.name == "x" or "x" in design.kept_float]

    stays = search(Later(lambda d: times[d.kept_float], layers=["x", "y"]), forever)
    assert stays.design.kept_float == ("x", "y")
    assert [s.what for s in stays.steps] == ["x in float", "y in float", "x back in int8"]
    comes_back = search(Later(lambda d: back[d.kept_float], layers=["x", "y"]), forever)
    assert comes_back.design.kept_float == ("y",)
    assert [s.what for s in comes_back.steps if s.adopted] == ["x in float", "y in float", "x back in int8"]


def test_nodes_that_two_regions_share_stay_with_the_other() -> None:
    class Shared(Table):
        def regions(self, design: Design) -> Sequence[Region]:
            both = [Region("m", ("x", "y"), 2.0), Region("n", ("x", "y", "z"), 3.0)]
            return [r for r in both if not set(r.nodes) <= set(design.kept_float)]

    def time(d: Design) -> float:
        return {(): 10.0, ("x", "y"): 8.0, ("x", "y", "z"): 6.0}[d.kept_float]

    found = search(Shared(time), forever)
    assert found.design.kept_float == ("x", "y", "z")
    assert not any("back" in step.what for step in found.steps), "all of m is in n"


def test_without_time_nobody_asks_for_other_rewrites() -> None:
    class Dear(Table):
        def rewrites(self) -> tuple[Sequence[str], Iterator[str]]:
            return self.names, (pytest.fail("seconds of work for nothing") for _ in "a")

    assert search(Dear(additive({"r": 0.5}), ["r"]), lambda: 0.0).design == Design(("r",))


def test_equal_graphs_are_no_step() -> None:
    class Same(Table):
        def identity(self, design: Design) -> str:
            return "one graph"

    assert search(Same(lambda d: 0.5 ** len(d.rewrites), ["a"]), forever) == Found(Design(), (), True)


def test_a_design_that_cannot_be_made_is_no_step() -> None:
    class Nothing(Table):
        def identity(self, design: Design) -> str | None:
            return None if design.kept_float else str(design)

    assert search(Nothing(lambda d: 0.5 ** len(d.kept_float), layers=["x"]), forever).design == Design()


# ------------------------------------------------------------------------------------------------------------ regions
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=12))
def test_the_worst_run_is_the_largest_sum_of_all(losses: list[int]) -> None:
    nodes = [f"n{i}" for i in range(len(losses))]
    runs = worst_runs(nodes, losses)
    sums = [sum(losses[i:j]) for i in range(len(losses)) for j in range(i + 1, len(losses) + 1)]
    if max(sums) <= 0:
        assert runs == []
        return
    assert runs[0].loss_us == max(sums)
    assert all(r.loss_us == sum(losses[nodes.index(n)] for n in r.nodes) for r in runs)
    held = [n for r in runs for n in r.nodes]
    assert len(held) == len(set(held))
    assert [r.loss_us for r in runs] == sorted((r.loss_us for r in runs), reverse=True)


def test_modules_of_every_depth_are_regions() -> None:
    nodes = ["a", "b", "c", "d"]
    modules = ["net.se.fc1", "net.se.fc2", "net.conv", ""]
    found = worst_modules(nodes, modules, [5.0, 4.0, -6.0, 99.0])
    assert [(r.name, r.nodes, r.loss_us) for r in found] == [("net.se", ("a", "b"), 9.0), ("net", ("a", "b", "c"), 3.0)]


class Rewritten(Table):
    """A network in which nothing can be int8 but after the rewrite `turned`."""

    def identity(self, design: Design) -> object:
        return design if "turned" in design.rewrites else None


def test_where_the_plain_design_cannot_be_made_the_full_one_is_the_start() -> None:
    table = Rewritten(additive({"turned": 1.0, "slow": 1.5, "x": 0.5}), ["turned", "slow"], ["x"])
    found = search(table, forever)
    assert found.design == Design(("turned",), ("x",))
    assert all("turned" in design.rewrites for race in table.raced for design in race)
    assert search(Rewritten(additive({"turned": 1.0}), ["turned"]), lambda: 0.0).design == Design(("turned",))
