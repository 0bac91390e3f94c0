"""Tensors whose channels are tied to those of one of them: where one gets zero channels, all need them.

    a, b = Conv, Conv          parts of a: (20)        parts of b: (20)
    c = Concat(a, b)           parts of c: (20, 20)    new channels go behind every part: 20, 20 -> 32, 32
    d = Add(c, s)              parts of d and s: the same

Activations, pools, sums and products of tensors, and depthwise convolutions keep channels apart: what they read and
make has the same parts. A Concat, Split or Slice of channels adds the ends of its pieces, which all tensors tied to it
then have as well. Ungrouped convolutions end a region: `makers` can make further channels, `readers` can ignore them.
Refused: a region that reaches an input or output of the model or an operator that mixes channels, or that divides by
them. Test: tests/test_tied.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import onnx

from exporters import padding
from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, is_standard, label
from exporters.searching.blocks import ACTIVATIONS, Conv, convolutions, read_conv
from exporters.sizes import Sizes, fixed_sizes
from runtimes.base import Array

UNARY = (*ACTIVATIONS, "GlobalAveragePool", "AveragePool", "MaxPool", "Softplus", "Identity")
BINARY = ("Add", "Sub", "Mul")
WITH_SCALAR = (*BINARY, "Div")
Ends = frozenset[int]
"""Where parts of a tensor's channels end; the last is how many channels it has."""
Tie = tuple[str, Ends]


@dataclass(frozen=True)
class Layout:
    """Where the channels of a tensor are among `size` channels: `places` (C,)."""

    places: Array
    size: int

    def spread(self, value: Array, axis: int) -> Array:
        """`value` with its entries on `axis` at their places, and zeros between them."""
        wide = np.zeros([self.size if i == axis else n for i, n in enumerate(value.shape)], value.dtype)
        wide[(slice(None),) * axis + (self.places,)] = value
        return wide


def layout(ends: Iterable[int], multiple: int) -> Layout:
    """Every part up to the next of `ends` filled up to a multiple.

    >>> layout([2, 5], 4)
    Layout(places=array([0, 1, 4, 5, 6]), size=8)
    """
    places: list[int] = []
    size = 0
    for start, stop in pairwise([0, *sorted(ends)]):
        places += range(size, size + stop - start)
        size += -(-(stop - start) // multiple) * multiple
    return Layout(np.asarray(places), size)


@dataclass
class Region:
    """Tensors with the ends of their parts, and nodes whose parameters follow, by the first tensor that they make."""

    ends: dict[str, Ends] = field(default_factory=dict)
    makers: set[str] = field(default_factory=set)
    readers: set[str] = field(default_factory=set)
    depthwise: set[str] = field(default_factory=set)
    splits: set[str] = field(default_factory=set)
    slices: set[str] = field(default_factory=set)

    def layouts(self, multiple: int, most: float) -> dict[str, Layout] | str:
        """Where the channels of each tensor go; or why not, where pieces make them more than `most` times as many."""
        found = {name: layout(ends, multiple) for name, ends in self.ends.items()}
        old, new = (sum(sizes) for sizes in zip(*((len(o.places), o.size) for o in found.values()), strict=True))
        if any(len(ends) > 1 for ends in self.ends.values()) and new > most * old:
            return f"its channels are in small pieces: {old} of them would become {new}"
        return found


def follow(graph: Graph, name: str, sizes: Mapping[str, Sizes]) -> Region | str:
    """The region around tensor `name`, or why there is none; `sizes` are those of `graph` (`fixed_sizes`)."""
    search = _Search(graph, sizes)
    todo = search.whole([name])
    while todo and not isinstance(todo, str):
        tensor, ends = todo.pop()
        known = search.region.ends.get(tensor, frozenset())
        if ends <= known:
            continue
        if tensor in graph.outputs or tensor in graph.captured or tensor not in graph.producer:
            return f"its channels reach {tensor}, which is an input or output of the model or read inside a body"
        search.region.ends[tensor] = known | ends
        for node in (graph.producer[tensor], *graph.consumers[tensor]):
            more = search.ties(node, tensor, known | ends)
            if isinstance(more, str):
                return more
            todo += more
    return todo if isinstance(todo, str) else search.region


@dataclass
class _Search:
    graph: Graph
    sizes: Mapping[str, Sizes]
    region: Region = field(default_factory=Region)

    def ties(self, node: onnx.NodeProto, tensor: str, ends: Ends) -> list[Tie] | str:
        """What `node`, which makes or reads `tensor` of parts `ends`, ties to it; or the reason why it cannot."""
        if is_standard(node, "Conv"):
            return self.at_conv(node, tensor, ends)
        if any(is_standard(node, op) for op in UNARY) and len(node.output) == 1:
            return [(node.input[0], ends), (node.output[0], ends)]
        if any(is_standard(node, op) for op in WITH_SCALAR):
            return self.at_sum(node, ends)
        if is_standard(node, "Slice"):
            return self.at_slice(node, tensor, ends)
        pieces = self.pieces(node)
        if pieces:
            return self.at_pieces(node, tensor, ends, *pieces)
        return self.mixes(node)

    def mixes(self, node: onnx.NodeProto) -> str:
        return f"its channels reach {label(node)}, a {node.op_type} that does not keep them apart"

    def at_conv(self, node: onnx.NodeProto, tensor: str, ends: Ends) -> list[Tie] | str:
        conv = read_conv(self.graph, node)
        if isinstance(conv, str):
            return f"its channels reach {label(node)}: {conv}"
        if conv.depthwise:
            self.region.depthwise.add(node.output[0])
            return [(node.input[0], ends), (node.output[0], ends)]
        if conv.group != 1:
            return f"its channels reach {label(node)}, a Conv of {conv.group} groups"
        (self.region.makers if tensor == node.output[0] else self.region.readers).add(node.output[0])
        return []

    def at_sum(self, node: onnx.NodeProto, ends: Ends) -> list[Tie] | str:
        """A sum or product of images of as many channels, of scalars, and of maps of one channel, which stay so."""
        values = [self.graph.constant(name) for name in node.input]
        moving = [name for name, value in zip(node.input, values, strict=True) if value is None]
        if any(value is not None and value.size != 1 for value in values):
            return self.mixes(node)
        if node.op_type == "Div" and moving != [node.input[0]]:  # a zero channel would divide
            return f"its channels reach {label(node)}, which divides by them"
        found = self.whole([*moving, node.output[0]])
        if isinstance(found, str):
            return found
        growing = [name for name, own in found if own != {1}]
        if max(ends) == 1:
            return f"its channels reach {label(node)}, whose maps of one channel may go with any number"
        return (
            [(name, ends) for name in growing] if {max(own) for _, own in found} <= {1, max(ends)} else self.mixes(node)
        )

    def pieces(self, node: onnx.NodeProto) -> tuple[str, list[str]] | None:
        """(the whole, its pieces) of a Concat or Split of channels."""
        axis = attributes(node).get("axis", 0)
        if is_standard(node, "Concat") and axis in (1, -3):
            return node.output[0], list(node.input)
        fixed = len(node.input) == 1 or self.graph.constant(node.input[1]) is not None
        if is_standard(node, "Split") and axis in (1, -3) and fixed and "split" not in attributes(node):
            return node.input[0], list(node.output)
        return None

    def at_pieces(self, node: onnx.NodeProto, tensor: str, ends: Ends, whole: str, names: list[str]) -> list[Tie] | str:
        found = self.whole([whole, *names])
        if isinstance(found, str):
            return found
        if node.op_type == "Split":
            self.region.splits.add(node.output[0])
        starts = np.cumsum([0, *(max(own) for _, own in found[1:])]).tolist()
        inside = set(starts[1:]) | (ends if tensor == whole else set())
        for start, name in zip(starts, names, strict=False):
            inside |= {start + end for end in ends} if name == tensor else set()
        parts = [frozenset(e - a for e in inside if a < e <= b) for a, b in pairwise(starts)]
        return [(whole, frozenset(inside)), *zip(names, parts, strict=True)]

    def at_slice(self, node: onnx.NodeProto, tensor: str, ends: Ends) -> list[Tie] | str:
        found = self.whole([node.input[0]])
        if isinstance(found, str):
            return found
        bounds = bounds_of(self.graph, node, max(found[0][1]))
        if bounds is None:
            return self.mixes(node)
        start, stop, _ = bounds
        self.region.slices.add(node.output[0])
        inside = found[0][1] | {end for end in (start, stop) if end}
        inside |= ends if tensor == node.input[0] else {start + end for end in ends}
        return [(node.input[0], inside), (node.output[0], frozenset(e - start for e in inside if start < e <= stop))]

    def whole(self, names: Iterable[str]) -> list[Tie] | str:
        """Each tensor as one part; or which of them has a number of channels that is not known."""
        found: list[Tie] = []
        for name in names:
            count = self.channels(name)
            if count is None:
                return f"its channels reach {name}, whose channels are not known"
            found.append((name, frozenset([count])))
        return found

    def channels(self, name: str) -> int | None:
        """Of a tensor of images; None for other tensors and where the number is not known."""
        sizes = self.sizes.get(name, ())
        return sizes[1] if len(sizes) == 4 else None


EVERYTHING = 2**31 - 1
"""Where exporters let a Slice end that has no end."""


def bounds_of(graph: Graph, node: onnx.NodeProto, size: int) -> tuple[int, int, int] | None:
    """(first, behind the last) of the `size` channels that the Slice `node` keeps, and their place among its axes.

    None where it does something else: other axes that it names it must keep whole.
    """
    values = [graph.constant(name) if name else None for name in node.input[1:]]
    if len(values) < 3 or any(value is None for value in values):
        return None
    starts, stops, axes, *steps = (value.tolist() for value in values if value is not None)
    cuts = zip(starts, stops, steps[0] if steps else [1] * len(axes), axes, strict=True)
    whole = [axis not in (1, -3) and start == 0 and stop >= EVERYTHING for start, stop, _, axis in cuts]
    channels = [i for i, axis in enumerate(axes) if axis in (1, -3)]
    if len(channels) != 1 or sum(whole) != len(axes) - 1 or any(step != 1 for step in (steps[0] if steps else ())):
        return None
    at = channels[0]
    start, stop, _ = slice(starts[at], stops[at]).indices(size)
    return (start, stop, at) if start < stop else None


# ------------------------------------------------------------------------------------------------------------- growing
def padded(model: onnx.ModelProto, multiple: int, most: float, wanted: Callable[[Conv, Sizes], bool]) -> PassResult:
    """Fill the channels of every convolution up to `multiple` that is `wanted`, by itself and the sizes of its image.

    `most`: as of `Region.layouts`. Those that stay are in `kept`.
    """
    graph = Graph(model)
    sizes = fixed_sizes(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    wider: dict[str, Array] = {}
    for node, conv in convolutions(graph):
        name = node.output[0]
        if isinstance(conv, str) or conv.outputs % multiple == 0 or not wanted(conv, sizes.get(name, ())):
            continue
        region = follow(graph, name, sizes)
        layouts = region if isinstance(region, str) else region.layouts(multiple, most)
        if isinstance(region, str) or isinstance(layouts, str):
            kept.append(Kept(label(node), str(layouts)))
            continue
        grow(graph, region, layouts)
        wider |= {name: layout.places for name, layout in layouts.items()}
        changes.append(Change(label(node), f"{conv.outputs} channels are {layouts[name].size}", conv.bound))
    rename(graph, wider)
    return PassResult(graph.model, tuple(changes), tuple(kept))


def grow(graph: Graph, region: Region, layouts: Mapping[str, Layout]) -> None:
    """Give all tensors of `region` their `layouts`: zeros in makers and readers, other sizes of pieces."""
    for name in sorted(region.makers | region.depthwise):
        _spread(graph, name, 1, 0, layouts[name])
        _spread(graph, name, 2, 0, layouts[name])
    for name in sorted(region.depthwise):
        group = next(a for a in graph.producer[name].attribute if a.name == "group")
        group.i = layouts[name].size
    for name in sorted(region.readers):
        _spread(graph, name, 1, 1, layouts[graph.producer[name].input[0]])
    for name in sorted(region.splits):
        _resize(graph, graph.producer[name], layouts)
    for name in sorted(region.slices):
        _move(graph, graph.producer[name], layouts)
    for name in layouts:
        graph.forget(name)


def rename(graph: Graph, tensors: Mapping[str, Array]) -> None:
    """Give `tensors`, which grew, new names: one that keeps its name keeps its value. Notes their places (C,)."""
    names = {name: graph.fresh(f"{name}.padded") for name in sorted(tensors)}
    padding.note_renamed(graph.model, names, tensors)
    for node in graph.proto.node:
        for ends in (node.input, node.output):
            for i, name in enumerate(ends):
                ends[i] = names.get(name, name)
    graph.reindex()


def _spread(graph: Graph, name: str, index: int, axis: int, places: Layout) -> None:
    """Input `index` of the node that makes `name`, with zeros on `axis`; a bias that is not there stays away."""
    node = graph.producer[name]
    if index < len(node.input) and node.input[index]:
        value = graph.constant(node.input[index])
        assert value is not None
        graph.set_constant(node, index, places.spread(value, axis), f"{name}.spread")


def _resize(graph: Graph, split: onnx.NodeProto, layouts: Mapping[str, Layout]) -> None:
    """The Split says how many channels each of its parts has now."""
    kept = [a for a in split.attribute if a.name != "num_outputs"]
    del split.attribute[:]
    split.attribute.extend(kept)
    sizes = np.asarray([layouts[name].size for name in split.output], np.int64)
    graph.set_constant(split, 1, sizes, f"{split.output[0]}.sizes")


def _move(graph: Graph, part: onnx.NodeProto, layouts: Mapping[str, Layout]) -> None:
    """The Slice says where its channels begin and end now."""
    whole = layouts[part.input[0]]
    bounds = bounds_of(graph, part, len(whole.places))
    assert bounds is not None
    start, _, at = bounds
    first = int(whole.places[start])
    for index, bound in ((1, first), (2, first + layouts[part.output[0]].size)):
        values = np.array(graph.constant(part.input[index]))
        values[at] = bound
        graph.set_constant(part, index, values, f"{part.output[0]}.bound")
