"""Noise in rows of numbers, one row an image, as a share of what the numbers vary by from image to image.

    spread(k)   =  sum (ref_k - mean of ref_k)^2 / (n - 1)              over n images, of number k of a row
    noise(k)    =  sum (ref_k - cand_k)^2 / n
    lost        =  mean over k of min(1, noise(k) / spread(k))          of 64 numbers or fewer, which may have units
                                                                        of their own
                =  min(1, sum of noise / sum of spread)                 of more: an embedding, one thing

1 - lost is R^2 where the answers of the reference are the truth, cut off at 0. A sum of squares counts what all images
have in common as signal: a landmark that is 48 pixels from the corner, give or take 8, has 15 dB of SNR where it always
stands still. Numbers that are the same for all images are left out. Test: tests/test_row_noise.py.
"""

from __future__ import annotations

import numpy as np

from runtimes.base import Array

BY_NUMBER = 64
LARGEST_ROW = 4096
"""Numbers of a row; more are a map."""
ROUNDING = 1e-12
"""Share of a sum of squares that is rounding, in float32 too."""


class RowNoise:
    """Running sums over the images of one output."""

    def __init__(self) -> None:
        self.images = 0
        self.first: Array | None = None
        """A row near all others, which keeps the digits of small differences."""
        self.odd = False

    def add(self, ref: Array, apart: Array, images: int) -> None:
        """`ref` and |ref - cand|, both (images, ...); answers that are no such rows leave `lost` unknown."""
        size = ref[:1].size if ref.shape[:1] == (images,) else 0
        self.odd |= not 0 < size <= LARGEST_ROW or (self.first is not None and self.first.size != size)
        if self.odd:
            return
        rows = ref.reshape(images, -1).astype(np.float64)
        if self.first is None:
            self.first = rows[0]
            self.total, self.square, self.noise = (np.zeros(size) for _ in range(3))
        with np.errstate(over="ignore", invalid="ignore"):
            moved = rows - self.first
            self.total += moved.sum(axis=0)
            self.square += (moved**2).sum(axis=0)
            self.noise += (apart.reshape(images, -1).astype(np.float64) ** 2).sum(axis=0)
        self.images += images

    def lost(self) -> float | None:
        """The share of the spread that is lost in noise, 0 to 1; None where there is no spread, or no such rows."""
        if self.odd or self.first is None or self.images < 2:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            around = self.square - self.total**2 / self.images
            vary = around > ROUNDING * (self.square + self.images * self.first**2)
        if not vary.any() or not np.isfinite(around).all():
            return None
        spread, noise = around[vary] / (self.images - 1), self.noise[vary] / self.images
        share = np.minimum(noise / spread, 1).mean() if spread.size <= BY_NUMBER else noise.sum() / spread.sum()
        return float(min(share, 1.0))
