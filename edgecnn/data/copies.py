"""Images that are there more than once: the same numbers as the network is fed them, whatever they are called.

    calibration   each of them once: a copy tells a range nothing
    judged        none that calibrated, where enough others are left; all others, but a copy is no evidence of its own

Images of which number i is there n_i times are worth (sum n_i)^2 / (sum n_i^2) different ones: the effective sample
size, by which the interval of a mean over all of them is that of so many independent ones.
Source: Kish 1965, "Survey Sampling". Only hashes are kept. Test: tests/test_copies.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from edgecnn.data.samples import Samples
from runtimes.base import Array, Tensors, Track, silent
from runtimes.execution.feeds import digest


def marks(samples: Samples, track: Track = silent) -> list[bytes]:
    """A hash of each of `samples`, with what further inputs are fed; each is made once."""
    places = track(range(len(samples)), "looking for copies")
    return [digest({"": samples[i], **{name: load(i) for name, load in samples.others.items()}}) for i in places]


def rows_of(feeds: Tensors) -> list[bytes]:
    """The same for each row of a batch."""
    rows = range(len(next(iter(feeds.values()))))
    return [digest({name: value[i] for name, value in feeds.items()}) for i in rows]


def groups_of(marks: Sequence[bytes]) -> Array | None:
    """int64 (N,): the same number for images with the same mark; None where all differ.

    >>> groups_of([b"a", b"b", b"a"]).tolist(), groups_of([b"a", b"b"])
    ([0, 1, 0], None)
    """
    found: dict[bytes, int] = {}
    groups = np.array([found.setdefault(mark, len(found)) for mark in marks], np.int64)
    return groups if len(found) < len(groups) else None


def worth(groups: Array | None, images: int) -> float:
    """How many different images the `images` in `groups` are worth.

    >>> worth(None, 30), worth(np.array([0, 0, 1, 1]), 4), round(worth(np.array([0, 0, 0, 1]), 4), 2)
    (30, 2.0, 1.6)
    """
    if groups is None:
        return images
    counts = np.bincount(groups)
    return float(counts.sum() ** 2 / (counts**2).sum())


def independent(samples: Samples) -> int:
    """The whole number of different images that `samples` are worth."""
    return int(worth(samples.groups, len(samples)))


def different(groups: Array | None, images: int) -> int:
    """How many of the `images` in `groups` are no copies of others."""
    return images if groups is None else len(np.unique(groups))


def distinct(samples: Samples) -> int:
    return different(samples.groups, len(samples))


def once(samples: Samples, track: Track = silent) -> tuple[Samples, frozenset[bytes]]:
    """(`samples`, each image once, in their order; the marks of these)."""
    groups = groups_of(found := marks(samples, track))
    if groups is None:
        return samples, frozenset(found)
    return samples.subset(np.sort(np.unique(groups, return_index=True)[1])), frozenset(found)


def apart(samples: Samples, used: Collection[bytes], least: int, track: Track = silent) -> tuple[Samples, int, int]:
    """(`samples`, copies of one another marked, without those in `used`; how many were left out; how many are among
    them). None is left out where fewer than `least` different others would remain.
    """
    found = marks(samples, track)
    others = [i for i, mark in enumerate(found) if mark not in used]
    repeated, left = len(found) - len(others), [found[i] for i in others]
    if not repeated or len(set(left)) < least:
        return replace(samples, groups=groups_of(found)), 0, repeated
    return replace(samples.subset(others), groups=groups_of(left)), repeated, 0
