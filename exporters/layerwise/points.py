"""The points at which two graphs are compared, and which of them lie behind which: sets of points as bits of a number.

    x ──> a ──> b ──> d          behind d: a, b, c          front of {a, b, c}: b and c
          └──> c ──────┘

Test: tests/test_points.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporters.layerwise.partial import Parts


@dataclass(frozen=True)
class Points:
    """Named points in topological order; `parents[i]` are the nearest points that i is made from."""

    names: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]
    before: tuple[int, ...]

    @property
    def all(self) -> int:
        return (1 << len(self.names)) - 1

    def front(self, points: int) -> int:
        """Those of `points` that lie behind none of the others: what is wrong with one of them shows there."""
        covered = 0
        for i in members(points):
            covered |= self.before[i]
        return points & ~covered


def members(points: int) -> Iterator[int]:
    """The places of the bits in `points`, lowest first.

    >>> list(members(0b1011))
    [0, 1, 3]
    """
    while points:
        low = points & -points
        yield low.bit_length() - 1
        points ^= low


def graph_points(parts: Parts, names: Sequence[str]) -> Points:
    """The tensors `names` of a graph as points."""
    ordered = tuple(sorted(set(names), key=lambda name: parts.place.get(name, -1)))
    number = {name: i for i, name in enumerate(ordered)}
    near: dict[str, frozenset[int]] = {}
    for node, reads in zip(parts.nodes, parts.reads, strict=True):
        seen: frozenset[int] = frozenset()
        for name in reads:
            seen |= frozenset([number[name]]) if name in number else near.get(name, frozenset())
        near |= {name: seen for name in node.output if name}
    return with_parents(ordered, [tuple(sorted(near.get(name, ()))) for name in ordered])


def chain(names: Sequence[str]) -> Points:
    """Points of which nothing is known but their order: each is taken to lie behind all that come before it."""
    return with_parents(names, [(i - 1,) if i else () for i in range(len(names))])


def with_parents(names: Sequence[str], parents: Sequence[tuple[int, ...]]) -> Points:
    before: list[int] = []
    for own in parents:
        behind = 0
        for p in own:
            behind |= before[p] | 1 << p
        before.append(behind)
    return Points(tuple(names), tuple(parents), tuple(before))


def without(points: Points, gone: int) -> Points:
    """`points` without the one at place `gone`, whose parents its children are made from then."""
    place = {old: new for new, old in enumerate(i for i in range(len(points.names)) if i != gone)}
    parents = []
    for own in (points.parents[i] for i in place):
        near = {*own} - {gone} | ({*points.parents[gone]} if gone in own else set())
        parents.append(tuple(sorted(place[p] for p in near)))
    return with_parents([points.names[i] for i in place], parents)
