"""Weight rounding that looks at the data: not to the nearest integer, but to those that keep the layer's output.

    min over integers q of  E || (W^ - W) x ||^2  =  sum_o e_o H e_o^T        e = q s - w        H = E[x x^T]

That is AdaRound's objective without its relaxation: for a layer that is linear in its weights it is a quadratic form in
the rounding errors, and all that it needs of the images is the second moment H of the patches x that the weights meet.
H is summed over the images in one stream (memory: K x K for K = channels x taps, no activation is kept). The integers
are found in two steps, without gradients and random numbers: weights are rounded one after the other, each error spread
over those still to come (GPTQ, which is Babai's nearest plane), then coordinate descent moves single weights, in all
rows at once, to the integer that lowers the form most, until a sweep changes little.

The mean m = E[x] is taken out of H, because (W^ - W) m is a constant that the bias makes up for: b' = b - (W^ - W) m.
Patches are few (256 an image) and K is large: H gets a ridge, H + r mean(diag H) I, or rounding would fit the images
that it saw. The result lies on the grid: rounding it again to the nearest changes nothing.
Source: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", section 3 (equations 9-13);
Frantar et al. 2022, "GPTQ", algorithm 1 (the sequence). Test: tests/test_rounding.py (oracles: all roundings of small
layers; AdaRound's relaxation, in torch).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from exporters.base import Change, Kept
from exporters.graph import Graph, attributes, label
from exporters.quantization.affine import EIGHT_BITS, Grid
from exporters.quantization.calibration import exposing
from exporters.quantization.kernels import channel_axis
from exporters.quantization.work import (
    Constants,
    Outcome,
    Work,
    bias_of,
    grid_of,
    largest_of,
    layers,
    set_bias,
)
from runtimes.base import Array, Tensors, Track, silent

MIN_GAIN_DB = 0.1
GROUP_BYTES = 128 * 2**20
"""Second moments held at a time; more layers need more passes over the images."""
PATCHES = 256
"""Per image and layer, spread evenly over the positions."""
SWEEPS = 6
BLOCK = 64
"""Columns whose errors are collected before the columns behind them take them over, in one matrix product."""
LARGEST_SUM = 1e30
"""Of squares, which leaves float32 room for the products with errors; a layer that meets more is not rounded."""
RIDGE = 0.05
PIVOTED = 640
"""Columns up to which the best order is worth its time, which grows with the third power (64 channels of 3x3: 576)."""


@dataclass
class Moments:
    """Running sums over patches (n, G, K) of G groups: first (G, K) and second (G, K, K), float32.

    `most` is what no sum of squares is above; where that is over LARGEST_SUM nothing is added.
    """

    first: Array
    second: Array
    count: int = 0
    most: float = 0.0

    @classmethod
    def empty(cls, groups: int, size: int) -> Moments:
        return cls(np.zeros((groups, size), np.float32), np.zeros((groups, size, size), np.float32))

    def add(self, patches: Array) -> None:
        largest = max(float(patches.max(initial=0.0)), -float(patches.min(initial=0.0)))
        self.most += len(patches) * largest**2
        if not self.most <= LARGEST_SUM:
            return
        lanes = np.ascontiguousarray(patches.transpose(1, 0, 2))
        self.first += lanes.sum(axis=1)
        self.second += lanes.transpose(0, 2, 1) @ lanes
        self.count += len(patches)

    def centered(self) -> tuple[Array, Array]:
        """(mean (G, K), covariance (G, K, K) with a ridge on its diagonal)."""
        mean = self.first / self.count
        covariance = self.second / self.count - mean[:, :, None] * mean[:, None, :]
        diagonal = np.einsum("gkk->gk", covariance)
        diagonal += np.maximum(RIDGE * diagonal.mean(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return mean, covariance


def run(work: Work, *, seconds: float, threads: int | None = None, track: Track = silent) -> Outcome:
    deadline = time.monotonic() + seconds
    graph = Graph(work.model)
    plan = work.plan()
    grids = work.grids(plan)
    changes: list[Change] = []
    kept: list[Kept] = []
    before: dict[str, Constants] = {}
    for batch in _batches(graph, layers(graph, plan), kept):
        if time.monotonic() > deadline:
            kept += [Kept(label(node), "the time was up") for node in batch]
            continue
        moments = gather(work.model, graph, batch, work.images, threads, track)
        for node in batch:
            if time.monotonic() > deadline:
                kept.append(Kept(label(node), "the time was up"))
                continue
            met = moments.pop(node.output[0])
            if not met.most <= LARGEST_SUM:
                kept.append(Kept(label(node), "it meets values whose squares do not fit into float32"))
                continue
            before[label(node)] = {1: graph.constant(node.input[1]), 2: bias_of(graph, node)}
            grid, largest = grid_of(graph, node, grids, work.recipe), largest_of(node, work.recipe)
            changes.append(_rounded(graph, node, grid, largest, met, deadline))
    return Outcome(work.moved(graph.model, before) if changes else work, tuple(changes), tuple(kept))


# -------------------------------------------------------------------------------------------------------- pure math
def best_integers(
    weight: Array, step: Array, covariance: Array, deadline: float = np.inf, largest: int = EIGHT_BITS
) -> Array:
    """Integers q (O, K) for `weight` (O, K) on the symmetric int8 grid `step` (O, 1), small in e H e^T, e = q s - w.

    The largest weights of a row (`largest` steps) stay where they are: its scale is read off them. `covariance` (K, K)
    is symmetric and positive definite. Never above the nearest integers in any row (up to float32's sums).
    """
    nearest = np.clip(np.rint(weight / step), -largest, largest).astype(np.float32)
    movable = np.abs(nearest) < largest
    order = order_of(covariance)
    back = np.argsort(order)
    try:
        ordered = covariance[np.ix_(order, order)]
        sequence = in_sequence(weight[:, order], step, ordered, movable[:, order], largest)[:, back]
    except np.linalg.LinAlgError:  # not positive definite in floating point
        sequence = nearest.copy()
    found = descend(sequence, weight, step, covariance, movable, deadline, largest)
    worse = forms(found * step - weight, covariance) > forms(nearest * step - weight, covariance)
    found[worse] = nearest[worse]
    return found


def order_of(covariance: Array) -> Array:
    """The order in which columns are rounded: first those that the others can make up for least.

    Up to PIVOTED columns that is the smallest diagonal entry of the inverse of what is left of H, pivot by pivot
    (V-BLAST, Wolniansky et al. 1998); beyond, where it would cost minutes, the largest variance first (GPTQ).
    """
    size = len(covariance)
    if size > PIVOTED:
        return np.argsort(-np.diagonal(covariance), kind="stable")
    inverse = np.linalg.inv(covariance.astype(np.float64))
    order, left = np.zeros(size, int), np.ones(size, bool)
    for i in range(size):
        k = int(np.argmin(np.where(left, np.diagonal(inverse), np.inf)))
        order[i], left[k] = k, False
        inverse -= np.outer(inverse[:, k], inverse[k] / inverse[k, k])
    return order


def in_sequence(weight: Array, step: Array, covariance: Array, movable: Array, largest: int) -> Array:
    """GPTQ: column after column to the nearest, its error taken over by the columns behind it through H's inverse."""
    size = weight.shape[1]
    inverse = np.linalg.inv(covariance.astype(np.float64 if size <= PIVOTED else np.float32))
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)
    rest = weight.astype(np.float32).copy()
    q = np.clip(np.rint(rest / step), -largest, largest)
    for first in range(0, size, BLOCK):
        last = min(first + BLOCK, size)
        errors = np.zeros((len(weight), last - first), np.float32)
        for k in range(first, last):
            near = np.clip(np.rint(rest[:, k] / step[:, 0]), -largest, largest)
            q[:, k] = np.where(movable[:, k], near, q[:, k])
            errors[:, k - first] = (rest[:, k] - q[:, k] * step[:, 0]) / upper[k, k]
            rest[:, k + 1 : last] -= errors[:, k - first, None] * upper[k, k + 1 : last]
        rest[:, last:] -= errors @ upper[first:last, last:]
    return q


def descend(
    q: Array, weight: Array, step: Array, covariance: Array, movable: Array, deadline: float, largest: int
) -> Array:
    """Coordinate descent from `q`: each weight in turn to the integer that is best for what the others are."""
    error = (q * step - weight).astype(np.float32)
    pull = error @ covariance
    width = step[:, 0].astype(np.float32)
    for _ in range(SWEEPS):
        moved = 0
        for k in range(weight.shape[1]):
            wanted = np.rint(-pull[:, k] / (covariance[k, k] * width))
            shift = np.clip(q[:, k] + wanted, -largest, largest) - q[:, k]
            rows = np.flatnonzero((shift != 0) & movable[:, k])
            if len(rows):
                moved += len(rows)
                way = shift[rows] * width[rows]
                q[rows, k] += shift[rows]
                error[rows, k] += way
                pull[rows] += way[:, None] * covariance[k]
        if moved <= weight.size // 1000 or time.monotonic() > deadline:
            break
    return q


def forms(error: Array, covariance: Array) -> Array:
    """e_o H e_o^T for each row of errors (O, K)."""
    value: Array = np.einsum("ok,ok->o", error @ covariance, error, dtype=np.float64)
    return value


def patches_of(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int],
               pads: Sequence[int], group: int, most: int = PATCHES) -> Array:  # fmt: skip
    """At most about `most` patches an image, (n, G, I/G * kh * kw), of x (N, C, H, W) as a convolution meets them."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))  # type: ignore[call-overload]
    views = views[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    (n, _, rows, columns) = views.shape[:4]
    spots = np.unique(np.linspace(0, rows * columns - 1, min(most, rows * columns)).astype(int))
    picked = views[:, :, spots // columns, spots % columns]  # (N, C, spots, kh, kw)
    return picked.transpose(0, 2, 1, 3, 4).reshape(n * len(spots), group, -1)


# ---------------------------------------------------------------------------------------------------- graph surgery
def _batches(graph: Graph, nodes: Sequence[onnx.NodeProto], kept: list[Kept]) -> list[list[onnx.NodeProto]]:
    """The layers in their order, in runs whose second moments fit into GROUP_BYTES; what never fits is kept."""
    runs: list[list[onnx.NodeProto]] = [[]]
    used = 0
    for node in nodes:
        reason = _why_not(graph, node)
        if reason:
            kept.append(Kept(label(node), reason))
            continue
        groups, size = _shape(graph, node)
        need = 4 * groups * size * size
        if used + need > GROUP_BYTES and runs[-1]:
            runs.append([])
            used = 0
        runs[-1].append(node)
        used += need
    return [run for run in runs if run]


def _why_not(graph: Graph, node: onnx.NodeProto) -> str:
    if node.op_type == "MatMul":
        return "a MatMul has no bias to make up for the mean"
    weight = graph.constant(node.input[1])
    assert weight is not None
    if node.op_type == "Conv" and (weight.ndim != 4 or attributes(node).get("auto_pad", b"NOTSET") != b"NOTSET"):
        return "only two-dimensional convolutions with explicit pads"
    groups, size = _shape(graph, node)
    if 4 * groups * size * size > GROUP_BYTES:
        return f"{size:,} inputs an output: their second moment does not fit into {GROUP_BYTES >> 20} MB"
    return ""


def _shape(graph: Graph, node: onnx.NodeProto) -> tuple[int, int]:
    """(groups, inputs of one output)."""
    weight = graph.constant(node.input[1])
    assert weight is not None
    outputs = weight.shape[channel_axis(node)]
    group = attributes(node).get("group", 1) if node.op_type == "Conv" else 1
    return int(group), int(weight.size // outputs)


def gather(
    model: onnx.ModelProto,
    graph: Graph,
    nodes: Sequence[onnx.NodeProto],
    feeds: Sequence[Tensors],
    threads: int | None = None,
    track: Track = silent,
) -> dict[str, Moments]:
    """Second moments of what the weights of `nodes` meet, by the nodes' outputs: one pass over `feeds`."""
    sums = {node.output[0]: Moments.empty(*_shape(graph, node)) for node in nodes}
    session = exposing(model, sorted({node.input[0] for node in nodes}), threads)
    for feed in track(feeds, "rounding"):
        values = {**feed, **session(feed)}
        for node in nodes:
            sums[node.output[0]].add(_met(graph, node, values[node.input[0]]))
    return sums


def _met(graph: Graph, node: onnx.NodeProto, x: Array) -> Array:
    if node.op_type != "Conv":
        return x.reshape(len(x), 1, -1)
    weight, a = graph.constant(node.input[1]), attributes(node)
    assert weight is not None
    return patches_of(
        x, weight.shape[2:], a.get("strides", (1, 1)), a.get("dilations", (1, 1)), a.get("pads", (0, 0, 0, 0)),
        a.get("group", 1),
    )  # fmt: skip


def _rounded(graph: Graph, node: onnx.NodeProto, grid: Grid, largest: int, moments: Moments, deadline: float) -> Change:
    weight, axis = graph.constant(node.input[1]), channel_axis(node)
    assert weight is not None
    rows = (weight if axis == 0 else weight.T).reshape(len(moments.first), -1, moments.first.shape[1])
    scale = np.broadcast_to(grid.scale.reshape(-1), rows.shape[0] * rows.shape[1]).reshape(*rows.shape[:2], 1)
    mean, covariance = moments.centered()
    q = np.stack([best_integers(*each, deadline, largest) for each in zip(rows, scale, covariance, strict=True)])
    on_grid = (q * scale).astype(np.float32)
    flipped = int(np.count_nonzero(q != np.clip(np.rint(rows / scale), -largest, largest)))
    bias = bias_of(graph, node)
    shift = np.einsum("gok,gk->go", (on_grid - rows).astype(np.float64), mean).reshape(-1)
    set_bias(graph, node, (0.0 if bias is None else bias) - shift)
    back = on_grid.reshape(weight.shape) if axis == 0 else on_grid.reshape(weight.shape[::-1]).T
    graph.set_constant(node, 1, back, f"{node.input[1]}_rounded")
    return Change(label(node), f"{flipped} of {weight.size} weights not rounded to the nearest")
