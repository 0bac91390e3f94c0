"""Sums over samples of how far two tensors are apart, and tensors kept between the runs of two models.

    signal = sum ours^2        noise = sum (ours - theirs / gain)^2        SNR = 10 log10(signal / noise)

Test: tests/test_diff.py, tests/test_gains.py.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtimes.base import Array, Tensors
from runtimes.comparing.kinds import snr_db
from runtimes.execution.watch import temporary_prefix
from runtimes.parity import difference

KEPT_BYTES = 2**20


def per_channel(gain: Array, rank: int) -> Array:
    """`gain` (C,) in the shape that multiplies (N, C, ...) of `rank` axes."""
    return gain.reshape(1, -1, *[1] * (rank - 2))


@dataclass
class Meter:
    """Sums of one tensor over samples. Values that are equally NaN or infinite on both sides count as equal."""

    signal: float = 0.0
    noise: float = 0.0
    fits: bool = True
    odd: bool = False
    """The reference's values are not all finite."""

    def add(self, ours: Array, theirs: Array, gain: Array | None = None) -> None:
        """`gain`: factor per channel of `theirs` that is none of the difference."""
        if ours.shape != theirs.shape:
            self.fits = False
            return
        theirs = theirs if gain is None else theirs / per_channel(gain, theirs.ndim)
        ref = ours.astype(np.float64).ravel()
        apart = difference(ours, theirs).ravel()
        odd = ~np.isfinite(ref)
        self.odd |= bool(odd.any())
        if odd.any():
            apart[odd] = np.where(np.array_equal(ref[odd], theirs.astype(np.float64).ravel()[odd], True), 0, np.inf)
            ref[odd] = 0
        with np.errstate(over="ignore"):
            self.signal += float(ref @ ref)
            self.noise += float(apart @ apart)

    @property
    def snr_db(self) -> float:
        return snr_db(self.signal, self.noise) if self.fits else -math.inf


class Kept:
    """Tensors of several samples, in memory while they are small, else in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.values = folder, dict[tuple[int, str], Array | Path]()

    def put(self, sample: int, made: Tensors) -> None:
        for name, value in made.items():
            if value.nbytes <= KEPT_BYTES:
                self.values[sample, name] = value
                continue
            path = self.folder / f"{len(self.values)}.npy"
            np.save(path, value)
            self.values[sample, name] = path

    def get(self, sample: int, name: str) -> Array:
        value = self.values[sample, name]
        return np.load(value) if isinstance(value, Path) else value


@contextlib.contextmanager
def keeping() -> Iterator[Kept]:
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        yield Kept(Path(folder))
