"""A move of axes: a tensor of some rank is stored with its axes at other places, with axes of size 1 between them.

    Move((0, 2, 3, 1), 4)     NHWC is stored as NCHW: axis 1 goes to place 2, axis 3 to place 1
    Move((0, 1, 3), 4)        (N, C, L) is stored as (N, C, 1, L)

`forth` is the node that moves a tensor, `back` the one that undoes it. Test: tests/test_move_transposes.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from exporters.graph import Graph, attributes, is_standard, opset
from exporters.noops import parameter
from exporters.searching.blocks import Chain
from exporters.shape_inference import Shape
from runtimes.base import Array

AXES_ARE_INPUTS = 13
"""From this operator set on, those of Squeeze, Unsqueeze and ReduceSum."""


@dataclass(frozen=True)
class Move:
    """Axis a of a tensor of rank len(`place`) becomes axis `place[a]` of `rank`; the others have size 1."""

    place: tuple[int, ...]
    rank: int

    @property
    def added(self) -> list[int]:
        return [axis for axis in range(self.rank) if axis not in self.place]

    def axis(self, axis: int) -> int:
        return self.place[axis % len(self.place)]

    def spread(self, values: Any, fill: Any) -> list[Any]:
        """One value for each old axis as one for each new axis; `fill` for those that are added."""
        moved = [fill] * self.rank
        for value, place in zip(values, self.place, strict=True):
            moved[place] = value
        return moved

    def shape(self, shape: Shape) -> Shape:
        return tuple(self.spread(shape, 1))

    def array(self, value: Array) -> Array:
        """`value`, of the old rank at most, in the new layout."""
        value = value.reshape((1,) * (len(self.place) - value.ndim) + value.shape)
        return value.transpose(np.argsort(self.place)).reshape(self.spread(value.shape, 1))

    def in_order(self, axes: list[int]) -> bool:
        """Whether these old axes, in rising order, are in rising order in the new layout."""
        places = [self.place[axis] for axis in axes]
        return places == sorted(places)


def transposition(perm: list[int]) -> Move:
    """The move that a Transpose of this `perm` makes.

    >>> transposition([0, 3, 1, 2]).place
    (0, 2, 3, 1)
    """
    return Move(tuple(perm.index(axis) for axis in range(len(perm))), len(perm))


def inverse(perm: list[int]) -> list[int]:
    return [perm.index(axis) for axis in range(len(perm))]


def perm_of(node: onnx.NodeProto, shape: Shape | None) -> list[int] | None:
    """How a Transpose orders its axes; left out, it turns all of them round."""
    perm = attributes(node).get("perm")
    if perm is None:
        return None if shape is None else list(range(len(shape)))[::-1]
    return list(perm)


def axes_of(graph: Graph, node: onnx.NodeProto, rank: int) -> list[int] | None:
    """The axes of a Squeeze or Unsqueeze, from 0 on, of `rank` at the wide side; None where they are not constant."""
    value = parameter(graph, node, "axes", 1)
    return None if value is None else sorted(int(axis) % rank for axis in value.ravel())


def is_forth(graph: Graph, node: onnx.NodeProto, move: Move) -> bool:
    """Whether `node` moves what it reads, a tensor of the old rank, as `move` does."""
    if move.added:
        return is_standard(node, "Unsqueeze") and axes_of(graph, node, move.rank) == move.added
    return is_standard(node, "Transpose") and perm_of(node, move.place) == list(np.argsort(move.place))


def is_back(graph: Graph, node: onnx.NodeProto, move: Move, shape: Shape | None) -> bool:
    """Whether `node` undoes `move`; it reads a tensor of `shape`."""
    if shape is None or len(shape) != move.rank:
        return False
    if move.added:
        return is_standard(node, "Squeeze") and axes_of(graph, node, move.rank) == move.added
    return is_standard(node, "Transpose") and perm_of(node, shape) == list(move.place)


def add_forth(chain: Chain, move: Move, source: str, output: str) -> None:
    _add(chain, move, "Unsqueeze", np.argsort(move.place), source, output)


def add_back(chain: Chain, move: Move, source: str, output: str) -> None:
    _add(chain, move, "Squeeze", np.array(move.place), source, output)


def _add(chain: Chain, move: Move, op: str, perm: Array, source: str, output: str) -> None:
    if not move.added:
        chain.node("Transpose", [source], output, perm=[int(axis) for axis in perm])
    elif opset(chain.graph.model) < AXES_ARE_INPUTS:
        chain.node(op, [source], output, axes=move.added)
    else:
        chain.node(op, [source, chain.constant(np.array(move.added, np.int64), "axes")], output)
