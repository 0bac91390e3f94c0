"""Sets without the pictures that cannot be read: `--skip-unreadable`.

Pictures are read when a set is drawn, and others are drawn in the place of those that cannot be. A set of which more
cannot be read than can is refused. Test: tests/test_readable.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecnn.data.readable import first
from edgecnn.data.samples import Samples
from runtimes.base import Array, BadInput, Track, counted


def drawn(samples: Samples, order: Array, limit: int | None, sift: Track | None) -> Samples:
    """The first `limit` samples in `order`, in the order that they have in `samples`.

    Where `sift` is given, which shows how that goes on, each is read, the next in `order` takes the place of one that
    cannot be, and `unreadable` names these. Raises `BadInput` where none is left, or fewer than cannot be read.
    """
    wanted = len(order) if limit is None else min(limit, len(order))
    if sift is None:
        return samples.subset(np.sort(order[:wanted]))
    kept: list[int] = []
    broken: dict[int, str] = {}

    def look(i: int) -> None:
        try:
            samples.load(i)
            kept.append(i)
        except BadInput as error:
            broken[i] = str(error)

    for place in sift(range(wanted), "looking for pictures that cannot be read"):
        look(int(order[place]))
    for i in order[wanted:]:
        if len(kept) == wanted:
            break
        look(int(i))
    if len(broken) > len(kept) or not kept:
        of = counted(len(broken) + len(kept), "picture")
        first = broken[min(broken)] if broken else "there is none"
        raise BadInput(f"{samples.name}: {len(broken):,} of {of} cannot be read, which is too many to skip: {first}")
    left = samples.subset(np.sort(kept)) if broken or wanted < len(samples) else samples
    return replace(left, unreadable=tuple(samples.ids[i] for i in sorted(broken)))


def of_unreadable(*sets: Samples) -> tuple[str, ...]:
    """A line for each of `sets` of which pictures are left out."""
    return tuple(
        f"{samples.name}: {counted(len(names), 'picture is', 'pictures are')} left out that cannot be read: "
        f"{first(names)}"
        for samples in sets
        if (names := samples.unreadable)
    )


def unreadable_in(*sets: Samples) -> tuple[str, ...]:
    """The pictures that were left out of `sets`, each once."""
    return tuple(sorted({name for samples in sets for name in samples.unreadable}))
