"""What a network of several inputs is fed: under the name of each an array, which goes to it as it is.

    image (N, 3, 32, 32), meta (N, 4)     N samples: row i of each belongs to sample i
    image (3, 32, 32),    meta (4,)       one sample

Nothing is made ready: of a picture nobody could tell which input it belongs to. Test: tests/test_several.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.execution.feeds import TensorInfo


@dataclass(frozen=True)
class Several:
    """The `inputs` of a network that has several; all sizes but the batch are known."""

    inputs: tuple[TensorInfo, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(info.name for info in self.inputs)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample, without the batch, by input."""
        return {info.name: tuple(size for size in info.shape[1:] if isinstance(size, int)) for info in self.inputs}

    @property
    def words(self) -> str:
        return ", ".join(
            f"{info.name} {info.dtype} [{', '.join(map(str, ('N', *info.shape[1:])))}]" for info in self.inputs
        )

    @classmethod
    def told(cls, inputs: Sequence[Mapping[str, Any]]) -> Several:
        """Of the entries of a manifest."""
        return cls(tuple(TensorInfo(entry["name"], entry["dtype"], tuple(entry["shape"])) for entry in inputs))

    def is_one(self, arrays: Mapping[str, Array]) -> bool:
        """Whether `arrays` are one sample, without the batch."""
        return all(name in arrays and arrays[name].ndim == len(shape) for name, shape in self.shapes.items())

    def rows(self, name: str, arrays: Mapping[str, Array], one: bool = False) -> dict[str, Array]:
        """The array (N, ...) of each input; raises `BadInput`, which begins with `name`, for what does not fit.

        `one`: a sample without the batch is taken, too.
        """
        gone = [key for key in self.names if key not in arrays]
        if gone:  # before any shape: without it a single sample looks like a batch that does not fit
            held = f"{', '.join(sorted(arrays)[:6]) or 'no arrays'}, no {' and no '.join(gone)}"
            raise BadInput(f"{name}: holds {held}; the model takes {self.words}: name the arrays after its inputs")
        if one and self.is_one(arrays):
            arrays = {key: value[None] for key, value in arrays.items()}
        found = {info.name: self._fitting(name, arrays, info) for info in self.inputs}
        counts = {key: len(values) for key, values in found.items()}
        if len(set(counts.values())) > 1:
            raise BadInput(
                f"{name}: holds {', '.join(f'{n} rows of {key}' for key, n in counts.items())}; give as many of each"
            )
        return found

    def _fitting(self, name: str, arrays: Mapping[str, Array], info: TensorInfo) -> Array:
        """The array of one input; raises `BadInput` where it is of another shape or kind of numbers."""
        values, dtype, shape = arrays[info.name], np.dtype(info.dtype), self.shapes[info.name]
        alike = values.dtype.kind == dtype.kind or (values.dtype.kind in "iu" and dtype.kind in "iu")
        if not alike or values.shape[1:] != shape or not values.size:
            needed = f"{info.dtype} [{', '.join(map(str, ('N', *shape)))}]"
            raise BadInput(
                f"{name}: {info.name} is {values.dtype} {list(values.shape)}; the model is fed {needed} as it is"
            )
        with np.errstate(over="ignore"):  # an overflow becomes infinity, which is refused by name
            cast: Array = values.astype(dtype)
        return cast
