"""Fold BatchNormalization into the Conv, ConvTranspose or Gemm before it.

A network at rest normalizes with fixed statistics, so with g = scale / sqrt(variance + epsilon), per channel c,

    BN(y) = scale (y - mean) / sqrt(variance + epsilon) + shift = g y + (shift - g mean)
    y = W x + b   =>   BN(y) = W' x + b'  with  W'_c = g_c W_c  and  b'_c = g_c (b_c - mean_c) + shift_c

which is exact in real numbers. Here it is computed in float64 and rounded once to the model's type with unit roundoff u
and half the smallest subnormal eta, fl(a) = a (1 + d) + e with |d| <= u and |e| <= eta, so for inputs |x_i| <= 1 the
output of channel c with n weights moves by at most (v = 2^-53 is float64's own u)

    e_c = u S_c + (n + 1) eta + 8 v T_c
    S_c = |W'_c|_1 + |b'_c|                                      size of the output
    T_c = |g_c| (|W_c|_1 + |b_c| + |mean_c|) + |shift_c|         size of what is added up to make it

The graph before the fold rounds numbers of size T, so a fold is only made if e is within 16 u of the layer's T; float16
that would under- or overflow keeps its BatchNormalization.
Source: Ioffe and Szegedy 2015, "Batch Normalization", section 3.1; ONNX operator specification, BatchNormalization-15.
Test: tests/test_fold_batchnorm.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, is_standard, label, nodes_within, opset
from runtimes.base import Array, BadInput

LINEAR = ("Conv", "ConvTranspose", "Gemm")

FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))

DOUBLE_ROUNDOFF = 2.0**-53

LIMIT_ROUNDOFFS = 16.0
"""A fold may cost this many unit roundoffs of T; a sound one costs 1, and 9 in float64 itself."""


# ------------------------------------------------------------------------------------------------------- mathematics
def fold(
    weight: Array, bias: Array, scale: Array, shift: Array, mean: Array, variance: Array, epsilon: float
) -> tuple[Array, Array]:
    """W' (C, ...) and b' (..., C) in float64, for weight (C, ...), bias (..., C) and four parameters (C,)."""
    gain = gains(scale, variance, epsilon)
    rows = gain.reshape(-1, *[1] * (weight.ndim - 1))
    return weight.astype(np.float64) * rows, (bias.astype(np.float64) - mean.astype(np.float64)) * gain + shift


def gains(scale: Array, variance: Array, epsilon: float) -> Array:
    """g (C,) in float64: the slope of BatchNormalization in each channel."""
    return np.asarray(scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon))


def sizes(weight: Array, bias: Array) -> Array:
    """|W_c|_1 + max |b_c| (C,): the largest output of channel c for inputs of magnitude 1."""
    channels = weight.shape[0]
    return np.asarray(
        np.abs(weight.reshape(channels, -1)).sum(axis=1, dtype=np.float64)
        + np.abs(bias.reshape(-1, channels)).max(axis=0).astype(np.float64)
    )


def rounding_bound(size: Array, parts: Array, count: int, dtype: np.dtype[Any]) -> Array:
    """e_c (C,) of the first lines, for S `size` (C,), T `parts` (C,) and `count` weights per channel."""
    info = np.finfo(dtype)
    roundoff, eta = float(info.eps) / 2, float(info.smallest_subnormal) / 2
    return roundoff * size + (count + 1) * eta + 8 * DOUBLE_ROUNDOFF * parts


# ----------------------------------------------------------------------------------------------------------- surgery
class _Keep(Exception):
    """Ends the work on one node; the message is the reason in `PassResult.kept`."""


@dataclass(frozen=True)
class _Statistics:
    """The parameters of one BatchNormalization, each (C,)."""

    scale: Array
    shift: Array
    mean: Array
    variance: Array
    epsilon: float


@dataclass(frozen=True)
class _Layer:
    """A linear node seen as W (C, ...) and b (..., C) in float64; `dtype` is what its parameters have in the file."""

    node: onnx.NodeProto
    weight: Array
    bias: Array
    dtype: np.dtype[Any]


def run(model: onnx.ModelProto) -> PassResult:
    """Fold every BatchNormalization that can be; the others are in `kept` with the reason.

    Raises `BadInput` naming the node whose statistics are no numbers or have a variance + epsilon that is not positive.
    """
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for output in [node.output[0] for node in graph.proto.node if is_standard(node, "BatchNormalization")]:
        node = graph.producer[output]
        name = label(node)
        try:
            changes.append(_fold_one(graph, node, opset(model)))
        except _Keep as reason:
            kept.append(Kept(name, str(reason)))
    return PassResult(graph.model, tuple(changes), (*kept, *_kept_in_bodies(model)))


def _kept_in_bodies(model: onnx.ModelProto) -> Iterator[Kept]:
    inner = [node for outer in model.graph.node for node in itertools.islice(nodes_within([outer]), 1, None)]
    functions = [node for function in model.functions for node in nodes_within(function.node)]
    for nodes, owner in ((inner, "a body (If, Loop or Scan)"), (functions, "a function of the model")):
        yield from (Kept(label(n), f"it is inside {owner}") for n in nodes if is_standard(n, "BatchNormalization"))


def _fold_one(graph: Graph, norm: onnx.NodeProto, version: int) -> Change:
    _check_at_rest(norm, version)
    stats = _statistics(graph, norm)
    layer = _layer(graph, _linear_before(graph, norm), len(stats.scale))
    weight, bias = fold(layer.weight, layer.bias, stats.scale, stats.shift, stats.mean, stats.variance, stats.epsilon)
    bound = _checked_bound(layer, stats, weight, bias)
    change = Change(label(norm), f"folded into {layer.node.op_type} {label(layer.node)}", bound)
    _write(graph, layer, norm, weight, bias)
    return change


def _check_at_rest(norm: onnx.NodeProto, version: int) -> None:
    """Training is said by an attribute from opset 14, by more outputs from 7, by `is_test=0` (the default) before."""
    attrs = attributes(norm)
    training = attrs.get("training_mode", 0) or any(norm.output[1:]) or (version < 7 and not attrs.get("is_test", 0))
    if training:
        raise _Keep("it is in training mode: it normalizes with the statistics of the batch; export in eval mode")
    if attrs.get("spatial", 1) != 1:
        raise _Keep("it normalizes each position on its own (spatial=0)")


def _statistics(graph: Graph, norm: onnx.NodeProto) -> _Statistics:
    scale, shift, mean, variance = (
        _statistic(graph, norm, name, what)
        for name, what in zip(norm.input[1:5], ("scale", "shift", "mean", "variance"), strict=True)
    )
    epsilon = float(attributes(norm).get("epsilon", np.float32(1e-5)))
    lowest = float(variance.min(initial=math.inf)) + epsilon
    if not lowest > 0:
        raise BadInput(f"{label(norm)}: variance + epsilon is {lowest:.3g}, it must be positive; train or export again")
    return _Statistics(scale, shift, mean, variance, epsilon)


def _statistic(graph: Graph, norm: onnx.NodeProto, name: str, what: str) -> Array:
    value = graph.constant(name)
    if value is None:
        raise _Keep(f"its {what} is not constant (computed, or a model input that a caller may override)")
    if value.dtype not in FLOATS:
        raise _Keep(f"its {what} has type {value.dtype}, which numpy cannot round to")
    if not np.isfinite(value).all():
        raise BadInput(f"{label(norm)}: BatchNormalization {what} holds NaN or Inf; train or export the model again")
    return value


def _linear_before(graph: Graph, norm: onnx.NodeProto) -> onnx.NodeProto:
    name = norm.input[0]
    node = graph.producer.get(name)
    if node is None:
        raise _Keep("it reads the model's input directly: there is nothing to fold it into")
    if not any(is_standard(node, op) for op in LINEAR):
        raise _Keep(f"it follows {node.op_type} {label(node)}, not Conv, ConvTranspose or Gemm")
    if graph.only_consumer(name) is None:
        raise _Keep(f"the output of {node.op_type} {label(node)} {graph.why_not_only(name)}")
    return node


def _layer(graph: Graph, node: onnx.NodeProto, channels: int) -> _Layer:
    weight = _parameter(graph, node, 1, "weight")
    bias = _parameter(graph, node, 2, "bias") if len(node.input) > 2 and node.input[2] else np.zeros(channels)
    if weight.dtype not in FLOATS:
        raise _Keep(f"the weight of {label(node)} has type {weight.dtype}, which numpy cannot round to")
    rows = _rows(node, weight).astype(np.float64)
    if rows.shape[0] != channels:
        made = f"makes {rows.shape[0]} channels, its BatchNormalization has {channels}"
        raise BadInput(f"{label(node)}: {made}; export the model again")
    attrs = attributes(node)
    bias = np.broadcast_to(bias.astype(np.float64), np.broadcast_shapes(bias.shape, (channels,)))
    return _Layer(node, attrs.get("alpha", 1.0) * rows, attrs.get("beta", 1.0) * bias, weight.dtype)


def _parameter(graph: Graph, node: onnx.NodeProto, index: int, what: str) -> Array:
    value = graph.constant(node.input[index])
    if value is None:
        raise _Keep(f"the {what} of {label(node)} is not constant (computed, or an input that a caller may override)")
    if not np.isfinite(value).all():
        raise BadInput(f"{label(node)}: its {what} holds NaN or Inf; train or export the model again")
    return value


def _rows(node: onnx.NodeProto, weight: Array) -> Array:
    """The weight with its output channels first: Conv has (O, I/g, ...), ConvTranspose (I, O/g, ...), Gemm (K, N)."""
    if node.op_type == "ConvTranspose":
        groups = int(attributes(node).get("group", 1))
        inputs, outputs, *kernel = weight.shape
        split = weight.reshape(groups, inputs // groups, outputs, *kernel)
        return split.swapaxes(1, 2).reshape(groups * outputs, inputs // groups, *kernel)
    return weight if node.op_type == "Conv" or attributes(node).get("transB", 0) else weight.T


def _from_rows(node: onnx.NodeProto, rows: Array) -> Array:
    """The inverse of `_rows`."""
    if node.op_type == "ConvTranspose":
        groups = int(attributes(node).get("group", 1))
        outputs, inputs, *kernel = rows.shape
        split = rows.reshape(groups, outputs // groups, inputs, *kernel)
        return split.swapaxes(1, 2).reshape(groups * inputs, outputs // groups, *kernel)
    return rows if node.op_type == "Conv" or attributes(node).get("transB", 0) else rows.T


def _checked_bound(layer: _Layer, stats: _Statistics, weight: Array, bias: Array) -> float:
    """max e / max S, after the rounding that really happens was found to be within e in every channel."""
    gain = np.abs(gains(stats.scale, stats.variance, stats.epsilon))
    size = sizes(weight, bias)
    parts = gain * (sizes(layer.weight, layer.bias) + np.abs(stats.mean)) + np.abs(stats.shift)
    bound = rounding_bound(size, parts, weight[0].size, layer.dtype)
    with np.errstate(over="ignore"):  # an overflow is Inf in `moved`, and refused there
        moved = sizes(weight.astype(layer.dtype) - weight, bias.astype(layer.dtype) - bias)
    if not (moved <= bound).all():
        raise _Keep(f"the folded parameters do not fit into {layer.dtype}")
    if bound.max() > LIMIT_ROUNDOFFS * float(np.finfo(layer.dtype).eps) / 2 * parts.max():
        raise _Keep(f"the folded parameters are too small for {layer.dtype}: they could be wrong by {bound.max():.2g}")
    return float(bound.max() / size.max()) if size.max() else 0.0


def _write(graph: Graph, layer: _Layer, norm: onnx.NodeProto, weight: Array, bias: Array) -> None:
    """Give the linear node the folded parameters and the name of the BatchNormalization's output tensor."""
    node = layer.node
    parameters = list(norm.input[1:5])
    stem = node.input[1].removesuffix(".weight")
    graph.forget(node.output[0])
    node.output[0] = norm.output[0]
    for attribute in [a for a in node.attribute if a.name in ("alpha", "beta")]:
        node.attribute.remove(attribute)  # both are in the folded parameters
    graph.replace([norm], [])
    node = graph.producer[norm.output[0]]
    graph.set_constant(node, 1, _from_rows(node, weight).astype(layer.dtype), f"{stem}.folded")
    node = graph.producer[norm.output[0]]
    graph.set_constant(node, 2, bias.astype(layer.dtype), f"{stem}.bias")
    graph.drop_unread(parameters)
