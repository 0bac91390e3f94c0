"""Golden answers of several kinds of numbers, boxes in pixels beside scores: each kind has limits of its own.

    max_abs      =  max |original - model|                                      over the kind's numbers in all samples
    relative_l2  =  || original - model || / || original ||                     1: no better than zeros

One largest difference over everything is that of the pixels: scores that are all zero would pass. And a single score
that jumps, as int8 makes them, leaves a largest difference that zeros do not reach, nor any constant where numbers lie
in 0..1: so the whole of the kind is asked, too, and its limit stays below what zeros and the nearest constant have.
Numbers of one kind are one part. A part is an output, or slices of one where it holds several kinds
(runtimes/comparing/kinds.py). Test: tests/test_parts.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.base import Array
from runtimes.comparing.distance import difference
from runtimes.comparing.kinds import MOST_SLICES, Kind, KindSums


@dataclass(frozen=True)
class Part:
    """Slices `places` along `axis` of output number `output`; all of it where `axis` is None."""

    output: int
    axis: int | None = None
    places: tuple[int, ...] = ()

    def fits(self, outputs: Sequence[Array]) -> bool:
        """Whether `outputs` have the part."""
        if self.output >= len(outputs) or self.axis is None:
            return self.output < len(outputs)
        shape = outputs[self.output].shape
        return len(shape) == 3 and max(self.places) < shape[self.axis]

    def of(self, outputs: Sequence[Array]) -> Array:
        array = outputs[self.output]
        return array if self.axis is None else np.take(array, self.places, self.axis)

    def words(self, names: Sequence[str]) -> str:
        """
        >>> Part(0, 1, (4, 5, 6)).words(["det"]), Part(1).words(["boxes", "scores"])
        ('channels 4 to 6 of det', 'scores')
        """
        name = names[self.output] if self.output < len(names) else f"output {self.output}"
        return name if self.axis is None else f"{Kind(self.axis, self.places, 0, 0).words} of {name}"

    def to_dict(self) -> dict[str, Any]:
        return {"output": self.output, "axis": self.axis, "places": list(self.places)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Part:
        return cls(values["output"], values["axis"], tuple(values["places"]))


@dataclass(frozen=True)
class Apart:
    """How far a model is from the original in one part, and the size of the original's numbers: the largest, their root
    mean square, and their standard deviation, which is how far the nearest constant is from them.
    """

    part: Part
    max_abs: float
    relative_l2: float
    scale: float
    rms: float = 0.0
    std: float = 0.0


def parts_of(outputs: Sequence[Array]) -> tuple[Part, ...]:
    """The parts of the original's `outputs`: one where all its numbers are of one kind."""
    return tuple(part for place, array in enumerate(outputs) for part in _within(place, array))


def _within(place: int, array: Array) -> list[Part]:
    sums = KindSums()
    if array.dtype.kind == "f":
        sums.add(array, np.zeros_like(array))
    kinds = sorted(sums.kinds(), key=lambda kind: kind.places)
    return [Part(place, kind.axis, kind.places) for kind in kinds] or [Part(place)]


def apart(parts: Sequence[Part], outputs: Sequence[Array], found: Sequence[Array]) -> tuple[Apart, ...]:
    """`found` against the original's `outputs`, part by part; infinitely far for NaN, Inf, or another shape."""
    same = len(found) == len(outputs) and all(a.shape == b.shape for a, b in zip(outputs, found, strict=True))
    if not same or not all(part.fits(outputs) for part in parts):
        return tuple(Apart(part, math.inf, math.inf, 0.0) for part in parts)
    return tuple(_distance(part, part.of(outputs), part.of(found)) for part in parts)


def _distance(part: Part, want: Array, have: Array) -> Apart:
    numbers = want.astype(np.float64)
    scale = float(np.abs(numbers).max(initial=0.0))
    if not (np.isfinite(want).all() and np.isfinite(have).all()):
        return Apart(part, math.inf, math.inf, scale)
    gap = difference(want, have)
    noise, signal = (float(np.linalg.norm(value)) for value in (gap, numbers))
    relative = noise / signal if signal else (math.inf if noise else 0.0)
    rms, std = (signal / math.sqrt(want.size), float(numbers.std())) if want.size else (0.0, 0.0)
    return Apart(part, float(gap.max(initial=0.0)), relative, scale, rms, std)


def is_part(entry: object, limits: Sequence[str]) -> bool:
    """Whether `entry` of a manifest names a part and has numbers for its `limits`, the first of which it must have."""
    if not isinstance(entry, dict) or limits[0] not in entry:
        return False
    axis, places = entry.get("axis"), entry.get("places")
    given = [entry[key] for key in limits if key in entry]
    return (
        all(type(limit) in (int, float) and 0 <= limit < math.inf for limit in given)
        and (axis is None or axis in (1, 2))
        and isinstance(places, list)
        and len(places) <= MOST_SLICES
        and all(type(place) is int and 0 <= place < MOST_SLICES for place in [entry.get("output"), *places])
        and (axis is None or bool(places))
    )
