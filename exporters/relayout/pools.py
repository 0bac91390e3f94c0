"""Pools and BatchNormalization with an axis of positions more, of size 1: they compute the same.

    MaxPool of 2, step 2, on (N, C, L)        MaxPool of (1, 2), steps (1, 2), on (N, C, 1, L)

Source: ONNX operator specification of each. Test: tests/test_move_squeezes.py.
"""

from __future__ import annotations

import onnx

from exporters.graph import attributes
from exporters.relayout.rules import Rule, Step, View, set_attribute

FILL = {"kernel_shape": 1, "strides": 1, "dilations": 1}


def _positions(view: View) -> list[int] | None:
    """Which place among the new positions each old one has; None where a move touches the batch or the channels."""
    place = view.move.place
    if len(place) < 3 or place[:2] != (0, 1) or not view.move.in_order(list(range(len(place)))):
        return None
    return [axis - 2 for axis in place[2:]]


def plain(view: View, node: onnx.NodeProto) -> Step | None:
    """Over all positions, or each of them alone."""
    single = len([name for name in node.output if name]) == 1
    return Step((0,)) if single and _positions(view) is not None and view.moves(node.input[0]) else None


def window(view: View, node: onnx.NodeProto) -> Step | None:
    positions = _positions(view)
    if positions is None or plain(view, node) is None or attributes(node).get("storage_order", 0):
        return None
    count = view.move.rank - 2

    def edit(made: onnx.NodeProto) -> None:
        given = attributes(made)
        for name, fill in FILL.items():
            if name in given:
                set_attribute(made, name, _spread(given[name], positions, count, fill))
        if "pads" in given:
            half = len(positions)
            both = (_spread(part, positions, count, 0) for part in (given["pads"][:half], given["pads"][half:]))
            set_attribute(made, "pads", [pad for part in both for pad in part])

    return Step((0,), edit=edit)


def _spread(values: list[int], positions: list[int], count: int, fill: int) -> list[int]:
    moved = [fill] * count
    for value, place in zip(values, positions, strict=True):
        moved[place] = int(value)
    return moved


POOLS: dict[str, Rule] = {
    "AveragePool": window,
    "BatchNormalization": plain,
    "GlobalAveragePool": plain,
    "GlobalMaxPool": plain,
    "MaxPool": window,
}
