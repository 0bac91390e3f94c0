"""What to do about a slow spot: one sentence each, naming a command, an option or a rewrite where there is one.

Conditions of ONNX Runtime's fast integer convolution, each tested on the layer as the file has it:

    inputs C % 4 == 0         outputs C % 4 == 0, >= 16        one group, or depthwise 3x3 with C % 16 == 0
    unsigned activations      signed weights

Test: tests/test_slow_spots.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import onnx

from edgecnn.profiling.profiled import Piece, Row
from exporters.artifact import read_identity, read_stages
from exporters.graph import Graph, attributes, free_inputs, label
from exporters.layerwise.peaks import Peaks
from exporters.quantization.kernels import CARRIERS, COMPUTE, CUTTERS, FOLLOWERS, HARD
from exporters.rewrites.split_groups import MOST_GROUPS
from exporters.rewrites.widen_groups import WIDE, factor
from exporters.searching.blocks import ACTIVATIONS
from exporters.targets.cpu_target import SATURATING, this_cpu
from runtimes.base import BadInput
from runtimes.imaging.preprocess import layout_of

AGAIN, SEARCH = "`edgecnn quantize`", "`edgecnn quantize --search-budget 60`"
"""Of the float model that the int8 one was made from."""
FEWER = "fewer multiply-adds"
INT8_OR_FEWER = f"int8 ({AGAIN}) or {FEWER}"
NEAR_PEAK, FAST_ENOUGH = 0.6, 0.5
REWRITTEN = {
    "ConvTranspose": "transposed_conv",
    "Resize": "nearest_resize",
    "PRelu": "max_of_prelu",
    "BatchNormalization": "depthwise_batchnorm",
}
"""Operators that a rewrite of docs/rewrites.md takes away before quantizing."""

RACED = "edgecnn made this graph and raced what it knows: this was faster, kept accuracy, or --search-budget ended"
QUANTIZED = "quantize"
"""The stage that a graph carries which edgecnn chose, integer or float."""

Cause = tuple[str, str]
"""(why, remedy)"""


def island_remedy(kind: str, ranked: Sequence[Piece], file: Graph) -> str:
    """For a float part of an integer model; `ranked` are its float kernels, the dearest first."""
    if kind == "boundary":
        once = "needed once for floats at the ends"
        return f"{once}; `edgecnn quantize --input uint8-nhwc` takes pixels as they are" if _pictured(file) else once
    if kind == "requantize":
        return f"two scales meet (a Concat, or a node that was left out); {AGAIN} gives both one scale where it can"
    ops = [piece.op for piece in ranked]
    if all(_interpolates(piece, file) for piece in ranked):
        return "interpolation is faster here and rounds, which the int8 kernel of Resize does not: right as it is"
    for op in ops:
        if op in REWRITTEN:
            return f"{op} has no fast int8 kernel; {AGAIN} takes it away (rewrite {REWRITTEN[op]})"
    for op in ops:
        if op in HARD:
            return f"{AGAIN} computes {op} behind a convolution on bytes (int8 form hardswish)"
    if kind == "float layer":
        op = next(op for op in ops if op in COMPUTE or op == "ConvTranspose")
        return f"this {op} was left in float (--exclude, accuracy, or the search); {AGAIN} races it in int8"
    able = (*FOLLOWERS, *CARRIERS, *CUTTERS)
    if all(op in able for op in ops):
        return f"{ops[0]} has an integer kernel, but no Quantize and Dequantize of its own; {AGAIN} places them"
    worst = next(op for op in ops if op not in able)
    if worst not in ACTIVATIONS:
        return f"{worst} works on floats only: right for boxes and scores at the end, dear between int8 layers"
    return f"{worst} has no int8 kernel here: train with ReLU or HardSwish instead, or let {AGAIN} race float regions"


def _pictured(file: Graph) -> bool:
    """Whether what goes in is a picture in floats: a waveform, or frames of a film, are no pixels."""
    inputs = free_inputs(file.model)
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8:
        return False
    with contextlib.suppress(BadInput):  # damaged: no reason to end here
        if (identity := read_identity(file.model)) is not None:
            return identity.preprocess is not None
    return layout_of([dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim][1:]) != ""


def of_own(remedy: str, file: Graph) -> str:
    """`remedy`, unless it is to quantize again what edgecnn made itself: then what that says of the spot."""
    if all(stage.name != QUANTIZED for stage in read_stages(file.model)):
        return remedy
    remedy = remedy.replace(INT8_OR_FEWER, FEWER)
    return RACED if AGAIN in remedy or SEARCH in remedy else remedy


def _interpolates(piece: Piece, file: Graph) -> bool:
    """Whether `piece` is a Resize that makes values between those of its pixels."""
    node = next((node for node in file.proto.node if label(node) == piece.ran.origin), None)
    return node is not None and piece.op == "Resize" and attributes(node).get("mode", b"nearest") != b"nearest"


def layout_remedy(integer: bool, blamed: Sequence[str]) -> str:
    """`blamed` are the operators that need another layout than the convolutions have."""
    others = f"other operators beside them ({', '.join(blamed)})" if blamed else "the model's ends"
    if integer:
        return f"integer convolutions work channels-last, {others} do not: {SEARCH} races graphs with fewer changes"
    return f"convolutions work on blocked channels (NCHWc), {others} do not: fewer changes between the two kinds"


def slow_int8(piece: Piece, file: Graph, peaks: Peaks) -> Cause | None:
    """The condition that an integer convolution misses, if it does and is slow; else None."""
    if piece.ran.kind != "int8" or not piece.macs or piece.ran.op not in ("QLinearConv", "ConvInteger"):
        return None
    if piece.macs / piece.ran.time_us / 1e3 > FAST_ENOUGH * peaks.int8_gmacs:
        return None
    node = next((node for node in file.proto.node if label(node) == piece.ran.origin), None)
    return None if node is None else _types(piece, file, node) or _shape(file, node)


def _types(piece: Piece, file: Graph, node: onnx.NodeProto) -> Cause | None:
    """Signed activations, or unsigned weights."""
    if piece.ran.inputs and piece.ran.inputs[0][0] == "int8":
        return "signed activations (S8S8)", f"quantize with unsigned ones (U8S8): {AGAIN}"
    weight = _weight(file, node)
    if weight is not None and weight.data_type == onnx.TensorProto.UINT8:
        return "unsigned weights (U8U8)", _unsigned_remedy(this_cpu())
    return None


def _unsigned_remedy(cpu: str) -> str:
    """Only where products are summed in 32 bits are signed weights exact without more."""
    if cpu in SATURATING:
        return f"the price of exact sums on this CPU ({cpu}); --exclude leaves a layer in float, if that is faster"
    return f"this CPU ({cpu}) is as exact with signed ones, and faster: `edgecnn quantize --target {cpu}`"


def _shape(file: Graph, node: onnx.NodeProto) -> Cause | None:
    weight = _weight(file, node)
    if weight is None:
        return None
    outputs, inputs, *kernel = weight.dims  # (O, I/groups, k...)
    groups = int(attributes(node).get("group", 1))
    if groups > 1 and inputs == 1 and outputs == groups:
        return _depthwise(outputs, kernel)
    if groups > 1 and inputs > 1 and factor(groups, outputs // groups) > 1:
        return f"{groups} groups of under {WIDE} outputs", _raced("widen_groups")
    if 1 < groups <= MOST_GROUPS and outputs // groups >= WIDE and not inputs % 4 and not outputs // groups % 4:
        return f"{groups} wide groups", _raced("split_groups")
    if groups > 1:
        return (
            "grouped convolution",
            f"no fast int8 kernel: {SEARCH} races it in float",
        )
    if inputs % 4:
        return "input channels no multiple of 4", _raced("space_to_depth, fold_columns, pad_inputs or pad_channels")
    if outputs % 4 or outputs < 16:
        return "output channels no multiple of 4, or under 16", _raced("fold_pixels, pad_channels or pad_outputs")
    return None


def _depthwise(channels: int, kernel: Sequence[int]) -> Cause | None:
    window = "x".join(map(str, kernel))
    if channels % 16:
        return "depthwise, channels no multiple of 16", _raced("pad_depthwise")
    if any(size != 3 for size in kernel):
        return (
            f"depthwise {window}, for which int8 has no kernel of its own",
            f"{SEARCH} races it in float",
        )
    return None


def _raced(rewrites: str) -> str:
    return f"{AGAIN} races the rewrite {rewrites} (docs/rewrites.md)"


def _weight(file: Graph, node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The stored weights of a convolution, behind its DequantizeLinear or as QLinearConv reads them."""
    name = node.input[3 if node.op_type == "QLinearConv" else 1]
    maker = file.producer.get(name)
    if maker is not None and maker.op_type == "DequantizeLinear":
        name = maker.input[0]
    return file.initializers.get(name)


def work_remedy(row: Row, peaks: Peaks, integer: bool) -> str:
    """For kernels that only do their work, called `row.name`: near the peak, near the memory's roof, or neither."""
    less = FEWER if integer else INT8_OR_FEWER
    rate = row.gb_s or 0.0
    if row.of_peak is not None and row.of_peak >= NEAR_PEAK:
        return f"near the peak: {less}"
    if rate >= NEAR_PEAK * peaks.memory_gb_s:
        return f"moves {rate:.0f} GB/s, memory copies {peaks.memory_gb_s:.0f}: fewer or smaller tensors"
    if not row.macs:
        return f"moves {rate:.1f} GB/s, below what memory copies: many small calls, or costly functions"
    if "depthwise" in row.name:
        return "a few multiply-adds for each element that is read: no depthwise kernel comes near the peak"
    return f"below both roofs, at {row.intensity or 0:.1f} MACs a byte: few channels or positions for its kernel"
