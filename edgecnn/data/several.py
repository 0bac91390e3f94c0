"""Data for a network of several inputs: under the name of each input an array, in which row i belongs to sample i.

    pairs.npz     image (N, 3, 32, 32)   meta (N, 4)   y (N,)     -->  sample i: {image: row i, meta: row i}, class y[i]
    {"image": ..., "meta": ..., "y": ...}                              the same in memory
    random, random:N                                                   seeded noise for every input

Nothing is made ready: arrays hold what the network is fed. Of pictures nobody could tell which input they belong to.
Test: tests/test_several.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgecnn.data.built_in import built_in
from edgecnn.data.classes import answered, labels_in
from edgecnn.data.data_argument import InMemory, Spec
from edgecnn.data.noise import RANDOM, noise
from edgecnn.data.samples import Samples
from runtimes.base import Array, BadInput, counted
from runtimes.execution.feeds import TensorInfo
from runtimes.imaging.arrays import read_npz
from runtimes.imaging.several import Several
from runtimes.imaging.shown import finite
from runtimes.session import random_feeds


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


def lost_in(inputs: Sequence[TensorInfo]) -> str:
    """The hint that some of several `inputs` are no inputs: of fixed size beside one of open batch, or called like a
    tensor inside TensorFlow's graph. Empty where none looks so.

    >>> lost_in([TensorInfo("x", "float32", ("N", 8, 8, 3)), TensorInfo("m/Sub/y:0", "float32", (1, 1, 1, 3))])[:44]
    'Sub/y:0 looks like a constant that the conve'
    """
    fixed = {info.name for info in inputs if all(isinstance(size, int) for size in info.shape)}
    inner = {info.name for info in inputs if "/" in info.name}
    lost = [info.name for info in inputs if any(len(s) < len(inputs) and info.name in s for s in (fixed, inner))]
    if not lost:
        return ""
    one, more = "/".join(lost[0].split("/")[-2:]), lost[1:]
    looks = f"{one} and {counted(len(more), 'other')} look like constants" if more else f"{one} looks like a constant"
    way = "convert again with tf2onnx.convert.from_keras (docs/tensorflow.md)"
    return f"{looks} that the converter lost: {way}"


def load_several(spec: Spec, wanted: Several, seed: int, as_truth: bool | None = False) -> Samples:
    """The samples in `spec` for all inputs of `wanted`; raises `BadInput` in one line for what does not fit."""
    try:
        return _loaded(spec, wanted, seed, as_truth)
    except BadInput as error:
        lost = lost_in(wanted.inputs)
        raise BadInput(f"{error}; {lost}") if lost else error from None


def _loaded(spec: Spec, wanted: Several, seed: int, as_truth: bool | None) -> Samples:
    if isinstance(spec, InMemory):
        if spec.arrays is None:
            raise BadInput(f"{spec.name}: is one array; the model takes {wanted.words}; give a dict of arrays by input")
        return _samples(spec.name, spec.arrays, _labels(spec, wanted), wanted, as_truth)
    named = built_in(spec)
    if named is not None and named.partition(":")[0] == RANDOM:
        return _noise(named, wanted, seed)
    if named is None and Path(spec).suffix == ".npz":
        arrays = read_npz(Path(spec))
        return _samples(spec, arrays, _beside(arrays, wanted), wanted, as_truth)
    raise BadInput(f"{spec}: the model takes {wanted.words}; give an .npz file with an array for each, or random")


def _labels(spec: InMemory, wanted: Several) -> Array | None:
    """Those of the arrays in memory, or of the set that they are used with; no input is taken for labels."""
    own = None if spec.arrays is None else labels_in(spec.arrays)
    return _beside(spec.arrays or {}, wanted) if own is spec.labels else spec.labels


def _beside(arrays: Mapping[str, Array], wanted: Several) -> Array | None:
    """The labels among `arrays`: an input may have their name."""
    return labels_in({name: values for name, values in arrays.items() if name not in wanted.names})


def _samples(
    name: str, arrays: Mapping[str, Array], labels: Array | None, wanted: Several, as_truth: bool | None
) -> Samples:
    return answered(of_rows(name, arrays, wanted), labels, as_truth)


def of_rows(name: str, arrays: Mapping[str, Array], wanted: Several) -> Samples:
    """Samples without answers; raises `BadInput` where the `arrays` do not fit."""
    rows = wanted.rows(name, arrays)
    first, *more = rows
    ids = tuple(f"{name}[{i}]" for i in range(len(rows[first])))
    others = {key: _reader(rows[key], f"{name}: {key}") for key in more}
    return Samples(name, ids, _reader(rows[first], f"{name}: {first}"), as_is=True, others=others)


def _reader(values: Array, name: str) -> Callable[[int], Array]:
    return lambda i: finite(np.asarray(values[i], order="C"), f"{name}[{i}]")


def _noise(spec: str, wanted: Several, seed: int) -> Samples:
    """Samples of normal noise, or of whole numbers where an input takes these."""
    fixed = tuple(TensorInfo(i.name, i.dtype, (1, *i.shape[1:])) for i in wanted.inputs)
    names = [info.name for info in wanted.inputs]

    def made(name: str) -> Callable[[int], Array]:
        return lambda i: np.asarray(random_feeds(fixed, 1, seed * 1_000_003 + i)[name][0])

    return noise(spec, seed, made(names[0]), {name: made(name) for name in names[1:]})
