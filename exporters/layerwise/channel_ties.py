"""Which channels of a graph's tensors are one and the same, and whether any convolution makes or reads them.

    Conv ── a ── Relu ── b ── Conv        channel k of a and of b: made by filter k, read with weights [:, k]

What keeps channels apart passes them on; a Concat, Split or Slice marks where pieces end. Convolutions are where they
begin and end, also int8 ones. An operator that is not known says nothing. Test: tests/test_unpadded.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from exporters.graph import attributes, constant_value, is_standard
from exporters.layerwise.partial import Parts
from exporters.searching.tied import BINARY, UNARY
from runtimes.base import Array

KEEPING = (*UNARY, *BINARY, "Div", "QuantizeLinear", "DequantizeLinear", "Cast", "Dropout", "BatchNormalization",
           "PRelu", "Min", "Max", "Gelu", "QuickGelu", "Resize", "LpPool")  # fmt: skip
MADE, READ, NOT_MADE, NOT_READ, LAST, TRUE, PAD = (1 << i for i in range(7))
"""Bits of a channel: a filter makes it, weights read it; a filter or weights of zeros only; the last one of a piece;
one that is known to be true, or to be none."""


class Ties:
    """The channels of `parts`; `sizes` tells those of tensors of which no convolution does."""

    def __init__(self, parts: Parts, sizes: Mapping[str, int]) -> None:
        self.parts = parts
        self.channels: dict[str, Array] = {}
        self.same: list[int] = []
        self.bits: list[int] = []
        for node in parts.nodes:
            self._at(node)
            for name in node.output:
                if name in sizes and name not in self.channels:
                    self.channels[name] = self._new(sizes[name])

    # ------------------------------------------------------------------------------------------------------- answers
    def size(self, name: str) -> int | None:
        return len(self.channels[name]) if name in self.channels else None

    def ends(self, name: str) -> list[int]:
        """Where the parts of `name` end; the last is how many channels it has."""
        bits = self._bits(name)
        return [*(np.flatnonzero(bits[:-1] & LAST) + 1).tolist(), len(bits)]

    def settle(self, name: str, count: int) -> None:
        """The first `count` channels of `name` are true, the others are not."""
        self._mark(self.channels[name], np.where(np.arange(len(self.channels[name])) < count, TRUE, PAD))

    def idle(self, name: str) -> Iterator[Array]:
        """(C,) the channels that are of no effect: as settled elsewhere, by makers and readers, by one of these."""
        bits = self._bits(name)
        if np.isin(bits & (TRUE | PAD), (TRUE, PAD)).all():
            yield (bits & PAD) != 0
        yield ((bits & (NOT_MADE | NOT_READ)) != 0) & ((bits & (MADE | READ)) == 0)
        yield (bits & (NOT_READ | READ)) == NOT_READ
        yield (bits & (NOT_MADE | MADE)) == NOT_MADE

    def _bits(self, name: str) -> Array:
        return np.asarray([self.bits[self._root(int(i))] for i in self.channels[name]])

    # --------------------------------------------------------------------------------------------------------- nodes
    def _at(self, node: onnx.NodeProto) -> None:
        if is_standard(node, "Conv"):
            self._conv(node)
        elif node.op_type in ("Concat", "Split") and attributes(node).get("axis", 0) in (1, -3):
            self._pieces(node)
        elif is_standard(node, "Slice"):
            self._slice(node)
        elif node.op_type in KEEPING:
            self._kept(node)

    def _conv(self, node: onnx.NodeProto) -> None:
        used, given = self._nonzero(node.input[1]), self.channels.get(node.input[0])
        if used is None:
            return
        groups = attributes(node).get("group", 1)
        if groups == len(used) > 1 == used.shape[1]:
            self.channels[node.output[0]] = self._new(len(used)) if given is None else given
            return
        split = used.reshape(groups, len(used) // groups, used.shape[1], -1)
        made, read = split.any(axis=(2, 3)).ravel(), split.any(axis=(1, 3)).ravel()
        if len(node.input) > 2 and node.input[2]:
            bias = self._nonzero(node.input[2])
            made = made | (True if bias is None else bias)
        self.channels[node.output[0]] = self._new(len(used))
        self._mark(self.channels[node.output[0]], np.where(made, MADE, NOT_MADE))
        if given is not None and len(given) == len(read):
            self._mark(given, np.where(read, READ, NOT_READ))

    def _kept(self, node: onnx.NodeProto) -> None:
        known = [self.channels[name] for name in node.input if name in self.channels]
        widest = max(known, key=len, default=None)
        if widest is None:
            return
        for other in known:
            if len(other) == len(widest):
                self._tie(widest, other)
        self.channels[node.output[0]] = widest

    def _pieces(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Concat":
            pieces = [self.channels[name] for name in node.input if name in self.channels]
            if len(pieces) == len(node.input):
                self.channels[node.output[0]] = np.concatenate(pieces)
        else:
            whole, sizes = self.channels.get(node.input[0]), self._sizes(node)
            if whole is None or sum(sizes) != len(whole):
                return
            pieces = np.split(whole, np.cumsum(sizes)[:-1])
            self.channels |= zip(node.output, pieces, strict=True)
        for piece in pieces:
            self._mark(piece[-1:], [LAST])

    def _sizes(self, split: onnx.NodeProto) -> list[int]:
        if len(split.input) > 1 and split.input[1]:
            value = self._constant(split.input[1])
            return [] if value is None else value.tolist()
        given = attributes(split).get("split")
        count, whole = len(split.output), len(self.channels.get(split.input[0], ()))
        return list(given) if given is not None else [whole // count] * count

    def _slice(self, node: onnx.NodeProto) -> None:
        whole, values = self.channels.get(node.input[0]), [self._constant(name) for name in node.input[1:] if name]
        if whole is None or len(values) < 3 or any(value is None or value.size != 1 for value in values):
            return
        start, stop, axis, *step = (int(value.ravel()[0]) for value in values if value is not None)
        if axis in (1, -3) and step in ([], [1]):
            first, last, _ = slice(start, stop).indices(len(whole))
            self.channels[node.output[0]] = whole[first:last]
            self._mark(whole[[i - 1 for i in (first, last) if i]], [LAST])

    # ---------------------------------------------------------------------------------------------------- one channel
    def _new(self, count: int) -> Array:
        first = len(self.same)
        self.same += range(first, first + count)
        self.bits += [0] * count
        return np.arange(first, first + count)

    def _root(self, i: int) -> int:
        while self.same[i] != i:
            self.same[i] = self.same[self.same[i]]
            i = self.same[i]
        return i

    def _tie(self, ours: Array, theirs: Array) -> None:
        for a, b in zip(ours.tolist(), theirs.tolist(), strict=True):
            one, other = self._root(a), self._root(b)
            self.same[other] = one
            self.bits[one] |= self.bits[other]

    def _mark(self, channels: Array, bits: Sequence[int] | Array) -> None:
        for i, bit in zip(channels.tolist(), np.broadcast_to(bits, channels.shape).tolist(), strict=True):
            self.bits[self._root(i)] |= bit

    # ------------------------------------------------------------------------------------------------------ constants
    def _constant(self, name: str) -> Array | None:
        if name in self.parts.arrays:
            return self.parts.arrays[name]
        if name in self.parts.small:
            return numpy_helper.to_array(self.parts.small[name])
        place = self.parts.place.get(name)
        return None if place is None else constant_value(self.parts.nodes[place])

    def _nonzero(self, name: str) -> Array | None:
        """Which entries of a weight or bias are not zero, also one that a DequantizeLinear makes of 8 bits."""
        place = self.parts.place.get(name)
        node = None if place is None else self.parts.nodes[place]
        if node is None or not is_standard(node, "DequantizeLinear"):
            value = self._constant(name)
            return None if value is None else np.asarray(value != 0)
        value = self._constant(node.input[0])
        zero = self._constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(())
        if value is None or zero is None:
            return None
        axis = attributes(node).get("axis", 1) % value.ndim
        shape = [-1 if i == axis and zero.size > 1 else 1 for i in range(value.ndim)]
        return np.asarray(value != zero.reshape(shape))
