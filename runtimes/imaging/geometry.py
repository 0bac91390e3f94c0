"""Where a pixel of the network's input lies in the original image, and back: for masks, boxes and points.

    x_input = x_image * scale - cut          scale: resized size / original size, cut: what the centre crop takes away,
                                             below 0 where a letterbox has a border

The same numbers as `Preprocess`: the whole image stretched to `size`, or its shorter side to `resize` and then the
middle cut out, or all of it inside of a border. Coordinates run from 0 at the first pixel's outer edge to the width at
the last one's.
Test: tests/test_geometry.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runtimes.base import Array
from runtimes.imaging.preprocess import Preprocess, border, shorter_side, within

UNSEEN = 255
"""In a mask of the original image: pixels that the centre crop kept from the network; in one of the input: border."""


@dataclass(frozen=True)
class Geometry:
    """An image of `image` (H, W) pixels, resized to `resized`, of which the middle `size` is the network's input; a
    smaller one has a border around it, or, in the `corner`, on two sides.
    """

    image: tuple[int, int]
    resized: tuple[int, int]
    size: tuple[int, int]
    corner: bool = False

    @classmethod
    def of(cls, preprocess: Preprocess, image: tuple[int, int]) -> Geometry:
        wanted = preprocess.size
        if preprocess.letterbox is not None:
            return cls(image, within(image, wanted), wanted, preprocess.corner)
        resized = wanted if preprocess.resize is None else shorter_side(image, preprocess.resize)
        return cls(image, resized, wanted)

    @classmethod
    def same(cls, size: tuple[int, int]) -> Geometry:
        """Of an image that is the network's input itself."""
        return cls(size, size, size)

    @property
    def cut(self) -> tuple[int, int]:
        """Rows and columns of the resized image above and left of the input; rounded as `centre` rounds.

        Those of a border count below 0.
        """
        if any(have < want for have, want in zip(self.resized, self.size, strict=True)):
            above, before = border(self.resized, self.size, self.corner)
            return -above, -before
        top, left = (round((have - want) / 2) for have, want in zip(self.resized, self.size, strict=True))
        return top, left

    def boxes_to_input(self, boxes: Array) -> Array:
        """float32 (n, 4) x1, y1, x2, y2 in the input's pixels, cut at its edge; a box outside of it has no area."""
        moved = self.points_to_input(boxes.reshape(-1, 2)).reshape(-1, 4)
        height, width = self.size
        return np.asarray(np.clip(moved, 0, [width, height, width, height]), np.float32)

    def boxes_to_image(self, boxes: Array) -> Array:
        """float32 (n, 4) in the original image's pixels, cut at its edge."""
        moved = self.points_to_image(boxes.reshape(-1, 2)).reshape(-1, 4)
        height, width = self.image
        return np.asarray(np.clip(moved, 0, [width, height, width, height]), np.float32)

    def points_to_input(self, points: Array) -> Array:
        """(n, 2) x, y in the input's pixels, also beyond its edge."""
        return np.asarray(points * self._scales() - self._cuts())

    def points_to_image(self, points: Array) -> Array:
        """(n, 2) x, y in the original image's pixels, also beyond its edge."""
        return np.asarray((points + self._cuts()) / self._scales())

    def mask_to_input(self, mask: Array) -> Array:
        """(H, W) of the input from a mask of the image: at each pixel's centre the class that is there; `UNSEEN` in a
        border.
        """
        rows, columns = (
            nearest(np.arange(want) + cut, have, resized)
            for want, cut, have, resized in zip(self.size, self.cut, self.image, self.resized, strict=True)
        )
        return _looked_up(mask, rows, columns)

    def mask_to_image(self, mask: Array) -> Array:
        """(H, W) of the image from a mask of the input, or one with fewer pixels of the same view; `UNSEEN` where the
        network did not look.
        """
        found = []
        for have, resized, cut, size, own in zip(
            self.image, self.resized, self.cut, self.size, mask.shape, strict=True
        ):
            found.append(nearest(nearest(np.arange(have), resized, have) - cut, own, size))
        return _looked_up(mask, *found)

    def _scales(self) -> Array:
        (height, width), (tall, wide) = self.image, self.resized
        return np.array([wide / width, tall / height])

    def _cuts(self) -> Array:
        return np.array(self.cut[::-1])


def _looked_up(mask: Array, rows: Array, columns: Array) -> Array:
    """`mask` (H, W) at each pair of `rows` and `columns`; `UNSEEN` where they lie beyond it."""
    high, wide = mask.shape
    seen = ((rows >= 0) & (rows < high))[:, None] & ((columns >= 0) & (columns < wide))[None, :]
    near = mask[np.clip(rows, 0, high - 1)[:, None], np.clip(columns, 0, wide - 1)[None, :]]
    return np.asarray(np.where(seen, near, UNSEEN), mask.dtype)


def nearest(place: Array, have: int, want: int) -> Array:
    """The pixel, of `have` on an axis, in which the centre of pixel `place` lies when the axis has `want` pixels."""
    return np.asarray((2 * place + 1) * have // (2 * want))
