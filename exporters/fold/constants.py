"""Constant expressions of a graph as numbers: `Sqrt(Add(variance, epsilon))` is one, though a node makes it.

Weights pass through moves only (Identity, Cast, CastLike, Reshape, Transpose, Unsqueeze, Squeeze, Expand) and stay in
their type. Sizes may be the Shape of a constant: PyTorch's exporter, asked not to optimize, writes the bias of a
convolution that has none as `Expand(CastLike(0, x), Shape(weight)[0:1])`.
Arithmetic is done in float64 with its error (near.py). A number that the model's own type could not hold, or would
have rounded to zero, is no number here: the graph itself computes something else there.
Source: ONNX operator specification of the operators named below. Test: tests/test_fold_constants.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from exporters.fold.near import Near, exact
from exporters.fold.scope import Scope
from exporters.graph import attributes, is_standard
from runtimes.base import Array

FLOATS = ("float16", "bfloat16", "float32", "float64")
CASTS = ("Cast", "CastLike")
MOVES = ("Identity", *CASTS, "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand")
ONE: dict[str, Callable[[Near], Near]] = {
    "Neg": lambda x: -x,
    "Sqrt": Near.sqrt,
    "Reciprocal": lambda x: exact(np.ones_like(x.value)) / x,
}
TWO: dict[str, Callable[[Near, Near], Near]] = {
    "Add": lambda x, y: x + y,
    "Sub": lambda x, y: x - y,
    "Mul": lambda x, y: x * y,
    "Div": lambda x, y: x / y,
}
POWERS: dict[float, Callable[[Near], Near]] = {
    -1.0: ONE["Reciprocal"],
    -0.5: lambda x: ONE["Reciprocal"](x.sqrt()),
    0.5: Near.sqrt,
    1.0: lambda x: x,
    2.0: lambda x: x * x,
}
DEPTH, ELEMENTS = 32, 1 << 20
"""Expressions deeper or larger than this are left alone: no BatchNormalization is, and a hostile file may be."""


@dataclass(frozen=True)
class Number:
    """A constant with the floating-point type that it has in the file."""

    near: Near
    dtype: np.dtype[Any]


def is_constant(scope: Scope, name: str, depth: int = DEPTH) -> bool:
    """Whether nothing but constants goes into tensor `name` (a cheap look: it may still be none that is understood)."""
    if name not in scope.known:  # an expression may be read from many sides: each is looked at once
        node = scope.maker(name)
        scope.known[name] = scope.tensor(name) is not None or bool(
            node is not None
            and depth
            and node.domain in ("", "ai.onnx")
            and node.op_type in (*MOVES, *ONE, *TWO, "Pow", "Constant", "Shape")
            and all(is_constant(scope, source, depth - 1) for source in _values_read(node))
        )
    return scope.known[name]


def _values_read(node: onnx.NodeProto) -> list[str]:
    """The tensors whose numbers `node` computes with: of the second input of CastLike only the type matters."""
    return [name for name in (node.input[:1] if node.op_type == "CastLike" else node.input) if name]


def dims(scope: Scope, name: str) -> tuple[int, ...] | None:
    """The shape of the constant `name`; None when it is not constant. Reads no weights where it can."""
    tensor = scope.tensor(name)
    if tensor is not None:
        return tuple(tensor.dims)
    value = weight(scope, name)
    return None if value is None else value.shape


def weight(scope: Scope, name: str) -> Array | None:
    """The constant `name` in its own type; None when it is not constant, or computed by more than moves."""
    value = scope.constant(name)
    if value is not None:
        return value
    node = scope.maker(name)
    if node is None or not any(is_standard(node, op) for op in (*MOVES, "Shape")) or not is_constant(scope, name):
        return None
    if node.op_type == "Shape":
        return _shape(scope, node)
    source = weight(scope, node.input[0])
    return None if source is None else _move(scope, node, source)


def _shape(scope: Scope, node: onnx.NodeProto) -> Array | None:
    """What Shape, or the part of it that Shape-15 can be asked for, gives of a constant."""
    size, attrs = dims(scope, node.input[0]), attributes(node)
    return None if size is None else np.asarray(size[attrs.get("start", 0) : attrs.get("end")], np.int64)


def number(scope: Scope, name: str, depth: int = DEPTH) -> Number | None:
    """The constant `name`, in finite floating-point numbers; None when it is something else."""
    if depth == 0 or not is_constant(scope, name):
        return None
    if name not in scope.numbers:
        value = weight(scope, name)
        if value is None:
            scope.numbers[name] = _computed(scope, scope.maker(name), depth)
        else:
            usable = value.dtype.name in FLOATS and value.size <= ELEMENTS
            scope.numbers[name] = _sound(exact(value), value.dtype) if usable else None
    found = scope.numbers[name]
    assert found is None or isinstance(found, Number)
    return found


def _computed(scope: Scope, node: onnx.NodeProto | None, depth: int) -> Number | None:
    if node is None or node.domain not in ("", "ai.onnx") or _old_broadcast(node):
        return None
    sources = [number(scope, name, depth - 1) for name in node.input[: 1 if node.op_type in MOVES else None] if name]
    first, *rest = sources or [None]
    if first is None or any(other is None for other in rest):
        return None
    others = [other.near for other in rest if other]
    if not _fits([first.near, *others]):
        return None
    with np.errstate(all="ignore"):  # what is no finite number is found by `_sound`
        near = _apply(scope, node, first, *others)
    return None if near is None else _sound(near, _cast_to(scope, node) or first.dtype)


def _fits(operands: list[Near]) -> bool:
    try:
        return math.prod(np.broadcast_shapes(*(near.value.shape for near in operands))) <= ELEMENTS
    except ValueError:  # the checker will say so
        return False


def _apply(scope: Scope, node: onnx.NodeProto, first: Number, *rest: Near) -> Near | None:
    x = first.near
    if node.op_type in CASTS:
        return _rounded(x, _cast_to(scope, node))
    if node.op_type in MOVES:
        moved = [_move(scope, node, part) for part in (x.value, x.error)]
        return None if moved[0] is None or moved[1] is None else Near(moved[0], moved[1])
    if node.op_type in ONE:
        return ONE[node.op_type](x)
    if node.op_type == "Pow":
        (y,) = rest
        power = POWERS.get(float(y.value.flat[0])) if y.value.size == 1 and y.value.ndim <= x.value.ndim else None
        return power(x) if power else None
    return TWO[node.op_type](x, rest[0])


def _sound(near: Near, dtype: np.dtype[Any]) -> Number | None:
    with np.errstate(all="ignore"):
        held = near.value.astype(dtype).astype(np.float64)
    good = near.value.size <= ELEMENTS and np.isfinite(held).all() and ((held != 0) == (near.value != 0)).all()
    return Number(near, dtype) if good and np.isfinite(near.error).all() else None


def _cast_to(scope: Scope, node: onnx.NodeProto) -> np.dtype[Any] | None:
    """The floating-point type that Cast or CastLike makes; None for another node, type, or one that is not known."""
    if node.op_type not in CASTS:
        return None
    kind = scope.kinds().get(node.input[1], 0) if node.op_type == "CastLike" else int(attributes(node)["to"])
    if not kind:
        return None
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    return dtype if dtype.name in FLOATS else None


def _rounded(x: Near, dtype: np.dtype[Any] | None) -> Near | None:
    """A Cast of an exact number is exact; of another, the two candidates may round to neighbours."""
    if dtype is None:
        return None
    value = x.value.astype(dtype).astype(np.float64)
    unsure = np.abs(value - x.value) * 2 + 2 * x.error
    return Near(value, np.where(x.error > 0, unsure, 0.0))


def _move(scope: Scope, node: onnx.NodeProto, value: Array) -> Array | None:
    """What a node of `MOVES` makes of `value`; None when it cannot be told."""
    attrs = attributes(node)
    if node.op_type == "Identity":
        return value
    if node.op_type in CASTS:
        dtype = _cast_to(scope, node)
        with np.errstate(over="ignore"):
            return None if dtype is None or value.dtype.name not in FLOATS else value.astype(dtype)
    wanted = attrs.get("shape" if node.op_type in ("Reshape", "Expand") else "axes")
    if wanted is None and len(node.input) > 1 and node.input[1]:
        wanted = weight(scope, node.input[1])
        if wanted is None:
            return None
    try:
        return _reshaped(node.op_type, value, None if wanted is None else [int(i) for i in wanted], attrs)
    except (ValueError, IndexError, TypeError):  # the checker will say so
        return None


def _reshaped(kind: str, value: Array, wanted: list[int] | None, attrs: dict[str, Any]) -> Array:
    if kind == "Transpose":
        return value.transpose(attrs["perm"]) if "perm" in attrs else value.transpose()
    if kind == "Squeeze":
        return np.squeeze(value, tuple(wanted) if wanted is not None else None)
    if wanted is None:
        raise ValueError("no shape")
    if kind == "Unsqueeze":
        return np.expand_dims(value, tuple(wanted))
    if kind == "Expand":
        size = np.broadcast_shapes(value.shape, tuple(wanted))
        if math.prod(size) > ELEMENTS:
            raise ValueError("too large")
        return np.broadcast_to(value, size)
    if attrs.get("allowzero", 0):
        return value.reshape(wanted)
    return value.reshape([value.shape[i] if size == 0 else size for i, size in enumerate(wanted)])


def _old_broadcast(node: onnx.NodeProto) -> bool:
    """Before opset 7 a constant could be aligned to an axis: among constants nobody does, so it is not understood."""
    return "axis" in {a.name for a in node.attribute} and node.op_type in (*TWO, "Pow")
