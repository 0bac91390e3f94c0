"""A sized, lazy sequence of images ready for a network, with or without labels; and how it is cut in two.

Whatever the images come from (`edgecnn/data.py`), a sample is float32 (C, H, W) and is made when it is asked for, so a
folder of a million photographs costs a list of names. Test: tests/test_data.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from runtimes import plugins
from runtimes.base import Array, BadInput, Tensors
from runtimes.preprocess import Preprocess

TEST_SHARE = 0.2
SPLIT_SEED = 0


Ready = Preprocess | tuple[int, ...]
"""How images are made ready, or, for a network that takes none, the shape of one sample that is ready as it is."""


@dataclass(frozen=True)
class Samples:
    """`samples[i]` is float32 (C, H, W), made on demand. `labels` int64 (N,) index `class_names`, or None."""

    name: str
    ids: tuple[str, ...]
    load: Callable[[int], Array]
    labels: Array | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Array:
        if not 0 <= index < len(self):
            raise IndexError(index)
        value = self.load(index)
        if not np.isfinite(value).all():
            raise BadInput(f"{self.ids[index]}: holds NaN or infinity; mend or remove it")
        return value

    def subset(self, indices: Sequence[int] | Array) -> Samples:
        """The samples at `indices`, in that order."""
        picked = [int(i) for i in indices]
        labels = None if self.labels is None else self.labels[picked]
        ids = tuple(self.ids[i] for i in picked)
        return replace(self, ids=ids, load=lambda i: self.load(picked[i]), labels=labels)

    def with_labels(self, names: Sequence[str]) -> Samples:
        """The same samples, their labels counted as a network with the answers `names` counts them.

        A folder that lacks some of the classes numbers the others differently: match by name, or raise `BadInput`.
        """
        if self.labels is None or not names or tuple(names) == self.class_names:
            return self
        for name in self.class_names:
            if name not in names:
                raise BadInput(f"{self.name}: {plugins.unknown(name, names, 'class')}")
        place = np.array([list(names).index(name) for name in self.class_names])
        return replace(self, labels=place[self.labels], class_names=tuple(names))

    def stack(self) -> Array:
        """All samples at once, float32 (N, C, H, W); for data that fits into memory."""
        return np.stack([self[i] for i in range(len(self))])

    def feeds(self, input_name: str, batch: int = 1) -> Feeds:
        """Batches for the network's input `input_name`, to be walked through as often as needed."""
        return Feeds(self, input_name, batch)

    def batches(self, input_name: str, batch: int = 1) -> Iterator[Tensors]:
        return iter(self.feeds(input_name, batch))


@dataclass(frozen=True)
class Feeds(Sequence[Tensors]):
    """A sequence of `{input_name: float32 (batch, C, H, W)}`, decoded on demand; the last batch may be smaller."""

    samples: Samples
    input_name: str
    batch: int

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch)

    @overload
    def __getitem__(self, index: int) -> Tensors: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensors]: ...
    def __getitem__(self, index: int | slice) -> Tensors | list[Tensors]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        first = range(len(self))[index] * self.batch
        return {self.input_name: self.samples.subset(range(first, min(first + self.batch, len(self.samples)))).stack()}


def split_off(samples: Samples, split: str) -> Samples:
    """`samples`, or one of two disjoint parts of it: of every class one fifth (at least one) is `test`."""
    if split == "all":
        return samples
    order = np.random.default_rng(SPLIT_SEED)
    groups = np.zeros(len(samples), int) if samples.labels is None else samples.labels
    test = np.zeros(len(samples), bool)
    for group in np.unique(groups):
        members = order.permutation(np.flatnonzero(groups == group))
        test[members[: max(1, round(TEST_SHARE * len(members)))]] = True
    picked = np.flatnonzero(test if split == "test" else ~test)
    if not len(picked):
        raise BadInput(f"{samples.name}: has too few samples to split; give at least two of each class")
    return samples.subset(picked)
