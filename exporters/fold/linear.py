"""Conv, ConvTranspose, Gemm, MatMul (+ Add) as one thing: weights (groups, outputs, inputs, taps), bias (..., O).

    Conv            (O, I/g, k...)     ->  (g, O/g, I/g, K)            Gemm, transB    (N, K)  ->  (1, N, K, 1)
    ConvTranspose   (I, O/g, k...)     ->  (g, O/g, I/g, K)            Gemm, MatMul    (K, N)  ->  (1, N, K, 1)

All are views: what is written to one is written to the weight. Zero padding adds zeros *after* an affine in front,
which therefore must leave zero alone, unless the operator pads nothing.
Source: ONNX operator specification of the four. Test: tests/test_fold_affines.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from exporters.fold.absorb import Misfit, absorb
from exporters.fold.affine_chain import IDENTITY, Affine, scaling
from exporters.fold.constants import FLOATS, dims, number, weight
from exporters.fold.near import Near, exact
from exporters.fold.recognize import KeepIt, Layout
from exporters.fold.scope import Scope
from exporters.frozen import UNKNOWN
from exporters.graph import ABSORBED_KEY, attributes, get_meta, is_standard, label, opset, set_meta
from runtimes.base import Array, BadInput

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Layer:
    """A linear node with constant weights; `adder` is the Add that gives a MatMul its bias."""

    node: onnx.NodeProto
    adder: onnx.NodeProto | None
    shape: tuple[int, ...]
    groups: int
    outputs: int
    inputs: int
    layout: Layout
    """of what it makes, and of what it reads"""

    @property
    def output(self) -> str:
        return str((self.adder or self.node).output[0])


@dataclass(frozen=True)
class Folded:
    """New parameters in the type of the model, and the bound on what they change; nothing is written yet."""

    layer: Layer
    weight: Array
    bias: Array | None
    bound: float


def is_linear(node: onnx.NodeProto) -> bool:
    return any(is_standard(node, op) for op in LINEAR)


def layer_of(scope: Scope, node: onnx.NodeProto) -> Layer:
    """The layer that `node` is. Raises `KeepIt` when its weights cannot be had."""
    shape = dims(scope, node.input[1])
    if shape is None:
        raise KeepIt(f"the weight of {label(node)} is {UNKNOWN}")
    _check_shape(node, shape)
    if node.op_type == "MatMul":
        inputs, outputs = shape
        reads = scope.shapes().get(node.input[0])
        rank = None if reads is None else len(reads)
        return Layer(node, _adder(scope, node, outputs, rank), shape, 1, outputs, inputs, Layout(rank, 0))
    attrs = attributes(node)
    if node.op_type == "Gemm":
        outputs, inputs = shape if attrs.get("transB", 0) else shape[::-1]
        return Layer(node, None, shape, 1, outputs, inputs, Layout(2, 0))
    groups, layout = int(attrs.get("group", 1)), Layout(len(shape), len(shape) - 2)
    if node.op_type == "Conv":
        return Layer(node, None, shape, groups, shape[0], shape[1] * groups, layout)
    return Layer(node, None, shape, groups, shape[1] * groups, shape[0], layout)


def _check_shape(node: onnx.NodeProto, shape: tuple[int, ...]) -> None:
    """Shape inference does not look at all of this, and a file may say anything."""
    if node.op_type in ("Gemm", "MatMul"):
        if len(shape) != 2:
            raise KeepIt(f"the weight of {label(node)} is not one matrix")
        return
    groups = attributes(node).get("group", 1)
    if len(shape) < 3 or groups < 1 or shape[0] % groups or 0 in shape:
        raise KeepIt(f"the weight of {label(node)}, {shape}, cannot be divided into {groups} groups")


def _adder(scope: Scope, node: onnx.NodeProto, outputs: int, rank: int | None) -> onnx.NodeProto | None:
    reader = scope.only_consumer(node.output[0])
    if reader is None or not is_standard(reader, "Add") or reader.attribute:
        return None
    size = dims(scope, reader.input[1 - list(reader.input).index(node.output[0])])
    if size is None or len(size) > (rank or 1) or math.prod(size) != (outputs if size[-1:] == (outputs,) else 1):
        return None
    return reader


def rows(layer: Layer, value: Array) -> Array:
    """`value`, which has the weight's shape, seen as (groups, outputs, inputs, taps)."""
    groups, outputs, inputs = layer.groups, layer.outputs // layer.groups, layer.inputs // layer.groups
    if layer.node.op_type == "Conv":
        return value.reshape(groups, outputs, inputs, -1)
    if layer.node.op_type == "ConvTranspose":
        return value.reshape(groups, inputs, outputs, -1).swapaxes(1, 2)
    transposed = layer.node.op_type == "Gemm" and attributes(layer.node).get("transB", 0)
    return (value if transposed else value.T)[None, :, :, None]


def pads(node: onnx.NodeProto, shape: tuple[int, ...]) -> bool:
    """Whether a Conv with weights of `shape` pads, or a ConvTranspose sums fewer terms in some places."""
    attrs = attributes(node)
    single = all(size == 1 for size in shape[2:])
    if node.op_type == "ConvTranspose":
        return not (single and set(attrs.get("strides", [1])) == {1} and not any(attrs.get("output_padding", [0]))
                    and "output_shape" not in attrs and min(attrs.get("pads", [0])) >= 0)  # fmt: skip
    auto = attrs.get("auto_pad", b"NOTSET")
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        return not single
    return auto != b"VALID" and any(attrs.get("pads", [0]))


def fold(scope: Scope, layer: Layer, front: Affine = IDENTITY, behind: Affine = IDENTITY) -> Folded:
    """The layer's parameters with both affines in them. Raises `KeepIt`; `BadInput` for weights that are NaN or Inf."""
    value = _weight(scope, layer)
    bias, has_bias = _bias(scope, layer)
    attrs = attributes(layer.node)
    if "alpha" in attrs:
        front = front.then(scaling(exact(np.array([attrs["alpha"]]))))
    if "beta" in attrs:
        bias = bias * exact(attrs["beta"])
    out = np.empty(value.shape, value.dtype)
    try:
        done = absorb(rows(layer, value), rows(layer, out), bias, front, behind)
    except Misfit as reason:
        raise KeepIt(f"the folded parameters of {label(layer.node)} {reason}") from reason
    needed = has_bias or done.bias.any()
    return Folded(layer, out, done.bias.astype(value.dtype) if needed else None, done.bound)


def _weight(scope: Scope, layer: Layer) -> Array:
    value = weight(scope, layer.node.input[1])
    name = label(layer.node)
    if value is None or value.dtype.name not in FLOATS:
        raise KeepIt(f"the weight of {name} has type {None if value is None else value.dtype}, not floating point")
    if not np.isfinite(value).all():
        raise BadInput(f"{name}: its weight holds NaN or Inf; train or export the model again")
    return value


def _bias(scope: Scope, layer: Layer) -> tuple[Near, bool]:
    """(bias (..., O), whether the file has one)."""
    node, name = layer.node, ""
    if layer.adder is not None:
        name = layer.adder.input[1 - list(layer.adder.input).index(node.output[0])]
    elif node.op_type != "MatMul" and len(node.input) > 2:
        name = node.input[2]
    if not name:
        return exact(np.zeros(layer.outputs)), False
    raw, found = weight(scope, name), number(scope, name)
    if raw is not None and raw.dtype.name in FLOATS and not np.isfinite(raw).all():
        raise BadInput(f"{label(node)}: its bias holds NaN or Inf; train or export the model again")
    if found is None:
        raise KeepIt(f"the bias of {label(node)} is {UNKNOWN}")
    wide, size = found.near.value.shape, layer.outputs
    if wide[-1:] not in ((), (1,), (size,)):
        raise BadInput(f"{label(node)}: makes {size} channels, its bias has {wide[-1]}; export the model again")
    near = found.near.moved(lambda a: np.broadcast_to(a, np.broadcast_shapes(wide, (size,))))
    return (near.moved(lambda a: a.reshape(-1)) if layer.adder is not None else near), True


# ----------------------------------------------------------------------------------------------------------- surgery
def write(scope: Scope, folded: Folded, origin: onnx.NodeProto, absorbed: list[str]) -> None:
    """Give the layer its new parameters; an Add that a MatMul needs is called after the absorbed node `origin`."""
    node = folded.layer.node
    stem = node.input[1].removesuffix(".weight")
    kept = [a for a in node.attribute if a.name not in ("alpha", "beta")]  # both are in the folded parameters
    if len(kept) < len(node.attribute):
        copies = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in kept]
        del node.attribute[:]
        node.attribute.extend(copies)
    scope.set_constant(node, 1, folded.weight, f"{stem}.folded")
    if folded.bias is not None:
        _write_bias(scope, folded.layer, folded.bias, f"{stem}.bias", origin)
    earlier = get_meta(node).get(ABSORBED_KEY, "").split("\n")
    set_meta(node, {ABSORBED_KEY: "\n".join(name for name in (*earlier, *absorbed) if name)})


def _write_bias(scope: Scope, layer: Layer, bias: Array, hint: str, origin: onnx.NodeProto) -> None:
    node = layer.node
    if layer.adder is not None:
        place = list(layer.adder.input).index(node.output[0])
        scope.set_constant(layer.adder, 1 - place, bias, hint)
        product = scope.fresh(f"{node.output[0].removesuffix('/folded')}/folded")  # another value, another name
        scope.set_output(node, product)
        scope.set_input(layer.adder, place, product)
    elif node.op_type != "MatMul":
        scope.set_constant(node, 2, bias, hint)
        if node.op_type == "Gemm" and opset(scope.model) < 7 and not attributes(node).get("broadcast", 0):
            node.attribute.append(helper.make_attribute("broadcast", 1))
    else:
        target, inner = node.output[0], scope.fresh(f"{node.output[0]}/MatMul")
        scope.set_output(node, inner)
        name = scope.add_constant(bias, hint)
        add = helper.make_node("Add", [inner, name], [target], f"{label(origin)}/Add")
        set_meta(add, get_meta(origin))
        scope.insert_after(node, add)
