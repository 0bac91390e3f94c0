"""Where a model that takes pictures has their channels: as its graph tells, else by the sizes of its input.

Test: tests/test_channels_last.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtimes.imaging.preprocess import CHANNELS, layout_of


@dataclass(frozen=True)
class Entry:
    """What a graph tells of its input (entry.py). `last`: whether its channels are the last axis; None: not told.

    `levels`: what shows that it takes pixels of 0..255, as `divides by 255`; empty where nothing does.
    """

    last: bool | None = None
    levels: str = ""


UNKNOWN = Entry()


def laid_out(sizes: Sequence[object], last: bool | None = None) -> str:
    """`layout_of` the `sizes`; where both ends could be channels, as the graph says: `last`, or None for nothing.

    >>> laid_out((3, 32, 3)), laid_out((3, 32, 3), True), laid_out((3, 32, 32), True)
    ('NCHW', 'NHWC', 'NCHW')
    """
    either = len(sizes) == 3 and sizes[0] in CHANNELS and sizes[2] in CHANNELS
    return "NHWC" if either and last else layout_of(sizes)


def is_ambiguous(sizes: Sequence[object]) -> bool:
    """Whether either end of `sizes` could be the channels of pictures."""
    return len(sizes) == 3 and sizes[0] in CHANNELS and sizes[2] in CHANNELS and sizes[1] not in CHANNELS
