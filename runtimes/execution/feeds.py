"""What a model wants to be fed: its inputs as records, seeded feeds for them, and one sentence when a feed is wrong.

    TensorInfo(name, dtype, shape)  --random_feeds-->  {name: array}        --complaint-->  None, or what does not fit
                                                       {name: array}        --digest----->  a hash of all of it

Test: tests/test_session.py.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes import plugins
from runtimes.base import Array, BadInput, Tensors
from runtimes.imaging.preprocess import layout_of

AXES = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}
"""What the axes of an input are called that is no picture with channels last."""
MAX_FEED_BYTES = 2**30


@dataclass(frozen=True)
class TensorInfo:
    """A graph input or output. `dtype` is numpy's name of it; a dimension is a number, a symbol, or None if unknown."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


def random_feeds(
    inputs: tuple[TensorInfo, ...],
    batch: int = 1,
    seed: int = 0,
    sizes: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, Array]:
    """Seeded feeds: standard normal for floats, 0 or 1 for wide integers and bools, the whole range for 8-bit ones.

    A symbolic first dimension becomes `batch`; other symbolic dimensions must come from `sizes` (input name -> shape).
    Raises `BadInput` for an open dimension, a shape that does not fit, and more than 1 GiB in all.
    """
    sizes = sizes or {}
    known = [info.name for info in inputs]
    for name in sizes:
        if name not in known:
            raise BadInput(plugins.unknown(name, known, "input"))
    shapes = {info.name: _fixed_shape(info, batch, sizes.get(info.name)) for info in inputs}
    total = sum(math.prod(shapes[i.name]) * _dtype(i).itemsize for i in inputs)
    if total > MAX_FEED_BYTES:
        raise BadInput(f"inputs: {total / 2**20:,.0f} MiB asked for, the limit is 1,024; use a smaller batch or shape")
    rng = np.random.default_rng(seed)
    return {info.name: _random(rng, _dtype(info), shapes[info.name]) for info in inputs}


def digest(feeds: Tensors) -> bytes:
    """A hash of `feeds`: the same for the same numbers under the same names, and for no others."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(feeds):
        value = feeds[name]
        found.update(f"{name}{value.dtype}{value.shape}".encode())
        found.update(value.tobytes())
    return found.digest()


def complaint(inputs: tuple[TensorInfo, ...], feeds: Tensors) -> str | None:
    """What is wrong with `feeds` for these `inputs`, in one sentence; None when names, types and shapes fit."""
    known = [info.name for info in inputs]
    for name in feeds:
        if name not in known:
            return plugins.unknown(name, known, "input")
    for info in inputs:
        if info.name not in feeds:
            return f"input {info.name} is missing; it wants {_wanted(info)}"
        value = feeds[info.name]
        if not isinstance(value, np.ndarray):
            return f"input {info.name} wants {_wanted(info)}, got a {type(value).__name__}; give an array"
        if value.dtype.name != info.dtype or not _fits(info.shape, value.shape):
            got = f"{value.dtype.name} {list(value.shape)}"
            return f"input {info.name} wants {_wanted(info)}, got {got}; convert or reshape it"
    return None


def require_sizes(inputs: tuple[TensorInfo, ...], sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `BadInput` for `sizes` (by input name) that one of `inputs` does not take."""
    for info in inputs:
        given = sizes.get(info.name)
        if given is not None and (not _fits(info.shape, given) or min(given, default=1) < 1):
            wants = f"input {info.name} wants {_wanted(info)}, the shape given is {list(given)}"
            raise BadInput(f"{wants}; give an --input-shape that fits")


def _fits(wanted: tuple[int | str | None, ...], got: tuple[int, ...]) -> bool:
    return len(wanted) == len(got) and all(not isinstance(w, int) or w == g for w, g in zip(wanted, got, strict=True))


def _wanted(info: TensorInfo) -> str:
    return f"{info.dtype} [{', '.join('?' if d is None else str(d) for d in info.shape)}]"


def _dtype(info: TensorInfo) -> np.dtype[Any]:
    try:
        dtype = np.dtype(info.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        raise BadInput(f"input {info.name}: no random values for type {info.dtype}; give real data")
    return dtype


def _fixed_shape(info: TensorInfo, batch: int, given: tuple[int, ...] | None) -> tuple[int, ...]:
    if given is not None:
        require_sizes((info,), {info.name: given})
        return tuple(given)
    first = info.shape[0] if info.shape else None
    if batch != 1 and isinstance(first, int) and first != batch:
        raise BadInput(f"input {info.name}: the batch is fixed to {first}, not {batch}; export it with a dynamic one")
    shape = tuple(batch if i == 0 and not isinstance(d, int) else d for i, d in enumerate(info.shape))
    if not all(isinstance(d, int) for d in shape):
        raise BadInput(f"input {info.name}: {_wanted(info)} is open; fix it with --input-shape {_spelled(info)}")
    return tuple(int(d) for d in shape if d is not None)


def _spelled(info: TensorInfo) -> str:
    """What to type for the shape of `info`: `x:N,C,H,W`, with channels last `x:N,H,W,C`."""
    letters = layout_of(info.shape[1:]) or AXES.get(len(info.shape), "")
    return f"{info.name}:{','.join(letters) or 'SIZES'}"


def _random(rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    if dtype.kind == "f":
        return rng.standard_normal(shape, np.float32).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return rng.integers(0, 2, shape).astype(dtype)
