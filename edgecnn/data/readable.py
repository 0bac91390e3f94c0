"""Pictures that cannot be read: how many others there are beside the one that stops the work, and sets without them.

    not asked for         the first that is met ends the work; its line says how many others look broken
    --skip-unreadable     pictures are read when a set is drawn; others are drawn in the place of those that cannot be

A set of which more cannot be read than can is refused. Test: tests/test_readable.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtimes.base import Array, BadInput, Track, counted
from runtimes.imaging.images import decoded, has_pillow

if TYPE_CHECKING:
    from PIL import Image

    from edgecnn.data.samples import Samples

SECONDS = 4.0
"""For a look at the other pictures of a set."""
SHOWN = 3


def read(load: Callable[[int], Array], ids: Sequence[str], index: int) -> Array:
    """`load(index)`; a `BadInput` about that one of the files `ids` says how many others look broken."""
    try:
        return load(index)
    except BadInput as error:
        raise BadInput(f"{error}{others_broken(ids, index)}") from error


def others_broken(ids: Sequence[str], met: int) -> str:
    """`; 3 more of 100,000 look broken: a.jpg ...` of a set whose picture `met` cannot be read; empty for no other.

    Heads are looked at first, then whole pictures are decoded, as long as `SECONDS` last.
    """
    if not has_pillow() or not os.path.isfile(ids[met]):
        return ""
    found: dict[int, str] = {}
    until, looked = time.monotonic() + SECONDS, 0
    for look in (_verify, _decode):
        for i, name in enumerate(ids):
            if time.monotonic() > until:
                break
            looked = max(looked, i + 1)
            if i != met and i not in found and _is_broken(Path(name), look):
                found[i] = name
    if not found:
        return ""
    among = f"{len(ids):,}" if looked == len(ids) else f"the first {looked:,}"
    looks = "looks" if len(found) == 1 else "look"
    return f"; {len(found):,} more of {among} {looks} broken: {_first(sorted(found.values()))}"


def _is_broken(path: Path, look: Callable[[Image.Image], object]) -> bool:
    try:
        decoded(path, look)
    except BadInput:
        return True
    return False


def _verify(image: Image.Image) -> None:
    image.verify()


def _decode(image: Image.Image) -> None:
    image.load()


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
        f"{_first(names)}"
        for samples in sets
        if (names := samples.unreadable)
    )


def unreadable_in(*sets: Samples) -> tuple[str, ...]:
    """The pictures that were left out of `sets`, each once."""
    return tuple(sorted({name for samples in sets for name in samples.unreadable}))


def _first(names: Sequence[str]) -> str:
    """The first of the files `names` without the folders above their own: messages are short."""
    return ", ".join("/".join(Path(name).parts[-2:]) for name in names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
