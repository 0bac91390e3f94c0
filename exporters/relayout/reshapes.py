"""Operators behind which, or in front of which, the order of axes does not matter: no element changes its place.

    (N, H, W, C) with H = W = 1 -> Reshape to (N, C)      the same with (N, C, 1, 1)
    (N, C) -> Reshape to (N, 1, 1, C)                     may as well be made as (N, C, 1, 1)

Source: ONNX operator specification, Reshape. Test: tests/test_move_transposes.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.graph import attributes
from exporters.relayout.move import axes_of
from exporters.relayout.rules import Rule, Step, View, set_parameter
from exporters.shape_inference import Shape


def _same_order(view: View, name: str) -> bool:
    """Whether the elements of tensor `name` keep their order: only axes of size 1 change places."""
    shape: Shape | None = view.shapes.get(name)
    if shape is None or len(shape) != len(view.move.place):
        return False
    return view.move.in_order([axis for axis, size in enumerate(shape) if size != 1])


def _keeps(view: View, sizes: list[int], node: onnx.NodeProto) -> bool:
    """Whether a Reshape to `sizes` means the same with one side moved: 0 stands for the size at that very axis."""
    place = view.move.place
    kept = [axis for axis, size in enumerate(sizes) if size == 0]
    return all(axis < len(place) and place[axis] == axis for axis in kept) and not attributes(node).get("allowzero", 0)


def reshape(view: View, node: onnx.NodeProto) -> Step | None:
    wanted = view.graph.constant(node.input[1]) if len(node.input) > 1 else None
    if wanted is None:
        return None
    sizes = [int(size) for size in wanted]
    if not _keeps(view, sizes, node):
        return None
    if view.moves(node.input[0]) and _same_order(view, node.input[0]):
        return Step((0,), makes=False)

    def edit(made: onnx.NodeProto) -> None:
        set_parameter(view, made, "shape", 1, np.array(view.move.spread(sizes, 1), np.int64))

    return Step((), edit=edit) if _same_order(view, node.output[0]) else None


def flatten(view: View, node: onnx.NodeProto) -> Step | None:
    """The axes in front of the cut have to stay in front of it, without any between them."""
    axis = attributes(node).get("axis", 1)
    if not view.moves(node.input[0]) or axis < 0 or not _same_order(view, node.input[0]):
        return None
    return Step((0,), makes=False) if sorted(view.move.place[:axis]) == list(range(axis)) else None


def squeeze(view: View, node: onnx.NodeProto) -> Step | None:
    rank = len(view.move.place)
    axes = axes_of(view.graph, node, rank)
    if axes is None or not view.moves(node.input[0]):
        return None
    if not view.move.in_order([axis for axis in range(rank) if axis not in axes]):
        return None
    return Step((0,), makes=False, edit=lambda made: _set_axes(view, made, axes))


def unsqueeze(view: View, node: onnx.NodeProto) -> Step | None:
    rank = len(view.move.place)
    axes = axes_of(view.graph, node, rank)
    if axes is None or view.rank(node.output[0]) != rank:
        return None
    if not view.move.in_order([axis for axis in range(rank) if axis not in axes]):
        return None
    return Step((), edit=lambda made: _set_axes(view, made, axes))


def _set_axes(view: View, node: onnx.NodeProto, axes: list[int]) -> None:
    moved = sorted([*(view.move.place[axis] for axis in axes), *view.move.added])
    set_parameter(view, node, "axes", 1, np.array(moved, np.int64))


RESHAPES: dict[str, Rule] = {"Flatten": flatten, "Reshape": reshape, "Squeeze": squeeze, "Unsqueeze": unsqueeze}
