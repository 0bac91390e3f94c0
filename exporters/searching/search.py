"""Find the fastest integer form of a network by racing candidates on the machine at hand, within a number of seconds.

    design    =  which rewrites are applied, and which nodes stay float
    starts    =  the full design (every rewrite that applies, all int8) and the plain one (no rewrite), if it has int8
    step      =  one rewrite less, more or instead of another, or one region back to float; taken when it is "faster"
    back      =  what went to float returns to int8, region by region: the newest step may have made an older one idle
    end       =  no step helps any more; the ends of the two climbs race. When the time is up, the best so far stands

Regions come from measured times: every layer is timed in int8 and in float, and the runs of layers (and the PyTorch
modules) with the largest loss are tried first. A rule does not do: what a layer wins in float, its two boundaries may
cost again. A climb can end on a hill (a first convolution that a rewrite made fast in int8 hides that the first third
of the network is faster in float), so there are two. The search sees designs and ratios only, never a clock: with the
same table of ratios it does the same.
Test: tests/test_search.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from runtimes.latency import Ratio


@dataclass(frozen=True)
class Design:
    """How an integer candidate is made: `rewrites` in their order, then all int8 but for the nodes in `kept_float`."""

    rewrites: tuple[str, ...] = ()
    kept_float: tuple[str, ...] = ()

    def without(self, rewrite: str) -> Design:
        return replace(self, rewrites=tuple(name for name in self.rewrites if name != rewrite))

    def with_rewrite(self, rewrite: str, order: Sequence[str]) -> Design:
        """This design with `rewrite` at its place in `order`."""
        return replace(self, rewrites=tuple(n for n in order if n == rewrite or n in self.rewrites))

    def floated(self, nodes: Iterable[str]) -> Design:
        """This design with `nodes` in float too."""
        return replace(self, kept_float=tuple(sorted({*self.kept_float, *nodes})))

    def returned(self, nodes: Iterable[str]) -> Design:
        """This design with `nodes` in int8 again."""
        return replace(self, kept_float=tuple(sorted({*self.kept_float} - {*nodes})))

    @property
    def is_plain(self) -> bool:
        return self == Design()

    def to_dict(self) -> dict[str, Any]:
        return {"rewrites": list(self.rewrites), "kept_float": list(self.kept_float)}


@dataclass(frozen=True)
class Region:
    """Nodes that might be faster in float: `loss_us` is what int8 costs more, boundaries not counted."""

    name: str
    nodes: tuple[str, ...]
    loss_us: float


@dataclass(frozen=True)
class Step:
    """One race of the search: the candidate is `ratio` times as fast as the best design before it."""

    what: str
    design: Design
    ratio: float
    low: float
    high: float
    adopted: bool
    climb: int = 1
    """1 began with all rewrites, 2 without any."""

    def to_dict(self) -> dict[str, Any]:
        numbers = {name: round(getattr(self, name), 4) for name in ("ratio", "low", "high")}
        return {"what": self.what, **self.design.to_dict(), **numbers, "adopted": self.adopted, "climb": self.climb}


@dataclass(frozen=True)
class Found:
    """The outcome: the fastest `design` that was tried, every race on the way, and whether time ran out first."""

    design: Design
    steps: tuple[Step, ...]
    complete: bool

    def left(self, step: Step) -> bool:
        """Whether `step` was taken on the climb whose end lost against the other's."""
        won = 2 if self.steps[-1].what == COMPARISON and self.steps[-1].adopted else 1
        return step.adopted and step.what != COMPARISON and step.climb != won

    def to_dict(self) -> dict[str, Any]:
        """The timing table that an artifact keeps."""
        steps = [{**step.to_dict(), "left": self.left(step)} for step in self.steps]
        return {"design": self.design.to_dict(), "complete": self.complete, "steps": steps}


class Workshop(Protocol):
    """What makes and races designs; a test passes a table."""

    def rewrites(self) -> tuple[Sequence[str], Iterable[str]]:
        """Rewrites that change this network one after the other, in their order; and others that would, alone.

        The others are asked for only where there is time to try them.
        """

    def regions(self, design: Design) -> Sequence[Region]:
        """What might go back to float in `design`, the largest loss first."""

    def identity(self, design: Design) -> Hashable | None:
        """What tells its graph from another design's; None when it cannot be made."""

    def race(self, a: Design, b: Design) -> Ratio:
        """How many times faster `a` runs than `b`."""


COMPARISON = "the best that began without rewrites"


def search(shop: Workshop, time_left: Callable[[], float], whole: bool = False) -> Found:
    """The fastest design of `shop` that can be found while `time_left()` is above 0 seconds.

    The first race, of the plain against the full design, is always run; where the plain one cannot be made, the full
    one is the start. `whole`: nothing goes to float for speed.
    """
    together, others = shop.rewrites()
    full, plain = Design(tuple(together)), shop.identity(Design()) is not None
    climb = _Climb(shop, time_left, start=Design() if plain else full)
    helped = plain and bool(together) and climb.attempt("all rewrites", full)
    names = (*together, *others) if climb.may_go_on() else ()
    if whole:
        while climb.may_go_on() and climb.rewrites(names):
            pass
        return Found(climb.best, tuple(climb.steps), climb.may_go_on())
    climb.to_the_top(names)
    if helped and climb.may_go_on():
        second = _Climb(shop, time_left, climb.steps, 2)
        if second.regions():
            second.to_the_top(names)
            climb.attempt(COMPARISON, second.best, again=True)
    return Found(climb.best, tuple(climb.steps), climb.may_go_on())


class _Climb:
    """The best design so far, from `start` (None: the plain one) up; `steps`, the way to it, may be another climb's."""

    def __init__(
        self, shop: Workshop, time_left: Callable[[], float], steps: list[Step] | None = None, number: int = 1,
        start: Design | None = None,
    ) -> None:  # fmt: skip
        self.shop = shop
        self.number = number
        self.time_left = time_left
        self.best = start or Design()
        self.steps = [] if steps is None else steps
        self.seen: set[Hashable | None] = {None, shop.identity(self.best)}
        self.floated: list[Region] = []
        """Regions that went to float on this climb, in their order."""

    def to_the_top(self, names: Sequence[str]) -> None:
        """Steps of both kinds until none helps or the time is up."""
        moved = True
        while moved and self.may_go_on():
            moved = self.rewrites(names)
            moved = self.regions() or moved
            moved = self.back() or moved

    def may_go_on(self) -> bool:
        return self.time_left() > 0

    def attempt(self, what: str, design: Design, again: bool = False) -> bool:
        """Race `design` against the best one; adopt it when it is faster. True when it was adopted.

        A graph that raced before in this climb does not race `again`.
        """
        identity = self.shop.identity(design)
        if identity in self.seen and not again:
            return False
        self.seen.add(identity)
        ratio = self.shop.race(design, self.best)
        adopted = ratio.low > 1 and ratio.verdict != "same"  # many small gains add up: less than a verdict asks for
        self.steps.append(Step(what, design, ratio.ratio, ratio.low, ratio.high, adopted, self.number))
        if adopted:
            self.best = design
        return adopted

    def rewrites(self, names: Sequence[str]) -> bool:
        """Take each rewrite out where it is in; put it in where it is out, also in the place of another one."""
        before = self.best
        for name in names:
            if name in self.best.rewrites:
                self.try_it(f"without {name}", self.best.without(name))
            else:
                self.try_it(f"with {name}", self.best.with_rewrite(name, names))
                for other in self.best.rewrites if name not in self.best.rewrites else ():
                    self.try_it(f"{name} instead of {other}", self.best.without(other).with_rewrite(name, names))
        return self.best != before

    def try_it(self, what: str, design: Design) -> bool:
        """As `attempt`, if there is time."""
        return self.may_go_on() and self.attempt(what, design)

    def regions(self) -> bool:
        """Put regions back to float as long as one of them helps; after a success the losses are measured anew."""
        moved = False
        while self.may_go_on():
            regions = self.shop.regions(self.best)
            if not any(self.put_in_float(region) for region in regions if self.may_go_on()):
                break
            moved = True
        return moved

    def put_in_float(self, region: Region) -> bool:
        adopted = self.attempt(f"{region.name} in float", self.best.floated(region.nodes))
        if adopted:
            self.floated.append(region)
        return adopted

    def back(self) -> bool:
        """Try each region that went to float in int8 again, the oldest first; the last was measured just now."""
        before = self.best
        for region in self.floated[:-1]:
            others = {node for other in self.floated if other is not region for node in other.nodes}
            alone = [node for node in region.nodes if node not in others]
            if alone and self.try_it(f"{region.name} back in int8", self.best.returned(alone)):
                self.floated = [other for other in self.floated if other is not region]
        return self.best != before


# ------------------------------------------------------------------------------------------------------------ regions
MOST_REGIONS = 12
"""Proposals after one measurement; the tail of the list hardly ever wins."""


def worst_runs(nodes: Sequence[str], loss_us: Sequence[float], most: int = 4) -> list[Region]:
    """Runs of consecutive `nodes` with the largest sums of loss (Kadane 1984), disjoint, the largest first.

    >>> [(r.name, r.loss_us) for r in worst_runs(["a", "b", "c", "d", "e"], [-5, 3, -1, 4, -9])]
    [('b ... d', 6.0)]
    """
    losses, regions = list(loss_us), []
    for _ in range(most):
        best, start, running, first = 0.0, 0, 0.0, 0
        end = -1
        for i, loss in enumerate(losses):
            if running <= 0:
                running, first = 0.0, i
            running += loss
            if running > best:
                best, start, end = running, first, i
        if end < 0:
            break
        name = nodes[start] if start == end else f"{nodes[start]} ... {nodes[end]}"
        regions.append(Region(name, tuple(nodes[start : end + 1]), best))
        losses[start : end + 1] = [float("-inf")] * (end + 1 - start)
    return regions


def worst_modules(
    nodes: Sequence[str], modules: Sequence[str], loss_us: Sequence[float], most: int = 6
) -> list[Region]:
    """PyTorch modules (of any depth, of at least two nodes) whose nodes lose most together, the largest first."""
    inside: dict[str, list[int]] = {}
    for i, path in enumerate(modules):
        parts = path.split(".") if path else []
        for depth in range(1, len(parts) + 1):
            inside.setdefault(".".join(parts[:depth]), []).append(i)
    regions = [
        Region(path, tuple(nodes[i] for i in held), sum(loss_us[i] for i in held))
        for path, held in inside.items()
        if len(held) > 1
    ]
    return sorted((r for r in regions if r.loss_us > 0), key=lambda r: (-r.loss_us, r.name))[:most]
