"""Which nodes are per-channel affines y = a x + b, given where the channels of x are.

    x (N, C, H, W)      rank 4, two dimensions after the channels      a constant (C, 1, 1), (1, C, 1, 1) or one number
    x (N, C)            rank 2, none after                             (C), (1, C) or one number
    x (B, T, C)         rank 3, none after: what MatMul makes          BatchNormalization would normalize T, and is none

Source: ONNX operator specification (BatchNormalization-1 to -15, Mul, Add, Sub, Div), "Broadcasting in ONNX".
Test: tests/test_fold_affines.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from exporters.fold.affine_chain import IDENTITY, Affine, batchnorm, scaling, shifting
from exporters.fold.constants import FLOATS, dims, is_constant, number, weight
from exporters.fold.near import Near, exact
from exporters.fold.scope import Scope
from exporters.frozen import UNKNOWN
from exporters.graph import attributes, is_standard, label, opset
from runtimes.base import Array, BadInput

ARITHMETIC = ("Mul", "Add", "Sub", "Div")


class KeepIt(Exception):
    """Ends the work on one fold; the message is the reason in `PassResult.kept`."""


class NoAffine(KeepIt):
    """The node is no per-channel affine after all: nothing that anybody would expect to be folded."""


@dataclass(frozen=True)
class Layout:
    """Where the channels of a tensor are: `rank` dimensions (None: not known), `after` of them behind the channels."""

    rank: int | None
    after: int

    @property
    def second(self) -> bool:
        """Whether the channels are dimension 1, which is the one that BatchNormalization means."""
        return self.rank is not None and self.after == self.rank - 2


@dataclass(frozen=True)
class Step:
    """`node` reads tensor `source` and makes `affine` of it."""

    node: onnx.NodeProto
    source: str
    affine: Affine
    parameters: tuple[str, ...]
    widest: int
    """dimensions of its largest constant: more than the tensor has would add some"""

    @property
    def idle(self) -> bool:
        return is_standard(self.node, "Identity")


def data_input(scope: Scope, node: onnx.NodeProto) -> str | None:
    """The one tensor that `node` would be an affine of; None when it is no such node."""
    if any(is_standard(node, op) for op in ("BatchNormalization", "Neg", "Identity")):
        return None if is_constant(scope, node.input[0]) else str(node.input[0])
    if not any(is_standard(node, op) for op in ARITHMETIC) or len(node.input) != 2:
        return None
    moving = [str(name) for name in node.input if not is_constant(scope, name)]
    if len(moving) != 1 or (node.op_type == "Div" and moving[0] != node.input[0]):
        return None
    return moving[0]


def step(scope: Scope, node: onnx.NodeProto, layout: Layout) -> Step | None:
    """`node` as an affine of a tensor of this layout; None when it is none. Raises `KeepIt` for BatchNormalization."""
    source = data_input(scope, node)
    if source is None:
        return None
    if is_standard(node, "Identity"):
        return Step(node, source, IDENTITY, (), 0)
    if is_standard(node, "Neg"):
        return Step(node, source, scaling(exact(-np.ones(1))), (), 0)
    if is_standard(node, "BatchNormalization"):
        if not layout.second:
            raise KeepIt("it normalizes dimension 1, which are not (or not known to be) the channels of its neighbour")
        return Step(node, source, batchnorm_of(scope, node), tuple(node.input[1:5]), 0)
    return _arithmetic(scope, node, source, layout)


def _arithmetic(scope: Scope, node: onnx.NodeProto, source: str, layout: Layout) -> Step | None:
    other = 1 - list(node.input).index(source)
    name = node.input[other]
    size = dims(scope, name)
    if size is not None and sum(d != 1 for d in size) > 1:
        return None  # not per channel: no need to read it
    found = number(scope, name)
    if found is None:
        return None
    shape = _aligned(node, found.near.value.shape, other, layout, opset(scope.model))
    if shape is None or not _per_channel(shape, layout):
        return None
    affine = _affine(node.op_type, other, found.near.moved(lambda a: a.reshape(-1)))
    return None if affine is None else Step(node, source, affine, (name,), len(shape))


def _aligned(
    node: onnx.NodeProto, shape: tuple[int, ...], index: int, layout: Layout, version: int
) -> tuple[int, ...] | None:
    """The constant's shape as today's broadcasting would have it; before opset 7 attributes said how."""
    if version >= 7:
        return shape
    attrs = attributes(node)
    if not attrs.get("broadcast", 0):
        return shape if len(shape) == layout.rank and max(shape, default=1) == 1 else None
    if index != 1 or layout.rank is None:
        return None
    return shape + (1,) * (layout.rank - len(shape) - attrs["axis"] % layout.rank) if "axis" in attrs else shape


def _per_channel(shape: tuple[int, ...], layout: Layout) -> bool:
    """Whether a constant of this shape has one number for each channel, or one for all."""
    if layout.rank is None and len(shape) > 1:
        return False
    if layout.rank is not None and len(shape) > layout.rank:
        return False
    place = len(shape) - 1 - layout.after
    return all(size == 1 or i == place for i, size in enumerate(shape))


def _affine(kind: str, index: int, value: Near) -> Affine | None:
    """The affine of `kind` whose operand `index` is the constant `value` (C,)."""
    if kind == "Mul":
        return scaling(value)
    if kind == "Add":
        return shifting(value)
    if kind == "Sub":
        return shifting(-value) if index == 1 else scaling(exact(-np.ones(1))).then(shifting(value))
    if not (np.abs(value.value) > value.error).all():
        return None
    return scaling(exact(np.ones(1)) / value)


# ------------------------------------------------------------------------------------------------ BatchNormalization
def batchnorm_of(scope: Scope, norm: onnx.NodeProto) -> Affine:
    """Raises `KeepIt` unless it is at rest with constant parameters, `BadInput` when those are no sound numbers."""
    check_at_rest(norm, opset(scope.model))
    scale, shift, mean, variance = (
        _statistic(scope, norm, name, what)
        for name, what in zip(norm.input[1:5], ("scale", "shift", "mean", "variance"), strict=True)
    )
    if not scale.shape == shift.shape == mean.shape == variance.shape:
        raise BadInput(f"{label(norm)}: its parameters have different sizes; export the model again")
    epsilon = float(attributes(norm).get("epsilon", np.float32(1e-5)))
    lowest = float(variance.min(initial=math.inf)) + epsilon
    if not lowest > 0:
        raise BadInput(f"{label(norm)}: variance + epsilon is {lowest:.3g}, it must be positive; train or export again")
    return batchnorm(scale, shift, mean, variance, epsilon)


def check_at_rest(norm: onnx.NodeProto, version: int) -> None:
    """Training is said by an attribute from opset 14, by more outputs from 7, by `is_test=0` (the default) before."""
    attrs = attributes(norm)
    training = attrs.get("training_mode", 0) or any(norm.output[1:]) or (version < 7 and not attrs.get("is_test", 0))
    if training:
        raise KeepIt("it is in training mode: it normalizes with the statistics of the batch; export in eval mode")
    if attrs.get("spatial", 1) != 1:
        raise KeepIt("it normalizes each position on its own (spatial=0)")


def _statistic(scope: Scope, norm: onnx.NodeProto, name: str, what: str) -> Array:
    value = weight(scope, name)
    if value is None:
        raise KeepIt(f"its {what} is {UNKNOWN}")
    if value.dtype.name not in FLOATS or value.ndim != 1:
        raise KeepIt(f"its {what} has type {value.dtype} and {value.ndim} dimensions, which no fold is known for")
    wide = value.astype(np.float64)
    if not np.isfinite(wide).all():
        raise BadInput(f"{label(norm)}: BatchNormalization {what} holds NaN or Inf; train or export the model again")
    return wide
