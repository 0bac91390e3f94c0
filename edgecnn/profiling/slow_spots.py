"""Why a model is slow here: what the kernels that ran cost beyond their work, and what can be done about it.

    island         Dequantize -> float kernels -> Quantize       no integer kernel, or no grid of its own
    float layer    the same with a convolution or a Gemm in it   multiply-adds at float's speed
    boundary       Quantize at the input, Dequantize at the end
    layout         Reorder, Transpose that ONNX Runtime put in
    slow int8      integer convolutions that miss the conditions of the fast kernel
    work           what is left: each kind of layer, its share and how near to the peak it is

Each microsecond is in one of island, float layer, boundary, layout and work; a slow int8 layer is also in the work,
apart from others of its kind. An island is a connected piece of the graph that ran. Conditions of the fast
kernel: ONNX Runtime, core/providers/cpu/quantization/qlinearconv.cc. Test: tests/test_slow_spots.py.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecnn.profiling.profiled import Measured, Piece
from edgecnn.profiling.remedies import Cause, island_remedy, layout_remedy, of_own, slow_int8, work_remedy
from edgecnn.words import percent
from exporters.graph import Graph
from exporters.layerwise.executed import QUANTIZERS
from exporters.quantization.kernels import COMPUTE

MULTIPLIERS = (*COMPUTE, "ConvTranspose")
WORDS = {
    "conv": "convolution",
    "dw": "depthwise convolution",
    "upconv": "transposed convolution",
    "fc": "fully connected",
}
SLOW = "slow int8: the cause and what to do stand above"
LEAST_SHARE = 0.005
"""A spot below this share of the time is not worth a line."""


@dataclass(frozen=True)
class Spot:
    """One cause. `where` are nodes of the file; `remedy` is what to do, "" where nothing is wrong."""

    kind: str
    what: str
    where: tuple[str, ...]
    time_us: float
    share: float
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "what": self.what, "where": list(self.where), "time_us": self.time_us,
            "share": self.share, "remedy": self.remedy,
        }  # fmt: skip


def spots(measured: Measured, file: Graph) -> tuple[Spot, ...]:
    """What `measured`, a model whose file's graph is `file`, loses its time to; causes first, the dearest first."""
    total = measured.nodes_us or 1.0
    found: list[Spot] = []
    lost: set[str] = set()
    if measured.integer:
        for group in islands(measured.pieces):
            found.append(_island(group, file, total))
            lost |= {piece.ran.kernel for piece in group}
    layout = [p for p in measured.pieces if p.ran.kind == "layout" and p.ran.kernel not in lost]
    lost |= {piece.ran.kernel for piece in layout}
    found += _layout(layout, measured, total)
    slow = {p.ran.kernel: cause for p in measured.pieces if (cause := slow_int8(p, file, measured.peaks)) is not None}
    found += _slow_int8(slow, measured, total)
    found.sort(key=lambda spot: -spot.time_us)
    found += _work([piece for piece in measured.pieces if piece.ran.kernel not in lost], slow, measured, total)
    told = (replace(spot, remedy=of_own(spot.remedy, file)) for spot in found)
    return tuple(spot for spot in told if spot.share >= LEAST_SHARE)


def islands(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Connected groups of float kernels with the Quantize, Dequantize and layout kernels that touch them.

    Float kernels that no quantizer touches are in a group too: in an integer model they are the float part of it.
    """
    inside = [p for p in pieces if p.ran.kind in ("float", "quantize") or _moves_floats(p)]
    makers = {name: i for i, piece in enumerate(inside) for name in piece.ran.makes}
    group = list(range(len(inside)))

    def root(i: int) -> int:
        while group[i] != i:
            i = group[i]
        return i

    for i, piece in enumerate(inside):
        for name in piece.ran.reads:
            if name in makers:
                group[root(i)] = root(makers[name])
    found: dict[int, list[Piece]] = collections.defaultdict(list)
    for i, piece in enumerate(inside):
        found[root(i)].append(piece)
    return list(found.values())


def _moves_floats(piece: Piece) -> bool:
    return piece.ran.kind == "layout" and any(kind == "float" for kind, _ in piece.ran.outputs)


def _island(group: Sequence[Piece], file: Graph, total: float) -> Spot:
    floats = [piece for piece in group if piece.ran.kind == "float"]
    ops = {piece.ran.op for piece in group if piece.ran.op in QUANTIZERS}
    time_us = sum(piece.ran.time_us for piece in group)
    border_us = sum(piece.ran.time_us for piece in group if piece.ran.kind != "float")
    if not floats:
        kind = "boundary" if len(ops) < 2 else "requantize"
        what = "the input comes in float" if "QuantizeLinear" in ops else "the output leaves in float"
        what = "Dequantize, then Quantize" if kind == "requantize" else what
        where = tuple(piece.ran.kernel for piece in group)
        return Spot(kind, what, where, time_us, time_us / total, island_remedy(kind, [], file))
    kind = "float layer" if any(piece.op in MULTIPLIERS for piece in floats) else "island"
    counted = collections.Counter(piece.op for piece in floats)
    words = ", ".join(f"{count} {op}" if count > 1 else op for op, count in counted.most_common(4))
    words += f" and {len(counted) - 4} more operators" if len(counted) > 4 else ""
    what = f"{words} in float" + (f" ({border_us:.0f} us at its borders)" if border_us else "")
    ranked = sorted(floats, key=lambda piece: -piece.ran.time_us)
    where = tuple(dict.fromkeys(piece.node for piece in ranked))
    return Spot(kind, what, where, time_us, time_us / total, island_remedy(kind, ranked, file))


def _layout(layout: Sequence[Piece], measured: Measured, total: float) -> list[Spot]:
    """All changes of layout as one spot, told by the nodes that are no convolutions beside them."""
    if not layout:
        return []
    blamed: collections.Counter[str] = collections.Counter()
    where: dict[str, float] = collections.defaultdict(float)
    for piece in layout:
        for other in _beside(piece, measured.pieces):
            blamed[other.op or other.ran.op] += 1
            where[other.node] += piece.ran.time_us
    time_us = sum(piece.ran.time_us for piece in layout)
    count = collections.Counter(piece.ran.op for piece in layout)
    what = ", ".join(f"{n} {op}" for op, n in count.most_common())
    places = tuple(sorted(where, key=lambda name: -where[name]))
    remedy = layout_remedy(measured.integer, [op for op, _ in blamed.most_common(3)])
    return [Spot("layout", what, places, time_us, time_us / total, remedy)]


def _beside(layout: Piece, pieces: Sequence[Piece]) -> list[Piece]:
    """The kernel before or after `layout` that is no convolution and no quantizer; none at the model's ends."""
    made, read = set(layout.ran.makes), set(layout.ran.reads)
    near = [p for p in pieces if made & set(p.ran.reads) or read & set(p.ran.makes)]
    return [p for p in near if p.op not in MULTIPLIERS and p.ran.kind not in ("quantize", "layout")][:1]


def _slow_int8(slow: Mapping[str, Cause], measured: Measured, total: float) -> list[Spot]:
    """Integer layers that miss a condition (`slow`, by kernel), those of one cause together."""
    groups: dict[Cause, list[Piece]] = collections.defaultdict(list)
    for piece in measured.pieces:
        if piece.ran.kernel in slow:
            groups[slow[piece.ran.kernel]].append(piece)
    found = []
    for (why, remedy), group in groups.items():
        row = measured.row("", group)
        where = tuple(p.node for p in sorted(group, key=lambda p: -p.ran.time_us))
        at = f", at {percent(row.of_peak)} of the int8 peak" if row.of_peak else ""
        what = f"{len(group)} x {why}{at}" if len(group) > 1 else f"{why} ({row.layer}){at}"
        found.append(Spot("slow int8", what, where, row.time_us, row.time_us / total, remedy))
    return found


def _work(pieces: Sequence[Piece], slow: Mapping[str, Cause], measured: Measured, total: float) -> list[Spot]:
    """The kinds of layers, the dearest first; `slow` kernels apart from those of their kind that are not."""
    groups: dict[tuple[str, str, bool], list[Piece]] = collections.defaultdict(list)
    for piece in pieces:
        groups[_sort(piece), piece.ran.kind, piece.ran.kernel in slow].append(piece)
    found = []
    for (name, kind, missed), group in groups.items():
        row = measured.row(name, group)
        what = f"{len({p.node for p in group})} x {name}" + (f" in {kind}" if kind in ("int8", "float") else "")
        what += f" at {percent(row.of_peak)} of their peak" if row.of_peak else ""
        where = tuple(dict.fromkeys(p.node for p in sorted(group, key=lambda p: -p.ran.time_us)))
        remedy = SLOW if missed else work_remedy(row, measured.peaks, kind == "int8")
        found.append(Spot("work", what, where, row.time_us, row.time_us / total, remedy))
    return sorted(found, key=lambda spot: -spot.time_us)


def _sort(piece: Piece) -> str:
    """`3x3 convolution` for `conv3-64 56x56`, `80-wide convolution` for `conv80-64 1981`, else the operator."""
    if not piece.macs:
        return piece.op or piece.ran.op
    name, _, space = piece.layer.partition(" ")
    word, _, channels = name.partition("-")
    found = re.fullmatch(r"(conv|dw|upconv)([\dx]+)", word)
    if found is None:
        return WORDS.get(word, piece.op)
    axes = space.count("x") + 1 if space else 2  # a window is written as one number where its sides are equal
    window = found[2] if "x" in found[2] else "x".join([found[2]] * axes)
    window += "" if "x" in window else "-wide"
    return f"{window} {'grouped ' if '/g' in channels else ''}{WORDS[found[1]]}"
