"""A few images that stand for all, where what is looked at first lies at the front: golden samples, their pictures.

    classes         one of each in turn, in their order, then a second one of each ...
    boxes           those that have some, in the order of anything else, then the others
    anything else   the first, the middle, the quarters, the eighths ... of all: any few of them are spread

The second is the sequence of van der Corput (1935), the bits of 0, 1, 2 ... mirrored at the point.
Test: tests/test_spread.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from edgecnn.data.samples import Samples, Target
from runtimes.base import Array


def spread(samples: Samples, count: int) -> Samples:
    """At most `count` of `samples`, the same ones every time."""
    order = halves(len(samples)) if samples.labels is None else in_turn(samples.labels)
    order = order if samples.targets is None else full_first(order, samples.targets, count)
    return samples.subset(list(islice(order, count)))


def full_first(order: Iterable[int], targets: Sequence[Target], count: int) -> Iterator[int]:
    """The places in `order` whose targets have boxes, then the others; after `count` of the first nothing is read."""
    empty = []
    for place in order:
        if count and len(targets[place].boxes):
            count -= 1
            yield place
        else:
            empty.append(place)
    yield from empty


def halves(length: int) -> Iterator[int]:
    """All of 0 to `length` - 1, each once, so that the first few of them are spread over all.

    >>> list(halves(8))
    [0, 4, 2, 6, 1, 5, 3, 7]
    """
    bits, before = max(length - 1, 0).bit_length(), set[int]()
    for i in range(length and 1 << bits):
        place = (int(f"{i:0{bits}b}"[::-1], 2) if bits else 0) * length >> bits
        if place not in before:
            before.add(place)
            yield place


def in_turn(labels: Array) -> Iterator[int]:
    """Places of `labels` (N,): the first of every class, then the second of every class ...

    >>> list(in_turn(np.array([2, 2, 0, 2, 0])))
    [2, 0, 4, 1, 3]
    """
    order = np.argsort(labels, kind="stable")
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    for turn in range(counts.max(initial=0)):
        yield from (int(place) for place in order[first[counts > turn] + turn])
