"""Pictures that a network answers with: from its numbers to pixels, and pictures that it is shown in their own size.

    level = (number - black) / (white - black)          pixel = rint(255 level), cut off at 0 and 255

Black and white are `answer_range` of the preprocessing, else what the input's own black and white are, or 0 and 1 where
that is another number for each channel. A generator, which is shown no pictures, answers -1 to 1, as a Tanh does.
Test: tests/test_answered.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtimes.base import Array
from runtimes.imaging.depth import LEVELS, levels
from runtimes.imaging.open_sizes import OPEN
from runtimes.imaging.preprocess import CHANNELS, Preprocess, to_channels

Range = tuple[float, float]


def range_of(preprocess: Preprocess | None) -> Range:
    """The numbers that are black and white in what a network answers.

    >>> range_of(Preprocess((8, 8), mean=(0.5,), std=(0.5,))), range_of(Preprocess((8, 8), std=(1.0, 1.0, 0.5)))
    ((-1.0, 1.0), (0.0, 1.0))
    """
    if preprocess is None:
        return -1.0, 1.0
    if preprocess.answer_range is not None:
        return preprocess.answer_range
    alike = len(set(preprocess.mean)) == len(set(preprocess.std)) == 1
    mean, std = preprocess.mean[0], preprocess.std[0]
    return ((0 - mean) / std, (1 - mean) / std) if alike else (0.0, 1.0)


def is_picture(sizes: Sequence[object]) -> bool:
    """Whether an answer of `sizes`, without the batch, is one: (1 or 3, H, W), (H, W, 1 or 3) or (H, W)."""
    return len(sizes) == 2 or (len(sizes) == 3 and (sizes[0] in CHANNELS or sizes[2] in CHANNELS))


def levels_of(answer: Array, preprocess: Preprocess | None) -> Array:
    """float32 (H, W, 1 or 3), 0 for black and 1 for white, of one `answer`; what is beyond both is cut off.

    Where channels could stand at either end, they stand where the input's do. Whole numbers are pixels of 0..255.
    """
    answer = answer[None] if answer.ndim == 2 else answer
    last = preprocess is not None and preprocess.channels_last and answer.shape[2] in CHANNELS
    first = answer.shape[0] in CHANNELS and not last
    black, white = (0, LEVELS) if answer.dtype.kind in "iu" else range_of(preprocess)
    planes = answer.transpose(1, 2, 0) if first else answer
    return np.asarray(np.clip((planes.astype(np.float32) - black) / (white - black), 0, 1))


def pixels_of(answer: Array, preprocess: Preprocess | None, part: Sequence[float] = (1, 1)) -> Array:
    """uint8 (H, W) or (H, W, 3), red, green, blue, of one `answer`; `part` of its height and width are kept."""
    found = levels_of(answer, preprocess)
    high, wide = (round(size * share) for size, share in zip(found.shape, part, strict=False))
    order = -1 if preprocess is not None and preprocess.bgr else 1
    found = np.rint(found[:high, :wide, ::order] * LEVELS).astype(np.uint8)
    return np.ascontiguousarray(found[:, :, 0] if found.shape[2] == 1 else found)


@dataclass(frozen=True)
class OwnSize(Preprocess):
    """Leaves each picture in its size, but for rows below and columns on the right, which repeat the last, up to a
    height and width that are whole `steps` from `size`.
    """

    steps: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        return (OPEN, OPEN, self.channels) if self.channels_last else (self.channels, OPEN, OPEN)

    def pixels(self, image: Array) -> Array:
        image = to_channels(levels(image, self.white), self.channels)
        size = image.shape[:2]
        more = [(0, to - have) for have, to in zip(size, self.padded(size), strict=True)]
        return np.pad(image[:, :, ::-1] if self.bgr else image, (*more, (0, 0)), "edge")

    def padded(self, size: Sequence[int]) -> tuple[int, int]:
        """(H, W) that a picture of `size` is given.

        >>> OwnSize((64, 64), steps=8).padded((100, 64))
        (104, 64)
        """
        high, wide = (have + (own - have) % self.steps for have, own in zip(size, self.size, strict=True))
        return high, wide


def in_own_size(preprocess: Preprocess, steps: int | None) -> OwnSize:
    """The same preprocessing without the resize."""
    return OwnSize(**vars(preprocess), steps=steps or 1)
