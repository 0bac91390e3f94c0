"""Data for a network of several inputs: under the name of each input an array, in which row i belongs to sample i.

    pairs.npz     image (N, 3, 32, 32)   meta (N, 4)   y (N,)     -->  sample i: {image: row i, meta: row i}, class y[i]
    {"image": ..., "meta": ..., "y": ...}                              the same in memory
    random, random:N                                                   seeded noise for every input

Nothing is made ready: arrays hold what the network is fed. Of pictures nobody could tell which input they belong to.
Test: tests/test_several.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecnn.data.built_in import built_in
from edgecnn.data.classes import answered, labels_in
from edgecnn.data.given import InMemory, Spec
from edgecnn.data.noise import RANDOM, noise
from edgecnn.data.samples import Samples
from runtimes.base import Array, BadInput
from runtimes.execution.feeds import TensorInfo
from runtimes.imaging.arrays import read_npz
from runtimes.imaging.shown import finite
from runtimes.session import random_feeds


@dataclass(frozen=True)
class Several:
    """The `inputs` of a network that has several; all sizes but the batch are known."""

    inputs: tuple[TensorInfo, ...]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample, without the batch, by input."""
        return {info.name: tuple(size for size in info.shape[1:] if isinstance(size, int)) for info in self.inputs}

    @property
    def words(self) -> str:
        return ", ".join(
            f"{info.name} {info.dtype} [{', '.join(map(str, ('N', *info.shape[1:])))}]" for info in self.inputs
        )


def several(name: str, inputs: Sequence[TensorInfo]) -> Several:
    """What the model `name` of several `inputs` is fed; raises `BadInput` where a size other than the batch is open."""
    found = Several(tuple(inputs))
    for info in inputs:
        if not info.shape or len(found.shapes[info.name]) != len(info.shape) - 1:
            sizes = ", ".join("?" if size is None else str(size) for size in info.shape)
            way = "fix it: `edgecnn simplify --input-shape`" if info.shape else "data has a row for each sample"
            raise BadInput(
                f"{name}: its input {info.name} is [{sizes}]; data needs known sizes behind the batch, {way}"
            )
    return found


def load_several(spec: Spec, wanted: Several, seed: int, as_truth: bool | None = False) -> Samples:
    """The samples in `spec` for all inputs of `wanted`; raises `BadInput` in one line for what does not fit."""
    if isinstance(spec, InMemory):
        if spec.arrays is None:
            raise BadInput(f"{spec.name}: is one array; the model takes {wanted.words}; give a dict of arrays by input")
        return _samples(spec.name, spec.arrays, spec.labels, wanted, as_truth)
    named = built_in(spec)
    if named is not None and named.partition(":")[0] == RANDOM:
        return _noise(named, wanted, seed)
    if named is None and Path(spec).suffix == ".npz":
        arrays = read_npz(Path(spec))
        taken = {info.name for info in wanted.inputs}
        labels = labels_in({k: v for k, v in arrays.items() if k not in taken})
        return _samples(spec, arrays, labels, wanted, as_truth)
    raise BadInput(f"{spec}: the model takes {wanted.words}; give an .npz file with an array for each, or random")


def _samples(
    name: str, arrays: Mapping[str, Array], labels: Array | None, wanted: Several, as_truth: bool | None
) -> Samples:
    rows = {info.name: _fitting(name, arrays, info, wanted) for info in wanted.inputs}
    counts = {key: len(values) for key, values in rows.items()}
    if len(set(counts.values())) > 1:
        raise BadInput(
            f"{name}: holds {', '.join(f'{n} rows of {key}' for key, n in counts.items())}; give as many of each"
        )
    first, *more = rows
    ids = tuple(f"{name}[{i}]" for i in range(counts[first]))
    others = {key: _reader(rows[key], f"{name}: {key}") for key in more}
    samples = Samples(name, ids, _reader(rows[first], f"{name}: {first}"), as_is=True, others=others)
    return answered(samples, labels, as_truth)


def _fitting(name: str, arrays: Mapping[str, Array], info: TensorInfo, wanted: Several) -> Array:
    """The array of one input; raises `BadInput` where there is none, or of another shape or kind of numbers."""
    values = arrays.get(info.name)
    if values is None:
        held = ", ".join(sorted(arrays)[:6]) or "no arrays"
        raise BadInput(f"{name}: holds {held}; the model takes {wanted.words}: name the arrays after its inputs")
    dtype = np.dtype(info.dtype)
    shape = wanted.shapes[info.name]
    alike = values.dtype.kind == dtype.kind or (values.dtype.kind in "iu" and dtype.kind in "iu")
    if not alike or values.shape[1:] != shape or not values.size:
        needed = f"{info.dtype} [{', '.join(map(str, ('N', *shape)))}]"
        raise BadInput(
            f"{name}: {info.name} is {values.dtype} {list(values.shape)}; the model is fed {needed} as it is"
        )
    cast: Array = values.astype(dtype)
    return cast


def _reader(values: Array, name: str) -> Callable[[int], Array]:
    return lambda i: finite(np.ascontiguousarray(values[i]), f"{name}[{i}]")


def _noise(spec: str, wanted: Several, seed: int) -> Samples:
    """Samples of normal noise, or of whole numbers where an input takes these."""
    fixed = tuple(TensorInfo(i.name, i.dtype, (1, *i.shape[1:])) for i in wanted.inputs)
    names = [info.name for info in wanted.inputs]

    def made(name: str) -> Callable[[int], Array]:
        return lambda i: np.asarray(random_feeds(fixed, 1, seed * 1_000_003 + i)[name][0])

    return noise(spec, seed, made(names[0]), {name: made(name) for name in names[1:]})
