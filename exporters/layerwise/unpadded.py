"""A graph whose rewrites padded channels, with the tensor of the true channels put behind every padded one.

    Conv ── x.padded ── Relu        becomes        Conv ── x.padded ── Gather ── x ── Pad, Gather ── Relu

So x can be held against the network that was never padded, or be fed in its place: what a channel without effect holds
is nothing to compare. Where the true channels lie:

    one part       the first ones
    several        those of its pieces; else of each part of a joined or cut tensor what is before the zero channels at
                   its end, those that no convolution makes (zero filters) and none reads (zero weights)

Source of the padding: exporters/searching/tied.py. Test: tests/test_unpadded.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporters.graph import keep_module, label, set_meta
from exporters.layerwise.channel_ties import Ties
from exporters.layerwise.correspond import known_shapes
from exporters.layerwise.partial import LAYOUT_KEY, Parts
from runtimes.base import Array

PADDED = re.compile(r"(\.padded(_\d+)?)+(?P<float>_float)?$")
"""What a rewrite calls a tensor that it padded, and what the quantizer calls the floats that it rounds to its grid."""


def unpadded(parts: Parts, counts: Mapping[str, int]) -> Parts:
    """`parts` with a tensor of the true channels behind every padded one of which these are known.

    `counts`: channels of the other graph's tensors; those of its own padded ones that are as wide stay as they are.
    """
    wide = padded_names(parts)
    taken = {*parts.place, *parts.weights, *parts.inputs}
    ties = Ties(parts, channel_counts(parts, wide))
    settle(ties, {name: counts.get(base) for name, base in wide.items()})
    found: dict[str, tuple[str, Array, int]] = {}
    for name, base in wide.items():
        size, own = ties.size(name), PADDED.sub(r"\g<float>", name)
        if own in taken or size is None or counts.get(name) == size:
            continue
        places = real_places(ties, name, counts.get(base))
        if places is not None:
            found[name] = own, places, size
            taken.add(own)
    return _narrowed(parts, found)


def padded_names(parts: Parts) -> dict[str, str]:
    """Tensor that a rewrite padded -> what it was called before.

    Where only integers are made of one, these are steps of a grid, and the floats before them stand for it.
    """
    matches = ((name, PADDED.search(name)) for name in parts.place)
    found = {name: match for name, match in matches if match is not None}
    return {
        name: PADDED.sub("", name)
        for name, match in found.items()
        if match["float"] is None or name.removesuffix(match["float"]) not in found
    }


def channel_counts(parts: Parts, names: Iterable[str]) -> dict[str, int]:
    """Tensor of an image among `names` -> how many channels it has, where that is known."""
    shapes = known_shapes(parts)
    known = ((name, shapes.get(name) or ()) for name in names)
    return {name: shape[1] for name, shape in known if len(shape) == 4 and shape[1] is not None}


# ---------------------------------------------------------------------------------------------- where the channels lie
def settle(ties: Ties, counts: Mapping[str, int | None]) -> None:
    """What is of one part and known by its number of channels tells of all that it is a piece of."""
    for name, count in counts.items():
        if count is not None and ties.size(name) is not None and ties.ends(name)[:-1] == []:
            ties.settle(name, count)


def real_places(ties: Ties, name: str, count: int | None) -> Array | None:
    """(C,) places of the true channels of the padded tensor `name`; None where it cannot be told which they are.

    `count` is C where somebody knows it.
    """
    ends = ties.ends(name)
    if count is not None and (len(ends) == 1 or count == ends[-1]):
        return np.arange(count) if count <= ends[-1] else None
    for idle in ties.idle(name):
        places = before_the_pads(ends, idle)
        if len(places) == count or (count is None and len(places)):
            return places
    return None


def before_the_pads(ends: Iterable[int], idle: Array) -> Array:
    """Places of the channels but for those at the end of each part that are all `idle` (C,).

    >>> before_the_pads([4, 8], np.array([0, 1, 1, 1, 1, 0, 0, 0], bool))
    array([0, 4, 5, 6, 7])
    """
    kept: list[int] = []
    for start, stop in pairwise([0, *ends]):
        busy = np.flatnonzero(~idle[start:stop])
        kept += range(start, start + int(busy[-1]) + 1 if busy.size else start)
    return np.asarray(kept, np.int64)


# --------------------------------------------------------------------------------------------------------- the surgery
def _narrowed(parts: Parts, found: Mapping[str, tuple[str, Array, int]]) -> Parts:
    again = {name: f"{name}.again" for name in found}
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for node in parts.nodes:
        read = onnx.NodeProto()
        read.CopyFrom(node)
        read.input[:] = [again.get(name, name) for name in node.input]
        nodes.append(read)
        for name in node.output:
            if name in found:
                more, values = _there_and_back(node, name, *found[name])
                nodes += more
                constants += values
    return parts.rewired(nodes, constants) if found else parts


def _there_and_back(
    maker: onnx.NodeProto, name: str, own: str, places: Array, size: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """(`name` of `size` channels -> `own`, those at `places` -> the first again; the constants of these nodes)."""
    back = np.full(size, len(places), np.int64)
    back[places] = np.arange(len(places))
    values: dict[str, Array] = {
        "real": places,
        "one_more": np.asarray([0, 0, 0, 0, 0, 1, 0, 0], np.int64),
        "places": back,
    }
    names = {key: f"{name}.{key}" for key in values}
    made = [
        helper.make_node("Gather", [name, names["real"]], [own], axis=1),
        helper.make_node("Pad", [own, names["one_more"]], [f"{name}.zero"]),
        helper.make_node("Gather", [f"{name}.zero", names["places"]], [f"{name}.again"], axis=1),
    ]
    for node, way in zip(made, ("there", "back", "back"), strict=True):
        node.name = f"{label(maker)}/{node.output[0]}"
        keep_module(node, maker)
        set_meta(node, {LAYOUT_KEY: way})
    return made, [numpy_helper.from_array(value, names[key]) for key, value in values.items()]
