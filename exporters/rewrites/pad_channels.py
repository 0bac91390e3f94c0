"""Channels between convolutions come in fours: zero channels made in front and ignored behind.

    Conv (C outputs) -> act -> ... -> Conv (C inputs)     C = 27 -> 28
         + zero filters                   + zero weights

ONNX Runtime's fast integer convolution takes inputs and outputs in fours only: 263 us become 140 us for 27 -> 162
channels at 56x56 (ReXNet), 162 become 109 us for a 3x3 of 18 channels (HRNet-W18), on a CPU with VNNI. From each tensor
that does not come in fours the region that must grow with it is followed (`tied`), through sums and pieces; a zero
channel is finite on the way and is multiplied by zero in the end. `pad_outputs` makes the channels alone and drops
them again, for what this one refuses: regions that reach an input or output of the model or an operator that mixes
channels, and images of under 8 positions, where there is nothing to gain. Bound: the sums have more zeros in them.
Test: tests/test_pad_channels.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.base import PassResult
from exporters.searching.tied import padded
from exporters.sizes import Sizes

MULTIPLE = 4
FEWEST_PIXELS = 8
MOST_GROWTH = 1.5
"""How many times as many channels the tensors of a region of pieces may have."""


def run(model: onnx.ModelProto) -> PassResult:
    """Pad the outputs of every ungrouped convolution that do not come in fours; those that stay are in `kept`."""
    return padded(model, MULTIPLE, MOST_GROWTH, lambda conv, sizes: conv.group == 1 and _large(sizes))


def _large(sizes: Sizes) -> bool:
    """Whether an image of these `sizes` has enough positions, or an open number of them."""
    image = sizes[2:]
    return None in image or int(np.prod([size or 0 for size in image])) >= FEWEST_PIXELS
