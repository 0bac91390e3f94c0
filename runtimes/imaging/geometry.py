"""Where a pixel of the network's input lies in the original image, and back: for masks and boxes.

    x_input = x_image * scale - cut          scale: resized size / original size, cut: what the centre crop takes away

The same numbers as `Preprocess`: the whole image stretched to `size`, or its shorter side to `resize` and then the
middle cut out. Coordinates run from 0 at the first pixel's outer edge to the width at the last one's.
Test: tests/test_geometry.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runtimes.base import Array
from runtimes.imaging.preprocess import Preprocess, shorter_side

UNSEEN = 255
"""In a mask of the original image: pixels that the centre crop kept from the network."""


@dataclass(frozen=True)
class Geometry:
    """An image of `image` (H, W) pixels, resized to `resized`, of which the middle `size` is the network's input."""

    image: tuple[int, int]
    resized: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, preprocess: Preprocess, image: tuple[int, int]) -> Geometry:
        wanted = preprocess.size
        resized = wanted if preprocess.resize is None else shorter_side(image, preprocess.resize)
        return cls(image, resized, wanted)

    @classmethod
    def same(cls, size: tuple[int, int]) -> Geometry:
        """Of an image that is the network's input itself."""
        return cls(size, size, size)

    @property
    def cut(self) -> tuple[int, int]:
        """Rows and columns of the resized image above and left of the input; rounded as `centre_crop` rounds."""
        top, left = (round((have - want) / 2) for have, want in zip(self.resized, self.size, strict=True))
        return top, left

    def boxes_to_input(self, boxes: Array) -> Array:
        """float32 (n, 4) x1, y1, x2, y2 in the input's pixels, cut at its edge; a box outside of it has no area."""
        moved = boxes * self._scales() - self._cuts()
        height, width = self.size
        return np.asarray(np.clip(moved, 0, [width, height, width, height]), np.float32)

    def boxes_to_image(self, boxes: Array) -> Array:
        """float32 (n, 4) in the original image's pixels, cut at its edge."""
        moved = (boxes + self._cuts()) / self._scales()
        height, width = self.image
        return np.asarray(np.clip(moved, 0, [width, height, width, height]), np.float32)

    def mask_to_input(self, mask: Array) -> Array:
        """(H, W) of the input from a mask of the image: at each pixel's centre the class that is there."""
        rows, columns = (
            nearest(np.arange(want) + cut, have, resized)
            for want, cut, have, resized in zip(self.size, self.cut, self.image, self.resized, strict=True)
        )
        return np.asarray(mask[rows[:, None], columns[None, :]])

    def mask_to_image(self, mask: Array) -> Array:
        """(H, W) of the image from a mask of the input; `UNSEEN` where the network did not look."""
        found = []
        for have, resized, cut, size in zip(self.image, self.resized, self.cut, self.size, strict=True):
            place = nearest(np.arange(have), resized, have) - cut
            found.append((np.clip(place, 0, size - 1), (place >= 0) & (place < size)))
        (rows, row_seen), (columns, column_seen) = found
        seen = row_seen[:, None] & column_seen[None, :]
        return np.asarray(np.where(seen, mask[rows[:, None], columns[None, :]], UNSEEN), mask.dtype)

    def _scales(self) -> Array:
        (height, width), (tall, wide) = self.image, self.resized
        return np.array([wide / width, tall / height] * 2)

    def _cuts(self) -> Array:
        top, left = self.cut
        return np.array([left, top] * 2)


def nearest(place: Array, have: int, want: int) -> Array:
    """The pixel, of `have` on an axis, in which the centre of pixel `place` lies when the axis has `want` pixels."""
    return np.asarray((2 * place + 1) * have // (2 * want))
