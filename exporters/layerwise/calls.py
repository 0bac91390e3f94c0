"""Which tensor of a graph each call of a PyTorch module made.

    Conv2d "0", BatchNorm2d "1", ReLU "2"        Conv (module 0) ── Q, zero point 0 ── DQ ── d        "2" made d

Test: tests/test_correspond.py, tests/test_activations.py.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporters.graph import Graph
from exporters.layerwise.activations import stands_for
from exporters.layerwise.correspond import LINEAR, units
from exporters.layerwise.hard_cuts import before_cut
from exporters.layerwise.origin import module_of
from exporters.layerwise.owned import owned_by
from exporters.layerwise.partial import Parts

RELU = (0.0, float("inf"))
ENDS = {"ReLU": RELU, "ReLU6": (0.0, 6.0)}
"""The values that a module lets through, by its class."""


@dataclass(frozen=True)
class Call:
    """One call of a PyTorch module: its path, the how-manieth of that module, its class and the shape it gave."""

    path: str
    index: int
    kind: str
    shape: tuple[int, ...]
    leaf: bool

    @property
    def name(self) -> str:
        """What a call is called among tensors.

        >>> Call("stem.0", 1, "ReLU", (1, 8), True).name
        'stem.0#1'
        """
        return f"{self.path}#{self.index}" if self.index else self.path


def correspond_calls(calls: Sequence[Call], parts: Parts) -> dict[str, str]:
    """Name of a call -> the tensor of the graph that it made, for those that have one.

    A BatchNorm that the graph no longer has was folded into the module before it, whose own result is nowhere then; so
    is that of a convolution whose grid may stand for a ReLU. What is cut off for HardSwish is taken before that. An
    output is the network's own answer and no module's: a factor behind the last one may have been folded into it.
    """
    layers = units(parts, folded=False)
    owned = owned_by(layers, parts, {call.path: -i for i, call in enumerate(reversed(calls))})
    counts = collections.Counter(call.path for call in calls)
    paths = {module_of(node) for node in parts.nodes} | set(owned)
    ends = [call.name for call in calls if not call.path]
    found: dict[str, str] = {}
    graph = Graph(parts.model, copied=False)
    for before, call in zip([None, *calls], calls, strict=False):
        if not call.path:
            continue
        if before is not None and "BatchNorm" in call.kind and call.path not in paths and before.name in found:
            found[call.name] = found.pop(before.name)
            continue
        if before is not None and _in_grid(graph, call, found.get(before.name), owned):
            found[call.name] = found.pop(before.name)
            continue
        inside = owned.get(call.path, []) if call.leaf else _within(owned, call.path, parts)
        each, rest = divmod(len(inside), counts[call.path])
        if each and not rest:
            found[call.name] = inside[(call.index + 1) * each - 1]
    hidden = {u.output for u in layers if u.op in LINEAR and stands_for(graph, u.output, RELU)}
    active = {call.name for call in calls if call.kind in ENDS}
    found = {name: before_cut(graph, t) for name, t in found.items() if t not in hidden or name in active}
    seen: dict[str, str] = {}
    for name in reversed(found):  # a block's result is that of its last layer: the outermost name goes
        seen[found[name]] = name
    seen |= zip(parts.outputs, ends, strict=True) if len(ends) == len(parts.outputs) else ()
    return {name: tensor for tensor, name in sorted(seen.items(), key=lambda pair: parts.place.get(pair[0], -1))}


def _in_grid(graph: Graph, call: Call, tensor: str | None, owned: Mapping[str, Sequence[str]]) -> bool:
    """Whether `call` was a ReLU of which the graph has left no more than the grid of `tensor`, its input."""
    gone = call.kind in ENDS and call.path not in owned and tensor is not None
    return gone and stands_for(graph, str(tensor), ENDS[call.kind])


def _within(owned: Mapping[str, Sequence[str]], path: str, parts: Parts) -> list[str]:
    """The last tensor that the nodes in and below module `path` made."""
    head = f"{path}." if path else ""
    names = [name for module, made in owned.items() if module == path or module.startswith(head) for name in made]
    return sorted(names, key=lambda name: parts.place[name])[-1:]
