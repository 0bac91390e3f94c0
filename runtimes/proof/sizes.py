"""The heights and widths at which a model of open size works: many halve their maps, double them and join the two.

    49 x 63 asked for, "in steps of 2 from 48x64" on record    ->  48 x 62 is tried, and named if it runs
    nothing on record     ->  steps of 2, 4 ... 64 from the size it was built for and from 0, the nearest first

Test: tests/test_open_sizes.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from runtimes.base import BadInput
from runtimes.bundle import Bundle
from runtimes.execution.shapes import fitting
from runtimes.imaging.answered import in_own_size
from runtimes.imaging.open_sizes import OPEN
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.several import Several
from runtimes.imaging.shown import Ready
from runtimes.proof.answers import IMAGE
from runtimes.session import Session

Size = tuple[int, int]
STEPS = (2, 4, 8, 16, 32, 64)
_ON_RECORD = re.compile(r"heights and widths in steps of (\d{1,4}) from \d")
"""Without a size from which they are counted they are 32, the only ones that were tried, and smaller ones may do."""


def ready_of(bundle: Bundle) -> Ready | Several:
    """How images are made ready for `bundle`; the shape of a sample, or its several inputs, where it takes none.

    A network of open size that answers with pictures is shown each in its own size.
    """
    if bundle.several is not None:
        return bundle.several
    shape = bundle.manifest["input"]["shape"][1:]
    if bundle.preprocess is not None and bundle.task == IMAGE and are_open(shape):
        return in_own_size(bundle.preprocess, known_step(bundle))
    return bundle.preprocess or tuple(size if type(size) is int else OPEN for size in shape)


def require_size(bundle: Bundle, session: Session, ready: Preprocess, asked: str) -> None:
    """Raise `BadInput` where `session` does not run on what `ready` makes; it names the nearest size that it takes.

    `asked` is the size as the user wrote it.
    """
    if _runs(session, ready):
        return
    step = known_step(bundle)
    own = bundle.preprocess.size if bundle.preprocess is not None else ready.size
    near = next((size for size in nearest(ready.size, own, step) if _runs(session, ready.at(size))), None)
    takes = f"does not run at {_text(ready.size)}"
    if step and any((side - mine) % step for side, mine in zip(ready.size, own, strict=True)):
        takes = f"takes heights and widths in steps of {step} from {_text(own)}"
    shown = ",".join(map(str, ready.at(near).shape)) if near is not None else ""
    way = f"{shown} works" if shown else "leave it out for the size that it was built for"
    raise BadInput(f"--input-shape {asked}: {bundle.path} {takes}; {way}")


def at_size(bundle: Bundle, input_shape: str) -> Bundle:
    """`bundle`, its images made ready for a height and width that its model leaves open; `BadInput` if it does not."""
    if bundle.several is not None:
        raise BadInput(f"--input-shape {input_shape}: {bundle.path} takes {bundle.several.words}; leave it out")
    session, preprocess = bundle.session(), bundle.preprocess
    sizes = fitting(input_shape, session.inputs[0])
    last = preprocess is not None and preprocess.channels_last
    channels, size = (sizes[-1], sizes[:-1]) if last else (sizes[0], sizes[1:])
    if preprocess is None or len(size) != 2 or channels != preprocess.channels:
        raise BadInput(f"--input-shape {input_shape}: {bundle.path} takes no pictures; give arrays of that size")
    ready = preprocess.at((size[0], size[1]))
    require_size(bundle, session, ready, input_shape)
    fed = bundle.manifest["input"]
    fed = fed | {"shape": [fed["shape"][0], *ready.shape]}
    return replace(bundle, manifest={**bundle.manifest, "preprocess": ready.to_dict(), "input": fed})


def are_open(sizes: Sequence[object]) -> bool:
    """Whether a model that takes samples of these leaves height and width open."""
    return sum(not isinstance(size, int) for size in sizes) > 1


def known_step(bundle: Bundle) -> int | None:
    """The step of its sizes that the export found, where it is on record."""
    stages = bundle.manifest.get("stages")
    listed = stages if isinstance(stages, list) else []
    return step_in(str(stage.get("note")) for stage in listed if isinstance(stage, dict))


def step_in(notes: Iterable[str]) -> int | None:
    """The same among the `notes` of the stages that a model went through."""
    found = next((match for note in notes if (match := _ON_RECORD.search(note))), None)
    return int(found[1]) or None if found else None


def nearest(size: Size, own: Size, step: int | None) -> Iterator[Size]:
    """Sizes to try for `size`, the nearest first: whole steps from `own` and from 0, of `step` or what may be one.

    >>> list(nearest((97, 161), (96, 96), 32)), next(nearest((97, 161), (96, 96), None))
    ([(96, 160), (128, 192)], (98, 162))
    """

    def rounded(base: Size, step: int) -> Size:
        return _rounded(size[0], base[0] % step, step), _rounded(size[1], base[1] % step, step)

    def distance(other: Size) -> int:
        return abs(other[0] - size[0]) + abs(other[1] - size[1])

    steps = STEPS if step is None else [step, *(s for s in STEPS if s % step == 0)]
    from_own, from_zero = ([rounded(base, s) for s in steps] for base in (own, (0, 0)))
    firsts = [from_zero + from_own] if step is None else [from_own, from_zero]
    yield from dict.fromkeys(s for sizes in firsts for s in sorted(sizes, key=distance))


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


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
