"""DATA as a caller gives it: a name or a file, or arrays that are in memory already, read as those of a file are.

    "photos/", "digits", Path("x.npz")   ->  text, which edgecnn/data/load.py looks up; a Path that is there is no name
    images                               ->  what a .npy file holds: pixels (N, H, W[, C]), or float as it is eaten
    (images, labels)                     ->  what an .npz file holds under `x` and `y`
    {"image": ..., "meta": ..., "y": ..} ->  what an .npz file holds, for a network of several inputs

In reports arrays are called after the argument that they were given as: `calib array`.
Test: tests/test_data_argument.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgecnn.data.built_in import require_one, spelled_path
from edgecnn.data.classes import LABELS, labels_in
from runtimes.base import Array, BadInput

Data = str | os.PathLike[str] | Array | tuple[Array, Array] | Mapping[str, Array]
"""What the calls of edgecnn/api.py take for `data` and `calib`."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """Arrays that a caller gave. Two are equal when their images are one object; one_set.py compares the numbers."""

    name: str
    images: Array
    labels: Array | None = None
    arrays: Mapping[str, Array] | None = None
    """By name, where they came so; `images` is then the first of them."""

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InMemory) and self.images is other.images

    def __hash__(self) -> int:
        return hash(id(self.images))


Spec = str | InMemory
"""`Data` that was looked at."""


def given(data: Data | InMemory, argument: str = "data") -> Spec:
    """What was given as `argument`; raises `BadInput` in one line for anything that is no data."""
    if isinstance(data, InMemory):
        return data
    if isinstance(data, str):
        return require_one(data)
    if isinstance(data, os.PathLike):
        return spelled_path(data) if os.path.lexists(data) else os.fspath(data)
    name = f"{argument} array"
    if isinstance(data, np.ndarray):
        return InMemory(name, _numbers(data, name))
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, np.ndarray) for part in data):
        return InMemory(name, _numbers(data[0], name), _numbers(data[1], name, text=True))
    if isinstance(data, Mapping) and data and all(isinstance(part, np.ndarray) for part in data.values()):
        arrays = {str(key): _numbers(part, f"{name} {key}", key in LABELS) for key, part in data.items()}
        return InMemory(name, next(iter(arrays.values())), labels_in(arrays), arrays)
    held = f" of {', '.join(type(part).__name__ for part in data[:3])}" if isinstance(data, tuple) else ""
    ways = "a path or name, an array, the arrays (images, labels) or a dict of arrays"
    raise BadInput(f"{argument}: is a {type(data).__name__}{held}; give {ways}")


def maybe_given(data: Data | InMemory | None, argument: str = "data") -> Spec | None:
    return None if data is None else given(data, argument)


def spelled(data: Spec | None) -> str | None:
    """`data` as one word of a command line, which has no arrays."""
    if not isinstance(data, InMemory):
        return data
    return "ARRAY.npy" if data.arrays is None else "ARRAYS.npz"


def _numbers(array: Array, name: str, text: bool = False) -> Array:
    """`array`; raises `BadInput` where it is empty, or holds anything but numbers, or `text` where that may be."""
    if array.dtype.kind not in ("fiubU" if text else "fiub"):
        raise BadInput(f"{name}: holds {str(array.dtype)[:40]}, not numbers; give float32 or uint8 images")
    if array.size == 0:
        raise BadInput(f"{name}: is empty, shape {list(array.shape)}; give at least one image")
    return array
