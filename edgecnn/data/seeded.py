"""Seeded inputs that a model was made for: pictures through its own preprocessing, else numbers within its int8 grid.

    carried preprocessing ──> textures (edgecnn/data/textures.py), preprocessed     a photograph's values and spectrum,
                              cut to the range of an int8 input's grid              nothing that would be clipped there
    int8, none carried    ──> the same, spread over the range of the input's grid   nothing that would be clipped
    neither               ──> standard normal noise

Noise leaves the range 0..1 that an int8 model was calibrated for, and the clipping would look like a fault of its
first layer. Test: tests/test_seeded.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from edgecnn.data.textures import texture, textures
from runtimes.base import Array
from runtimes.imaging.preprocess import Preprocess, layout_of
from runtimes.session import TensorInfo, random_feeds

Range = tuple[float, float]


class Seeded(Protocol):
    """What a model says about the inputs that it was made for."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...
    @property
    def preprocess(self) -> Preprocess | None: ...
    @property
    def carried(self) -> Preprocess | None: ...
    @property
    def ranges(self) -> Mapping[str, Range]: ...


def seeded_feeds(
    subjects: Sequence[Seeded],
    inputs: tuple[TensorInfo, ...],
    batch: int,
    seed: int,
    sizes: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, Array]:
    """`random_feeds` of `inputs` (the first subject's), as pictures or within a grid where the subjects say so."""
    noise = random_feeds(inputs, batch, seed, sizes)
    rng = np.random.default_rng(seed)
    bounds = range_by_input(subjects)
    ready = _ready(subjects, noise)
    if ready is not None:
        name, value = next(iter(noise.items()))
        made = _pictures(ready, value, rng)
        return {name: np.clip(made, *bounds[name]) if name in bounds and ready.floating else made}
    if _carried(subjects) is not None and len(noise) == 1:
        return noise
    return {name: _within(value, bounds[name], rng) if name in bounds else value for name, value in noise.items()}


def words_for(subjects: Sequence[Seeded], feed: Mapping[str, Array], seed: int) -> str:
    """What `seeded_feeds` made, in words."""
    if _ready(subjects, feed) is not None:
        return f"made pictures (seed {seed})"
    within = " within the int8 range" if _carried(subjects) is None and range_by_input(subjects) else ""
    return f"random inputs{within} (seed {seed})"


def _carried(subjects: Sequence[Seeded]) -> Preprocess | None:
    return next((s.carried for s in subjects if s.carried is not None), None)


def _ready(subjects: Sequence[Seeded], feed: Mapping[str, Array]) -> Preprocess | None:
    """How pictures become the one input in `feed`, which is as the first of `subjects` wants it; None for no picture.

    Where another carries it in another form, or takes the pixels themselves, the first's own way counts.
    """
    first, *others = subjects
    pixels = any(s.preprocess is not None and not s.preprocess.floating for s in others)
    known = [s.carried for s in subjects if s.carried is not None]
    ways = [*known, first.preprocess] if known or pixels else []
    value = next(iter(feed.values()), None)
    if value is None or len(feed) != 1:
        return None
    return next((ready for ready in ways if ready is not None and _fits(ready, value)), None)


def range_by_input(subjects: Sequence[Seeded]) -> dict[str, Range]:
    """What every subject can see of each input, by the first's names; an input of another name counts by its place."""
    found: dict[str, Range] = {}
    for subject in subjects:
        own = {info.name for info in subject.inputs}
        for first, info in zip(subjects[0].inputs, subject.inputs, strict=False):
            low, high = subject.ranges.get(first.name if first.name in own else info.name, (-math.inf, math.inf))
            before = found.get(first.name, (-math.inf, math.inf))
            found[first.name] = max(low, before[0]), min(high, before[1])
    return {name: (low, high) for name, (low, high) in found.items() if -math.inf < low < high < math.inf}


def _pictures(ready: Preprocess, like: Array, rng: np.random.Generator) -> Array:
    """Pictures of the shape of `like`, which `ready` fits."""
    height, width = like.shape[1:3] if ready.channels_last else like.shape[2:]
    return textures(replace(ready, size=(height, width), resize=None), len(like), rng)


def _fits(ready: Preprocess, value: Array) -> bool:
    channels = 3 if ready.channels_last else 1
    return value.ndim == 4 and value.shape[channels] == ready.channels and value.dtype == ready.dtype


def _within(noise: Array, bounds: Range, rng: np.random.Generator) -> Array:
    """As `noise`, in type and shape, with values over the range `bounds`: pictures where it holds planes."""
    low, high = bounds
    if noise.dtype.kind != "f":
        return noise
    if noise.ndim == 4:
        planes = noise.transpose(0, 3, 1, 2) if layout_of(noise.shape[1:]) == "NHWC" else noise
        count, channels, height, width = planes.shape
        pixels = np.stack([texture(height, width, channels, rng) for _ in range(count)])
        pixels = pixels if planes is not noise else pixels.transpose(0, 3, 1, 2)
        spread: Array = low + (high - low) * (pixels / 255.0)
        return spread.astype(noise.dtype)
    drawn: Array = np.asarray(rng.uniform(low, high, noise.shape))
    return drawn.astype(noise.dtype)
