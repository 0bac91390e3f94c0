"""The heights and widths at which a model of open size works: many halve their maps, double them and join the two.

    97 x 161 asked for, built at 96 x 96 and on record "in steps of 32"    ->  96 x 160 is tried, and named if it runs
    nothing on record                                                      ->  multiples of 2, 4 ... 64, the nearest

Test: tests/test_open_sizes.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from runtimes.base import BadInput
from runtimes.bundle import Bundle
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import Session

Size = tuple[int, int]
STEPS = (2, 4, 8, 16, 32, 64)
_ON_RECORD = re.compile(r"heights and widths in steps of (\d{1,4})\b")


def require_size(bundle: Bundle, session: Session, ready: Preprocess, asked: str) -> None:
    """Raise `BadInput` where `session` does not run on what `ready` makes; it names the nearest size that it takes.

    `asked` is the size as the user wrote it.
    """
    if _runs(session, ready):
        return
    step = known_step(bundle)
    own = bundle.preprocess.size if bundle.preprocess is not None else ready.size
    near = next((size for size in nearest(ready.size, own, step) if _runs(session, ready.at(size))), None)
    height, width = ready.size
    takes = f"takes heights and widths in steps of {step}" if step else f"does not run at {height}x{width}"
    shown = ",".join(map(str, ready.at(near).shape)) if near is not None else ""
    way = f"{shown} works" if shown else "leave it out for the size that it was built for"
    raise BadInput(f"--input-shape {asked}: {bundle.path} {takes}; {way}")


def known_step(bundle: Bundle) -> int | None:
    """The step of its sizes that the export found, where it is on record."""
    stages = bundle.manifest.get("stages")
    notes = [str(stage.get("note")) for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []
    found = next((match for note in notes if (match := _ON_RECORD.search(note))), None)
    return int(found[1]) or None if found else None


def nearest(size: Size, own: Size, step: int | None) -> Iterator[Size]:
    """Sizes to try for `size`, the nearest first: whole steps from `own`, else multiples of growing numbers.

    >>> list(nearest((97, 161), (96, 96), 32)), next(nearest((97, 161), (96, 96), None))
    ([(96, 160)], (98, 162))
    """
    if step:
        yield _rounded(size[0], own[0] % step, step), _rounded(size[1], own[1] % step, step)
        return
    yield from (dict.fromkeys((_rounded(size[0], 0, s), _rounded(size[1], 0, s)) for s in STEPS))


def _rounded(size: int, rest: int, step: int) -> int:
    """The number nearest to `size` that leaves `rest` when divided by `step`, above 0."""
    found = (size - rest + step // 2) // step * step + rest
    return found if found > 0 else found + step


def _runs(session: Session, ready: Preprocess) -> bool:
    try:
        session({session.inputs[0].name: np.zeros((1, *ready.shape), ready.dtype)})
    except BadInput:
        return False
    return True
