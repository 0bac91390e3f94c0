"""One picture for two models: what the first is given, made into what the second wants to be given of the same pixels.

    first       second                  x float of the first, m and s its mean and std
    float       uint8                   p = rint(255 (x s + m))
    uint8       float                   x = (p / 255 - m') / s'            m' and s' those of the second
    float       float, other m and s    through p where x comes from pixels, else ((x s + m) - m') / s'
    (C, H, W)   (H, W, C)               axes moved
    RGB         BGR                     channels turned around

Test: tests/test_adapting.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from runtimes.base import Array
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import TensorInfo

FROM_PIXELS = 0.02
"""So near a whole number of 255ths, a float was made from a pixel."""
Adapter = Callable[[Array], Array]


class Pictured(Protocol):
    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...
    @property
    def preprocess(self) -> Preprocess | None: ...


def adapter(first: Pictured, second: Pictured) -> Adapter | None:
    """Makes a batch for `first` into one for `second`; None where they are given the same, or one takes no picture."""
    ours, theirs = first.preprocess, second.preprocess
    if ours is None or theirs is None or ours.channels != theirs.channels or len(first.inputs) != len(second.inputs):
        return None
    return None if _alike(ours, theirs) else lambda batch: convert(batch, ours, theirs)


def other_layout(first: Pictured, second: Pictured) -> bool:
    """Whether one of two models has channels last, and the other first."""
    ours, theirs = first.preprocess, second.preprocess
    return ours is not None and theirs is not None and ours.channels_last != theirs.channels_last


def like_first(first: Pictured, second: Pictured) -> tuple[TensorInfo, ...]:
    """The inputs of `second`, the sizes of a picture in the order in which `first` has them."""
    if adapter(first, second) is None or not other_layout(first, second):
        return second.inputs
    last = second.preprocess is not None and second.preprocess.channels_last
    return tuple(TensorInfo(i.name, i.dtype, _moved(i.shape, last)) for i in second.inputs)


def convert(batch: Array, ours: Preprocess, theirs: Preprocess) -> Array:
    """`batch` (N, ...) made ready by `ours`, as `theirs` makes the same pixels ready."""
    planes = batch.transpose(0, 3, 1, 2) if ours.channels_last else batch
    if not (ours.floating and theirs.floating and _same_numbers(ours, theirs)):
        planes = _renormalized(planes, ours, theirs)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1) if theirs.channels_last else planes)


def _renormalized(planes: Array, ours: Preprocess, theirs: Preprocess) -> Array:
    """(N, C, H, W) for `ours` as (N, C, H, W) for `theirs`."""
    mean, std = (np.asarray(v, np.float64).reshape(-1, 1, 1) for v in (ours.mean, ours.std))
    levels = 255 * (planes * std + mean) if ours.floating else planes.astype(np.float64)
    levels = levels[:, ::-1] if ours.bgr != theirs.bgr else levels
    pixels = np.rint(levels)
    whole = bool((np.abs(levels - pixels) < FROM_PIXELS).all() and pixels.min() >= 0 and pixels.max() <= 255)
    if whole or not theirs.floating:
        bytes_ = np.clip(pixels, 0, 255).astype(np.uint8)
        return np.stack([theirs.normalized(p.transpose(1, 2, 0)) for p in bytes_]) if theirs.floating else bytes_
    mean, std = (np.asarray(v, np.float64).reshape(-1, 1, 1) for v in (theirs.mean, theirs.std))
    return ((levels / 255 - mean) / std).astype(np.float32)


def _alike(ours: Preprocess, theirs: Preprocess) -> bool:
    same = ours.input == theirs.input and ours.bgr == theirs.bgr
    return same and (not ours.floating or _same_numbers(ours, theirs))


def _same_numbers(ours: Preprocess, theirs: Preprocess) -> bool:
    return ours.bgr == theirs.bgr and all(
        bool(np.all(np.equal(a, b))) for a, b in ((ours.mean, theirs.mean), (ours.std, theirs.std))
    )


def _moved(shape: Sequence[Any], last: bool) -> tuple[Any, ...]:
    """(N, H, W, C) as (N, C, H, W) where channels are `last`, else the other way round."""
    if len(shape) != 4:
        return tuple(shape)
    return tuple(shape[i] for i in ((0, 3, 1, 2) if last else (0, 2, 3, 1)))
