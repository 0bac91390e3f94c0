"""Two models at their common points: how far apart are they there, and is a layer at fault by itself?

    measure   both from the inputs up to a front of points            SNR there, against the reference's own noise
    isolate   the candidate's layer on the reference's inputs         SNR of that layer alone
    stream    every point, one after the other, each from the last    both of them, for all points

One model runs at a time, and only the tensors of a front are kept, on disk where they are large.
Noise of a reference, at the same tensors: what it makes of inputs that are off by up to one unit in the last place, in
the same sessions and the same memory. A candidate rounds in every layer, so it may be `MARGIN_DB` worse than that.
Test: tests/test_diff.py, tests/test_diff_faults.py.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgecnn.checking.bisection import Reading
from edgecnn.checking.layer import Layer
from edgecnn.checking.meter import Kept, Meter, keeping, per_channel
from edgecnn.checking.sides import GraphSide, Side
from edgecnn.checking.tolerance import jitter
from exporters.layerwise.correspond import Pair
from exporters.layerwise.points import Points, members, without
from runtimes.base import Array, BadInput, Runner, Tensors, Track, silent

MARGIN_DB = 25.0
QUIET_DB = 130.0
"""No tensor is taken to have less noise than this: float32 rounds at 2^-24, 144 dB."""
BEST_DB = QUIET_DB - MARGIN_DB
"""No limit is higher, so that above it nobody needs to know the noise."""


@dataclass(frozen=True)
class Row:
    """One layer: SNR (dB) of its result in the candidate, and with the candidate's layer alone on right inputs.

    `index`: it makes sizes, indices or conditions, of which a decibel says little.
    """

    layer: Layer
    snr_db: float
    alone_db: float
    point: int
    index: bool = False

    def to_dict(self) -> dict[str, object]:
        from runtimes.parity import JSON_SNR_LIMIT, json_number

        numbers = {"snr_db": self.snr_db, "alone_db": self.alone_db}
        limited = {name: json_number(value, JSON_SNR_LIMIT) for name, value in numbers.items()}
        return {"node": self.layer.node, "module": self.layer.module, "op": self.layer.op, **limited}


@dataclass
class Comparison:
    """`names[i]` are point i's tensors in the reference and in the candidate. `limit_db` replaces the noise."""

    reference: Side
    candidate: Side
    points: Points
    pairs: tuple[Pair, ...]
    feeds: Sequence[Tensors]
    limit_db: float | None = None
    spent: Counter[str] = field(default_factory=Counter)
    other_layout: bool = False
    """One side has channels last, the other first: only tensors that look the same in both are compared."""
    per_layer: bool = False
    """`limit_db` is that of one layer: what lies between two points may be several (see `region`)."""
    gains: dict[str, Array] = field(default_factory=dict)
    """Factors per channel of the candidate's tensors, which a later layer of it takes back (see `gains`)."""

    def tensors(self, points: Sequence[int], side: int) -> list[str]:
        return [(self.pairs[i].reference, self.pairs[i].candidate)[side] for i in points]

    @property
    def ends(self) -> list[int]:
        """The outputs; the last common points where these have no counterparts."""
        graph, which = self.graph
        names = self.tensors(list(members(self.points.all)), which)
        own = [i for i, name in enumerate(names) if graph is not None and name in graph.parts.outputs]
        return own or list(members(self.points.front(self.points.all)))

    @property
    def graph(self) -> tuple[GraphSide | None, int]:
        """The side that is a graph, the candidate before the reference, and the place of its names in a pair."""
        sides = (self.candidate, 1), (self.reference, 0)
        return next(((side, which) for side, which in sides if isinstance(side, GraphSide)), (None, 0))

    @property
    def nodes(self) -> int:
        """Nodes of the graph that is bisected (calls of modules where neither side is a graph)."""
        side, _ = self.graph
        return len(self.points.names) if side is None else len(side.parts.nodes)

    # ---------------------------------------------------------------------------------------------------- measure
    def measure(self, points: int, spent: str = "partial") -> dict[int, Reading]:
        """The candidate against the reference at `points`, each from the inputs on."""
        chosen = list(members(points))
        names = self.tensors(chosen, 0)
        self.spent[spent] += 1
        best = BEST_DB if self.limit_db is None else self.limit_db
        with keeping() as kept:
            self._keep(kept, names)
            found = self._against(kept, chosen)
            limits = self._limits(kept, names) if min(found)[0] < best else dict.fromkeys(names, best)
        triples = zip(chosen, names, found, strict=True)
        return {i: Reading(value, limits[name], cause, odd) for i, name, (value, cause, odd) in triples}

    def at_ends(self, readings: Mapping[int, Reading]) -> list[Reading]:
        """The readings of the outputs; those that others are made from may not be among `readings`."""
        unseen = sum(1 << i for i in self.ends if i not in readings)
        known = {**readings, **(self.measure(unseen) if unseen else {})}
        return [known[i] for i in self.ends]

    def _keep(self, kept: Kept, names: Sequence[str]) -> None:
        runner = self.reference.open(names)
        for k, given in enumerate(self.feeds):
            kept.put(k, runner(given))

    def _limits(self, kept: Kept, names: Sequence[str]) -> dict[str, float]:
        """The least SNR at each tensor that is still noise."""
        if self.limit_db is not None:
            return dict.fromkeys(names, self.limit_db)
        moved = [jitter(given) for given in self.feeds]
        noise = self._meter(kept, names, names, self.reference.open(names), moved)
        return {name: min(QUIET_DB, meter.snr_db) - MARGIN_DB for name, meter in noise.items()}

    def _against(self, kept: Kept, chosen: Sequence[int]) -> list[tuple[float, str, bool]]:
        """(SNR, why it does not run, whether the reference has NaN or infinity) of the candidate; where the front does
        not run, of each tensor by itself.
        """
        ours, theirs = self.tensors(chosen, 0), self.tensors(chosen, 1)
        try:
            runner = self.candidate.open(theirs)
            meters = self._meter(kept, ours, theirs, runner, self.feeds).values()
            return [(meter.snr_db, "", meter.odd) for meter in meters]
        except BadInput as error:
            if len(chosen) == 1:
                return [(-math.inf, str(error), False)]
            return [entry for i in chosen for entry in self._against(kept, [i])]

    def _meter(
        self, kept: Kept, ours: Sequence[str], theirs: Sequence[str], runner: Runner, feeds: Sequence[Tensors]
    ) -> dict[str, Meter]:
        meters = {name: Meter() for name in ours}
        for k, given in enumerate(feeds):
            made = runner(given)
            for a, b in zip(ours, theirs, strict=True):
                meters[a].add(kept.get(k, a), made[b], self.gains.get(b) if theirs is not ours else None)
        return meters

    # ---------------------------------------------------------------------------------------------------- isolate
    def isolate(self, point: int) -> tuple[float, str]:
        """(SNR, why it does not run) of the candidate's layer on the reference's inputs."""
        self.spent["partial"] += 1
        values = self.right(point)
        return self.alone(point, [each[:-1] for each in values], [each[-1] for each in values])

    def right(self, point: int) -> list[list[Array]]:
        """By sample, the reference's values of the point's parents, and its own."""
        names = self.tensors([*self.points.parents[point], point], 0)
        with keeping() as kept:
            self._keep(kept, names)
            return [[kept.get(k, name) for name in names] for k in range(len(self.feeds))]

    def reference_at(self, point: int, feed: Tensors) -> Array:
        (own,) = self.tensors([point], 0)
        return self.reference.open([own])(feed)[own]

    def alone(self, point: int, given: Sequence[Sequence[Array]], wanted: Sequence[Array]) -> tuple[float, str]:
        """The same on values at hand: by sample, those of the point's parents, and the point's own."""
        near = self.tensors(self.points.parents[point], 1)
        (own,) = self.tensors([point], 1)
        meter, runner = Meter(), None
        try:
            for feed, inputs, value in zip(self.feeds, given, wanted, strict=True):
                fed = self.as_candidate(dict(zip(near, inputs, strict=True)))
                runner = runner or self.candidate.alone(own, fed)
                meter.add(value, runner({**feed, **fed})[own], self.gains.get(own))
        except BadInput as error:
            return -math.inf, str(error)
        return meter.snr_db, ""

    def as_candidate(self, values: Tensors) -> dict[str, Array]:
        """The reference's `values` by the candidate's names, with the factors that the candidate has there."""
        gains = {name: per_channel(self.gains[name], v.ndim) for name, v in values.items() if name in self.gains}
        return {name: value * gains[name] if name in gains else value for name, value in values.items()}

    # ----------------------------------------------------------------------------------------------------- stream
    def stream(self, track: Track = silent) -> Iterator[Row]:
        """Every point in order, each side's layer from its own tensors before."""
        for i, near, ours, theirs in self.walk(track):
            alone, _ = self.alone(i, [[value[k] for value in near] for k in range(len(self.feeds))], ours)
            index = ours[0].dtype.kind in "iub" and ours[0].dtype.itemsize != 1
            yield Row(self.layer(i), self._apart(i, ours, theirs), alone, i, index)
        self.spent["stream"] += 1

    def walk(self, track: Track = silent) -> Iterator[tuple[int, list[list[Array]], list[Array], list[Array] | None]]:
        """(point, the reference's values of its parents, its own in the reference, in the candidate: None where that
        does not run), in order and by sample; holds what is still to be read.
        """
        ours: dict[int, list[Array]] = {}
        theirs: dict[int, list[Array] | None] = {}
        last = {p: i for i, parents in enumerate(self.points.parents) for p in parents}
        for i in track(range(len(self.points.names)), "comparing layers"):
            near = self.points.parents[i]
            ours[i] = self._layer(self.reference, 0, i, {p: ours[p] for p in near})
            theirs[i] = self._try(i, {p: theirs[p] for p in near})
            yield i, [ours[p] for p in near], ours[i], theirs[i]
            for p in [p for p in (*near, i) if last.get(p, i) <= i]:
                ours.pop(p, None), theirs.pop(p, None)

    def _try(self, point: int, inputs: Mapping[int, list[Array] | None]) -> list[Array] | None:
        known = {p: value for p, value in inputs.items() if value is not None}
        with contextlib.suppress(BadInput):
            return self._layer(self.candidate, 1, point, known) if len(known) == len(inputs) else None
        return None

    def _layer(self, side: Side, which: int, point: int, inputs: Mapping[int, list[Array]]) -> list[Array]:
        names, (own,) = self.tensors(list(inputs), which), self.tensors([point], which)
        runner, made = None, []
        for k, feed in enumerate(self.feeds):
            fed = {name: values[k] for name, values in zip(names, inputs.values(), strict=True)}
            runner = runner or side.alone(own, fed)
            made.append(runner({**feed, **fed})[own])
        return made

    def _apart(self, point: int, ours: Sequence[Array], theirs: Sequence[Array] | None) -> float:
        if theirs is None:
            return -math.inf
        meter, (own,) = Meter(), self.tensors([point], 1)
        for a, b in zip(ours, theirs, strict=True):
            meter.add(a, b, self.gains.get(own))
        return meter.snr_db

    def drop(self, point: int) -> None:
        """`point` is compared no more: what follows is compared from its parents on."""
        self.points = without(self.points, point)
        self.pairs = (*self.pairs[:point], *self.pairs[point + 1 :])

    def layer(self, point: int) -> Layer:
        """The point's layer: the candidate's node, and the module that either side knows."""
        parents = self.points.parents[point]
        sides = self.candidate, self.reference
        theirs, ours = (
            side.layer(self.tensors([point], 1 - k)[0], self.tensors(parents, 1 - k)) for k, side in enumerate(sides)
        )
        graph = theirs if isinstance(self.candidate, GraphSide) or not isinstance(self.reference, GraphSide) else ours
        return Layer(graph.node, graph.op, theirs.module or ours.module)
