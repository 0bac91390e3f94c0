"""Depthwise convolutions get channels in sixteens: zero channels made in front of them and ignored behind them.

    Conv (C outputs) -> act -> depthwise (C) -> act [x gate (C)] -> Conv (C inputs)     C = 72 -> 80
         + zero filters        + zero filters                            + zero weights

ONNX Runtime's integer depthwise kernel wants C % 16 == 0 and runs at a quarter of its speed otherwise. From each such
convolution the region of tensors that must grow with it is followed both ways (`tied`), up to the ungrouped
convolutions that make its channels (zero filters, zero bias) and to those that read them (zero weights). Where a
Concat, Split or Slice is on the way, each of its pieces is filled up by itself: GhostNet's halves of 20 become halves
of 32, with zeros between them. What a zero channel becomes on the way is finite, and is multiplied by zero in the end.
Refused: what `tied` refuses, and pieces so small that the region would more than double. Bound: the sums have more
zeros in them, which may change their order. Test: tests/test_pad_depthwise.py.
"""

from __future__ import annotations

import onnx

from exporters.base import PassResult
from exporters.searching.tied import padded

MULTIPLE = 16
MOST_GROWTH = 2.0
"""How many times as many channels the tensors of a region of pieces may have."""


def run(model: onnx.ModelProto) -> PassResult:
    """Pad every depthwise convolution whose channels do not come in sixteens; the others are in `kept`."""
    return padded(model, MULTIPLE, MOST_GROWTH, lambda conv, _: conv.depthwise)
