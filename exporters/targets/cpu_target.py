"""Which weights a CPU computes rightly: layer by layer, what 16-bit saturation would do there, and what to do about it.

    vnni, arm       u8 x s8 products are summed in 32 bits: nothing to do
    avx512, avx2    sums of two products saturate 16 bits (exporters.targets.saturation): each layer is looked at

        s8          the error grows by less than `LEAVE_DB`: most layers, whose large weights meet no large activations
        s7          weights on 7 bits: never saturate, on the same kernel; about 6 dB of one layer, 0.3 to 1.8 dB of a
                    whole network (MobileNetV2: 12.6 dB against 9.8 dB saturated and 12.9 dB exact)
        u8          unsigned weights: exact and 8 bits, but another kernel (a 3x3 convolution of 128 channels: 1.24x the
                    time on AVX2; MobileNetV2: 1.19x of float's speed instead of 1.47x). Where 7 bits miss the budget
                    (`finer`); a fully connected layer, whose time goes into reading weights, takes 0.97 to 1.27x

Signed activations with signed weights are exact too, but take 5.7x the time on AVX2: never chosen.
Errors are computed on sampled rows of real activations against the float layer. No target has to be at hand.
Source: Intel's figures for ResNet-50 (with and without VNNI); ONNX Runtime documentation, "Quantize ONNX models",
section on `reduce_range`. Test: tests/test_cpu_target.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx

from exporters.graph import Graph, attributes, label
from exporters.quantization.affine import SEVEN_BITS, Grid, weight_grid
from exporters.quantization.kernels import COMPUTE
from exporters.targets import targets_int8
from exporters.targets.saturation import conv_patches, conv_rows, excess, explicit_pads, risky_pairs
from runtimes import machine, plugins
from runtimes.base import Array, BadInput
from runtimes.comparing.kinds import snr_db

SATURATING = ("avx2", "avx512")
TARGETS = (*SATURATING, "vnni", "arm")
REWRITES_HELP = ("avx2", "avx512", "vnni")
"""CPUs on which the rewrites were measured to help; on another one they are used only where they can be raced."""
LEAVE_DB = 0.5
COSTLY_DB = 3.0
FEW_ROWS = 8
"""Of input, on all images that are looked at: they say little of what may saturate."""
POSITIONS = 128
"""Output places sampled in a layer, over all images; with all output channels these are tens of thousands of sums."""


BLOCK_BYTES = 64 * 2**20
"""Of a fully connected layer's weights, looked at at once: each form of them is a copy."""


@dataclass(frozen=True)
class LayerRisk:
    """What saturation does to one layer: SNR (dB) of its sums against float, by form of its weights, and the choice."""

    node: str
    risky_pairs: float
    exact_db: float
    saturated_db: float
    seven_bits_db: float
    choice: str
    few_rows: bool = False
    """Its time goes into reading the weights: a fully connected layer, or a convolution on one pixel."""

    @property
    def loss_db(self) -> float:
        """What the CPU would take away if the weights were left as they are."""
        return self.exact_db - self.saturated_db

    @property
    def lost_db(self) -> float:
        """What its weights lose in the form that was chosen."""
        return self.exact_db - {"s8": self.saturated_db, "s7": self.seven_bits_db}.get(self.choice, self.exact_db)

    def to_dict(self) -> dict[str, Any]:
        numbers = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {**numbers, "loss_db": round(self.loss_db, 4)}


def target_of(isa: Collection[str]) -> str:
    """The target that a machine with these instruction sets (`runtimes.machine`) is.

    >>> target_of(("avx2", "avx512", "vnni")), target_of(("avx2",)), target_of(("neon",))
    ('vnni', 'avx2', 'arm')
    """
    return next((name for name in ("vnni", "avx512", "avx2") if name in isa), "arm")


def this_cpu() -> str:
    """The target that this machine is; an x86 CPU that does not tell its instruction sets counts as the plainest."""
    found = machine.describe()
    if not found.isa and found.os.lower().endswith(("x86_64", "amd64")):
        return "avx2"
    return target_of(found.isa)


def check_target(name: str) -> None:
    """Raise `BadInput` for a CPU target that does not exist."""
    if name in targets_int8.TARGETS:
        raise BadInput(f"--target {name}: is not a CPU; only `edgecnn quantize` writes for it")
    if name not in TARGETS:
        raise BadInput(plugins.unknown(name, (*TARGETS, *targets_int8.TARGETS), "target"))


def choose(exact_db: float, saturated_db: float, seven_bits_db: float) -> str:
    """The form of the weights of a layer whose sums have these SNRs, of those that cost no time.

    >>> choose(40.0, 39.8, 34.0), choose(40.0, 20.0, 34.0), choose(40.0, 37.0, 34.0)
    ('s8', 's7', 's8')
    """
    return "s8" if exact_db - saturated_db <= LEAVE_DB or saturated_db >= seven_bits_db else "s7"


def finer(risks: Sequence[LayerRisk]) -> tuple[LayerRisk, ...]:
    """`risks` with the exact but slower unsigned weights where a layer loses more than `COSTLY_DB` without them."""
    return tuple(replace(risk, choice="u8") if risk.lost_db > COSTLY_DB else risk for risk in risks)


def predict(
    model: onnx.ModelProto,
    nodes: Collection[str],
    grids: Mapping[str, Grid],
    seen: Mapping[str, Array],
    per_channel: bool = True,
    seed: int = 0,
) -> tuple[LayerRisk, ...]:
    """The risk of each convolution and fully connected layer of `model` among `nodes` (first outputs, int8).

    `grids` are the activation grids, `seen` the layers' inputs (images, channels, ...) as integers on them.
    """
    graph = Graph(model, copied=False)
    rng = np.random.default_rng(seed)
    found = []
    for node in graph.proto.node:
        if node.op_type in COMPUTE and node.output[0] in nodes and node.input[0] in seen:
            weight = graph.constant(node.input[1])
            if weight is not None and _pairs_up(node, weight):
                found.append(_layer(node, weight, grids[node.input[0]], seen[node.input[0]], per_channel, rng))
    return tuple(found)


def _pairs_up(node: onnx.NodeProto, weight: Array) -> bool:
    """Kernels with one filter for each channel widen to 16 bits. A single channel's partner is its next tap."""
    return node.op_type != "Conv" or weight.shape[1] > 1 or len(weight) != attributes(node).get("group", 1)


def _layer(
    node: onnx.NodeProto, weight: Array, grid: Grid, x: Array, per_channel: bool, rng: np.random.Generator
) -> LayerRisk:
    largest = None if per_channel else float(np.abs(weight).max())
    blocks = [_layer_rows(node, w, part, grid, largest, rng) for w, part in _groups(node, weight, x)]
    exact, saturated, seven = (bounded_db([(sums[0], sums[i]) for sums, _ in blocks]) for i in (1, 2, 3))
    risky = float(np.mean([share for _, share in blocks]))
    few = x.size <= FEW_ROWS * x.shape[1 if node.op_type == "Conv" else -1]
    form = ("s7" if risky else "s8") if few else choose(exact, saturated, seven)
    return LayerRisk(label(node), risky, exact, saturated, seven, form, few)


def _groups(node: onnx.NodeProto, weight: Array, x: Array) -> list[tuple[Array, Array]]:
    """(weights, inputs) of each group of a convolution, or of blocks of a fully connected layer's rows (O, I)."""
    if node.op_type != "Conv":
        transposed = node.op_type == "Gemm" and attributes(node).get("transB", 0)
        rows, inputs = weight if transposed else np.asarray(weight.T), np.reshape(x, (-1, x.shape[-1]))
        return [(part, inputs) for part in np.array_split(rows, max(1, math.ceil(weight.nbytes / BLOCK_BYTES)))]
    groups = int(attributes(node).get("group", 1))
    parts: list[tuple[Array, Array]] = list(zip(np.split(weight, groups), np.split(x, groups, axis=1), strict=True))
    return parts


def _layer_rows(
    node: onnx.NodeProto, weight: Array, x: Array, grid: Grid, largest: float | None, rng: np.random.Generator
) -> tuple[tuple[Array, Array, Array, Array], float]:
    """Sums (P, O) of sampled rows (float, int8 exact, int8 saturated, 7 bits), and the share of risky pairs.

    `largest`: |weight| at the end of the grid that all channels share; None where each has its own.
    """
    if node.op_type == "Conv":
        x, weight = _sample(node, x, weight, int(grid.zero_point), rng), conv_rows(weight)
    elif len(x) > POSITIONS:
        x = x[rng.choice(len(x), POSITIONS, replace=False)]
    rows = grid.dequantize(x)  # the grid of x is not the weights' fault: both sides see the same inputs
    real = rows @ weight.T  # float32 leaves 120 dB, the choice is made at 50 and less
    end = weight if largest is None else np.full((len(weight), 1), largest, np.float32)
    g8, g7 = weight_grid(end, 0), weight_grid(end, 0, SEVEN_BITS)
    w8 = g8.quantize(weight)
    exact = rows @ g8.dequantize(w8).T
    seven = rows @ g7.dequantize(g7.quantize(weight)).T
    off = excess(x, w8) * (float(grid.scale) * g8.scale.astype(np.float64))
    return (real, exact, exact + off, seven), risky_pairs(w8)


def _sample(node: onnx.NodeProto, x: Array, weight: Array, fill: int, rng: np.random.Generator) -> Array:
    a, rank = attributes(node), x.ndim - 2
    ones = (1,) * rank
    kernel, strides, dilations = weight.shape[2:], tuple(a.get("strides", ones)), tuple(a.get("dilations", ones))
    given = tuple(a.get("pads", (0,) * 2 * rank))
    pads = explicit_pads(a.get("auto_pad", b"NOTSET"), given, x.shape[2:], kernel, strides, dilations)
    return conv_patches(x, kernel, strides, dilations, pads, fill, POSITIONS, rng)


def bounded_db(pairs: Sequence[tuple[Array, Array]]) -> float:
    """SNR of (wanted, got) arrays within 200 dB of zero, so that differences are finite; 200 is no difference."""
    signal = sum(float(np.square(a).sum()) for a, _ in pairs)
    noise = sum(float(np.square(a - b).sum()) for a, b in pairs)
    return max(-200.0, min(200.0, snr_db(signal, noise)))
