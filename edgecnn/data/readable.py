"""A picture that cannot be read ends the work; its line says how many others of the set look broken.

`--skip-unreadable` goes on without them: unreadable.py. Test: tests/test_readable.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtimes.base import Array, BadInput
from runtimes.imaging.images import decoded, has_pillow

if TYPE_CHECKING:
    from PIL import Image

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
    return f"; {len(found):,} more of {among} {looks} broken: {first(sorted(found.values()))}"


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


def first(names: Sequence[str]) -> str:
    """The first of the files `names` without the folders above their own: messages are short."""
    return ", ".join("/".join(Path(name).parts[-2:]) for name in names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
