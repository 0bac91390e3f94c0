"""Cross-layer equalization: channels of very different size share one activation grid better when each is scaled.

    relu(W1 x + b1) -> W2        =        relu(S^-1 (W1 x + b1)) -> W2 S        S = diag(s), s > 0

ReLU, LeakyReLU, max and average pools let a positive factor through, so the float function stays the same; s is rounded
to powers of two, with which it stays the same bit for bit. With one weight scale per output channel W1's rows cost
nothing at any s: what is balanced is the calibrated range a_i of channel i, which shares the activation's grid, against
the weights w_i = max_o |W2[o, i]| / max_j |W2[o, j]| that read it and share the grid of row o:

    s_i = sqrt(a_i / w_i)        and for a depthwise W2, whose channels share no grid:        s_i = a_i

With one scale per weight tensor it is the paper's s_i = sqrt(max |W1[i]| / max |W2[:, i]|). A Clip (ReLU6) does not let
factors through: Clip(x / s, 0, 6) is another function, and a Clip with one limit a channel has no int8 kernel. Such
pairs stay as they are, and so do branches (a tensor that an Add or Concat reads).
Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1;
Xiao et al. 2023, "SmoothQuant", equation 4 (activations against weights). Test: tests/test_equalize.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from exporters.base import Change, Kept
from exporters.graph import Graph, attributes, label
from exporters.quantization import placement
from exporters.quantization.kernels import channel_axis
from exporters.quantization.work import Outcome, Work, bias_of, layers, set_bias
from runtimes.base import Array, Track, silent

MIN_GAIN_DB = 0.1
THROUGH = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Identity")
"""They commute with a positive factor per channel."""
LARGEST = 2.0**16
"""A factor beyond this says that a channel is as good as dead; float32 keeps its precision, exponents are plenty."""


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing between them but `between` (tensor names) that a factor per channel passes through."""

    first: onnx.NodeProto
    second: onnx.NodeProto
    between: tuple[str, ...]
    channels: int


def run(work: Work, *, seconds: float, threads: int | None = None, track: Track = silent) -> Outcome:
    graph = Graph(work.model)
    found, kept = pairs(graph, work.plan())
    ranges = {entry.tensor: np.maximum(-entry.channel_low, entry.channel_high) for entry in work.calibration.seen}
    changes = []
    for pair in found:
        factors = powers_of_two(_factors(graph, pair, ranges, work.recipe.per_channel))
        if np.all(factors == 1):
            kept.append(Kept(label(pair.first), "its channels are balanced already"))
            continue
        _apply(graph, pair, factors)
        spread = int(np.log2(factors.max() / factors.min()))
        what = f"{pair.channels} channels scaled by up to 2^{spread} against each other before {label(pair.second)}"
        changes.append(Change(label(pair.first), what))
    if not changes:
        return Outcome(work, (), tuple(kept))
    return Outcome(work.calibrated_again(graph.model, threads, track), tuple(changes), tuple(kept))


# -------------------------------------------------------------------------------------------------------- pure math
def balance(activation: Array, weight: Array) -> Array:
    """s_i = sqrt(activation_i / weight_i) for (channels,) magnitudes; 1 where a channel carries nothing.

    >>> balance(np.array([4.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0])).tolist()
    [2.0, 1.0, 1.0]
    """
    live = (activation > 0) & (weight > 0)
    ratio = np.where(live, activation, 1.0) / np.where(live, weight, 1.0)
    return np.where(live, np.sqrt(ratio), 1.0)


def powers_of_two(factors: Array) -> Array:
    """`factors` (channels,) over their median, each rounded to the nearest power of two within LARGEST.

    >>> powers_of_two(np.array([1.0, 2.9, 12.0])).tolist()
    [0.25, 1.0, 4.0]
    """
    exponents = np.rint(np.log2(factors / np.median(factors)))
    return np.asarray(np.exp2(np.clip(exponents, -np.log2(LARGEST), np.log2(LARGEST))))


def row_shares(weight: Array) -> Array:
    """max_o |W[o, i]| / max_j |W[o, j]| for W (rows, channels, taps): how much of its row's grid a channel claims."""
    peaks = np.abs(weight).max(axis=2)
    rows = peaks.max(axis=1, keepdims=True)
    shares: Array = (peaks / np.where(rows > 0, rows, 1.0)).max(axis=0)
    return shares


# ---------------------------------------------------------------------------------------------------- graph surgery
def pairs(graph: Graph, plan: placement.Plan) -> tuple[list[Pair], list[Kept]]:
    """Layers whose output reaches one other layer through nothing that a factor could not pass."""
    found, kept = [], []
    for first in layers(graph, plan):
        if first.op_type == "MatMul" or (len(first.input) > 2 and first.input[2] and bias_of(graph, first) is None):
            continue
        between = [first.output[0]]
        node = graph.only_consumer(between[-1])
        while node is not None and node.op_type in THROUGH and _channels_stay(node):
            between.append(node.output[0])
            node = graph.only_consumer(between[-1])
        if node is not None and node.op_type in ("Conv", "Gemm") and node.output[0] in plan.int8:
            found.append(Pair(first, node, tuple(between), _outputs(graph, first)))
        elif node is not None and node.op_type in ("Clip", "HardSwish", "Sigmoid"):
            kept.append(Kept(label(first), f"{node.op_type} lets no factor through"))
    return [pair for pair in found if _fits(graph, pair)], kept


def _channels_stay(node: onnx.NodeProto) -> bool:
    return node.op_type != "Flatten" or attributes(node).get("axis", 1) == 1


def _outputs(graph: Graph, node: onnx.NodeProto) -> int:
    weight = graph.constant(node.input[1])
    assert weight is not None
    return int(weight.shape[channel_axis(node)])


def _fits(graph: Graph, pair: Pair) -> bool:
    """The second layer reads whole channels of the first: as many, or (behind a Flatten) a block of each."""
    weight = graph.constant(pair.second.input[1])
    assert weight is not None
    if pair.second.op_type == "Conv":
        return bool(weight.shape[1] * attributes(pair.second).get("group", 1) == pair.channels)
    return bool(weight.shape[1 - channel_axis(pair.second)] % pair.channels == 0)


def _by_input(graph: Graph, pair: Pair) -> Array:
    """The second weight as (rows, channels, taps); a depthwise one as (1, channels, taps)."""
    weight = graph.constant(pair.second.input[1])
    assert weight is not None
    if pair.second.op_type == "Gemm":
        rows_first = weight if channel_axis(pair.second) == 0 else weight.T
        return rows_first.reshape(len(rows_first), pair.channels, -1)
    group = attributes(pair.second).get("group", 1)
    rows = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
    return np.concatenate(list(rows), axis=1)


def _factors(graph: Graph, pair: Pair, ranges: dict[str, Array], per_channel: bool) -> Array:
    second = _by_input(graph, pair).astype(np.float64)
    if not per_channel:
        weight = graph.constant(pair.first.input[1])
        assert weight is not None
        axes = tuple(i for i in range(weight.ndim) if i != channel_axis(pair.first))
        return balance(np.abs(weight).max(axis=axes), np.abs(second).max(axis=(0, 2)))
    known = (ranges[name] for name in pair.between if name in ranges and len(ranges[name]) == pair.channels)
    activation = next(known, np.ones(pair.channels)).astype(np.float64)
    if pair.second.op_type == "Conv" and attributes(pair.second).get("group", 1) == pair.channels > 1:
        return np.where(activation > 0, activation, 1.0)
    return balance(activation, row_shares(second))


def _apply(graph: Graph, pair: Pair, factors: Array) -> None:
    """W1 / s, b1 / s, W2 * s: products with powers of two, exact in float32."""
    down = (1.0 / factors).astype(np.float32)
    weight, axis = graph.constant(pair.first.input[1]), channel_axis(pair.first)
    assert weight is not None
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    graph.set_constant(pair.first, 1, weight * down.reshape(shape), f"{pair.first.input[1]}_equalized")
    bias = bias_of(graph, pair.first)
    if bias is not None:
        set_bias(graph, pair.first, bias * down)
    weight = graph.constant(pair.second.input[1])
    assert weight is not None
    scaled = weight * _along_inputs(pair, weight, factors.astype(np.float32))
    graph.set_constant(pair.second, 1, scaled, f"{pair.second.input[1]}_equalized")


def _along_inputs(pair: Pair, weight: Array, factors: Array) -> Array:
    """`factors` (channels,) in a shape that multiplies the second weight along its inputs."""
    if pair.second.op_type == "Gemm":
        block = weight.shape[1 - channel_axis(pair.second)] // pair.channels
        repeated = np.repeat(factors, block)
        return repeated[None, :] if channel_axis(pair.second) == 0 else repeated[:, None]
    group = attributes(pair.second).get("group", 1)
    each = np.repeat(factors.reshape(group, weight.shape[1]), weight.shape[0] // group, axis=0)
    return each.reshape(*each.shape, *[1] * (weight.ndim - 2))
