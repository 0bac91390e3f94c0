"""Weights among a graph's inputs: before IR version 4 they had to be there, from then on a caller may feed them.

    IR 3    x, w -> Conv, w = 0.1 ...      nobody can feed w: ONNX Runtime refuses it, w is a constant
    IR 4    x, w -> Conv, w = 0.1 ...      0.1 is a default, and nothing that is computed from w may be relied on

Source: ONNX docs/IR.md, "Graphs"; ONNX Runtime, `Graph::CanOverrideInitializer`. Test: tests/test_frozen.py.
"""

from __future__ import annotations

import onnx

from exporters.graph import copy_model

OVERRIDABLE_FROM = 4
"""The first IR version in which an initializer that is an input too is only a default."""

REMEDY = "`edgecnn simplify --freeze` makes it constant"
UNKNOWN = f"not constant (computed, or an input that a caller may override: {REMEDY})"
"""Why a number cannot be relied on, where nobody looked which of the two it is."""


def overridable(model: onnx.ModelProto) -> list[str]:
    """Inputs of `model` that a caller may feed and need not, because they have a value."""
    return _listed(model) if model.ir_version >= OVERRIDABLE_FROM else []


def freeze(model: onnx.ModelProto) -> list[str]:
    """Make every input of `model` (edited) that has a value a constant; returns their names."""
    names = _listed(model)
    for i in reversed(range(len(model.graph.input))):
        if model.graph.input[i].name in set(names):
            del model.graph.input[i]
    model.ir_version = max(model.ir_version, OVERRIDABLE_FROM)
    return names


def frozen(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which every input that has a value is a constant."""
    made = copy_model(model)
    freeze(made)
    return made


def why_kept(count: int) -> str:
    """Why so many inputs with a value stay what they are, in a table of what was kept."""
    one = "is an input" if count == 1 else f"and {count - 1} more are inputs"
    return f"{one} that a caller may override; --freeze makes {'it' if count == 1 else 'them'} constant"


def freeze_old(model: onnx.ModelProto) -> None:
    """Of a `model` (edited) older than IR version 4, take the weights out of the inputs: they are constants there."""
    if 0 < model.ir_version < OVERRIDABLE_FROM:
        freeze(model)


def _listed(model: onnx.ModelProto) -> list[str]:
    given = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name in given]
