"""The workshop of the search: makes the integer graph of a design, times its layers, races it against another.

    design -> rewritten float graph -> int8 graph on the ranges of a few images -> session -> race

Latency does not depend on the ranges, so one image sets them here; the design that wins is calibrated on all of them
afterwards. A rewrite is used only after the rewritten float graph was proven equal to the one before it (`rewriting`).
Test: tests/test_workshop.py.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import onnx

from exporters import rewrites
from exporters.artifact import REWRITES_KEY
from exporters.base import PassResult
from exporters.graph import get_meta, label, own_module, set_meta
from exporters.layerwise.layer_times import LayerTimes, layer_times
from exporters.layerwise.patterns import matches, names_in
from exporters.quantization.placement import FORMS, Plan, plan
from exporters.quantization.quantize import Quantized, QuantRecipe, prepare
from exporters.quantization.work import Work, start
from exporters.searching.rewriting import attempt, attempt_proven, defect
from exporters.searching.search import MOST_REGIONS, Design, Region, worst_modules, worst_runs
from runtimes.base import BadInput, Tensors, Track, silent
from runtimes.latency import Race, Ratio, race
from runtimes.session import Session, open_session

KEPT_DESIGNS = 2
"""Integer graphs, with their sessions, that stay in memory: the best and its rival; and as many rewritten floats."""
RACE_SECONDS = 0.8
RACE_ROUNDS = 60
WORTH_TRYING = 0.01
"""A region whose loss is a smaller share of the whole time cannot be told from noise, and its boundaries cost more."""
ALL = (*rewrites.ORDER, *FORMS)
"""Rewrites of the float graph, then forms of the integer one; the search treats them alike."""
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Built:
    """One design made: the integer graph, a session of it (opened when it is asked for), and what tells it apart."""

    quantized: Quantized
    digest: str
    threads: int

    @cached_property
    def session(self) -> Session:
        return open_session(self.quantized.model, threads=self.threads)


@dataclass
class Workshop:
    """Makes and races designs of the float `model`; the first of `feeds` (batch 1) sets ranges and is raced on."""

    model: onnx.ModelProto
    feeds: Sequence[Tensors]
    recipe: QuantRecipe
    threads: int = 1
    seed: int = 0
    seconds: float = RACE_SECONDS
    refused: dict[str, str] = field(default_factory=dict)
    """Rewrites that apply and must not be used, with the reason."""

    def __post_init__(self) -> None:
        self.model = prepare(self.model)
        self._built: dict[Design, Built | None] = {}
        self._rewritten: dict[tuple[str, ...], onnx.ModelProto] = {}
        self._works: dict[tuple[str, ...], Work] = {}
        self._calibrated: dict[tuple[Design, int], Work] = {}

    # ------------------------------------------------------------------------------------------ the search's questions
    def rewrites(self) -> tuple[Sequence[str], Iterator[str]]:
        """Rewrites that change the network one after the other, and others that would alone; proven on the feeds."""
        together: tuple[str, ...] = ()
        for name in ALL:
            if self._applies(name, together):
                together = (*together, name)
        rest = [name for name in ALL if name not in together and name not in self.refused]
        return together, (name for name in rest if self._applies(name, ()))

    def regions(self, design: Design) -> Sequence[Region]:
        """Runs of layers and PyTorch modules that lose most in int8, by times measured now."""
        if self.built(design) is None:
            return ()
        int8, floats = self.times(design)
        source = self.source(design.rewrites)
        nodes = [n for n in source.graph.node if n.name in int8.by_node or n.name in floats.by_node]
        names = [n.name for n in nodes]
        modules = [own_module(n) for n in nodes]
        loss = [int8.by_node.get(n, 0.0) - floats.by_node.get(n, 0.0) for n in names]
        kept = set(design.kept_float)
        loss = [0.0 if name in kept else value for name, value in zip(names, loss, strict=True)]
        found = [*worst_runs(names, loss), *worst_modules(names, modules, loss), *prefixes(names, loss)]
        least = WORTH_TRYING * int8.total_us
        unique = {r.nodes: r for r in reversed(found) if r.loss_us > least and not set(r.nodes) <= kept}
        return sorted(unique.values(), key=lambda r: -r.loss_us)[:MOST_REGIONS]

    def identity(self, design: Design) -> str | None:
        """A digest of the integer graph; None when nothing in it is int8."""
        built = self.built(design)
        return built.digest if built else None

    def race(self, a: Design, b: Design) -> Ratio:
        """How many times faster `a` runs than `b`, both of which can be made."""
        first, second = self.built(a), self.built(b)
        assert first is not None
        assert second is not None
        return self._race({"a": first.session, "b": second.session}).ratio("a", "b")

    def rest(self) -> None:
        """Close the sessions: nothing is raced for a while, and each holds all weights."""
        for built in self._built.values():
            if built is not None:
                vars(built).pop("session", None)

    # ------------------------------------------------------------------------------------------------------- making it
    def built(self, design: Design) -> Built | None:
        """The integer graph of `design`; None when nothing in it could be int8."""
        return _cached(self._built, design, lambda: self._try_to_build(design))

    def source(self, names: tuple[str, ...]) -> onnx.ModelProto:
        """The float graph after the rewrites among `names`."""
        known = self._of_graph(names)
        if not known:
            return self.model
        return _cached(self._rewritten, known, lambda: self._rewrite(known[-1], self.source(known[:-1])))

    def _rewrite(self, name: str, before: onnx.ModelProto) -> onnx.ModelProto:
        """`before` after the rewrite `name`, or as it is where that fails."""
        result = attempt(name, before)
        if isinstance(result, str):
            self.refused[name] = result
            return before
        return _marked(result, name)

    def _of_graph(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `names` that rewrite the float graph, in their order."""
        return tuple(sorted((name for name in names if name not in FORMS), key=ALL.index))

    def recipe_of(self, design: Design) -> QuantRecipe:
        """The recipe with which `design` is quantized: what it keeps in float is excluded by name.

        A node that was to stay float and that a rewrite took away, or no longer makes, needs no pattern any more.
        """
        source = self.source(design.rewrites)
        present, names = {label(node) for node in source.graph.node}, names_in(source)
        kept = tuple(glob.escape(name) for name in design.kept_float if name in present)
        forms = tuple(name for name in design.rewrites if name in FORMS)
        asked = tuple(pattern for pattern in self.recipe.exclude if matches(pattern, names))
        return replace(self.recipe, exclude=(*asked, *kept), forms=forms)

    def times(self, design: Design) -> tuple[LayerTimes, LayerTimes]:
        """(int8, float) times of the layers of `design`'s source graph."""
        built, source, feed = self.built(design), self.source(design.rewrites), self.feeds[0]
        assert built is not None
        return layer_times(built.quantized.model, feed, source), layer_times(source, feed)

    def calibrated(self, design: Design, images: Sequence[Tensors], track: Track = silent) -> Work:
        """`design` with ranges from `images`, of which there is one selection of each number."""
        key = design, len(images)
        source, recipe = self.source(design.rewrites), self.recipe_of(design)
        return _cached(self._calibrated, key, lambda: start(source, recipe, images, track=track))

    def _try_to_build(self, design: Design) -> Built | None:
        """As `_build`; rewrites that were proven one by one and together give no graph that runs are no design."""
        try:
            return self._build(design)
        except BadInput as error:
            known = self._of_graph(design.rewrites)
            if not known:
                raise
            self.refused[" with ".join(known)] = defect(error)
            return None

    def _build(self, design: Design) -> Built | None:
        recipe, known = self.recipe_of(design), self._of_graph(design.rewrites)
        work = self._works[known] = self._work(known).under((recipe,))
        quantized = replace(work, recipe=recipe).quantized()
        if not quantized.int8_nodes:
            return None
        data = quantized.model.graph.SerializeToString(deterministic=True)
        return Built(quantized, hashlib.sha256(data).hexdigest(), self.threads)

    def _work(self, known: tuple[str, ...]) -> Work:
        """The graph after the rewrites `known` with its ranges, which every choice of layers and forms shares."""
        recipe = self.recipe_of(Design(known))
        return _cached(self._works, known, lambda: start(self.source(known), recipe, self.feeds[:1]))

    def _applies(self, name: str, before: tuple[str, ...]) -> bool:
        """Whether `name` changes the graph after `before`; a rewrite must change nothing of its function."""
        if name in FORMS:
            with_it, without = Design((*before, name)), Design(before)
            return self._plan(with_it) != self._plan(without) and self.identity(with_it) != self.identity(without)
        result = attempt_proven(name, self.source(before), self.feeds[:2])
        if isinstance(result, str):
            self.refused[name] = result
        return not isinstance(result, str) and result.modified

    def _plan(self, design: Design) -> Plan:
        recipe = self.recipe_of(design)
        return plan(self.source(design.rewrites), recipe.exclude, recipe.forms)

    def _race(self, sessions: Mapping[str, Session]) -> Race:
        calls = {name: session.prepare(self.feeds[0]) for name, session in sessions.items()}
        return race(calls, RACE_ROUNDS, warmup=2, seed=self.seed, seconds=self.seconds, threads=self.threads)


def _cached(kept: dict[K, V], key: K, make: Callable[[], V]) -> V:
    """`kept[key]`, made if it is not there; only the `KEPT_DESIGNS` used last are kept."""
    value = kept.pop(key) if key in kept else make()
    kept[key] = value
    while len(kept) > KEPT_DESIGNS:
        kept.pop(next(iter(kept)))
    return value


def _marked(result: PassResult, name: str) -> onnx.ModelProto:
    """The graph that the rewrite `name` made, which says so where it changed something."""
    if result.modified:
        before = get_meta(result.model).get(REWRITES_KEY)
        set_meta(result.model, {REWRITES_KEY: f"{before},{name}" if before else name})
    return result.model


def prefixes(nodes: Sequence[str], loss_us: Sequence[float], most: int = 4) -> list[Region]:
    """The first k nodes for the k at which the summed loss peaks: images come as float, so a prefix has one boundary.

    >>> [(r.name, r.loss_us) for r in prefixes(["a", "b", "c"], [3, -1, 4])]
    [('the first 3 nodes', 6.0), ('the first node', 3.0)]
    """
    total, found = 0.0, []
    for k, loss in enumerate(loss_us, 1):
        total += loss
        if loss > 0 and total > 0:
            name = "the first node" if k == 1 else f"the first {k} nodes"
            found.append(Region(name, tuple(nodes[:k]), total))
    return sorted(found, key=lambda r: -r.loss_us)[:most]
