"""Whether the images that calibrate and those that judge are one set, however it is spelled; it is then cut in two.

    fold1, fold1/, ./fold1, a link to it      one place
    calib.npz, a copy of it under any name    one fingerprint (fingerprint.py); of a folder names, sizes, 16 pictures
    x, x.copy()                               the same numbers in memory

Sets that have only some images in common are two: copies.py keeps what calibrated from judging.
Test: tests/test_one_set.py.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from edgecnn.data.built_in import built_in
from edgecnn.data.data_argument import Data, InMemory, Spec, given, maybe_given
from edgecnn.data.fingerprint import fingerprint
from runtimes.base import Array


def both(calib: Data | InMemory, data: Data | InMemory | None) -> tuple[Spec, Spec | None]:
    """`calib` and `data`. The same images as both are one set, with the labels of `data`: it is split by these."""
    first, second = given(calib, "calib"), maybe_given(data)
    if second is None or not is_one(first, second):
        return first, second
    if isinstance(first, InMemory) and isinstance(second, InMemory):
        first = second = replace(first, labels=first.labels if second.labels is None else second.labels)
        return first, second
    return second, second


def is_one(first: Spec, second: Spec) -> bool:
    """Whether two sets hold the same images."""
    if isinstance(first, InMemory) and isinstance(second, InMemory):
        return first == second or alike(first, second)
    if isinstance(first, InMemory) or isinstance(second, InMemory):
        return False
    if first == second or built_in(first) is not None or built_in(second) is not None:
        return first == second
    if os.path.realpath(first) == os.path.realpath(second):
        return True
    files = [path for path in (first, second) if os.path.isfile(path)]
    if len(files) == 2 and os.path.getsize(first) != os.path.getsize(second):
        return False
    mark = fingerprint(second)
    return bool(mark) and mark == fingerprint(first)


def alike(first: InMemory, second: InMemory) -> bool:
    """Whether the same numbers are in both, but for labels."""
    ours, theirs = _images(first), _images(second)
    return ours.keys() == theirs.keys() and all(_equal(ours[name], theirs[name]) for name in ours)


def _images(data: InMemory) -> dict[str, Array]:
    """By name, where there are several."""
    named = {name: array for name, array in (data.arrays or {}).items() if array is not data.labels}
    return named if len(named) > 1 else {"": data.images}


def _equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
