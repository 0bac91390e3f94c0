"""Models side by side, each with what the user says of its pixels and classes, else with what another has on record.

    --preprocess, --labels   every side
    a bundle, or metadata    the side itself, and a side that says nothing: one network, one way to prepare its pixels

Test: tests/test_compared_models.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from edgecnn import doubts
from edgecnn.asked_size import at_size
from edgecnn.data.data_argument import Spec
from edgecnn.data.labels import Labels, for_each, read_labels
from edgecnn.data.picture_size import common_size
from edgecnn.data.pixels import read_preprocess, says_layout
from edgecnn.data.ready_arrays import unprepared
from edgecnn.data.samples import Feeds, Samples
from edgecnn.data.unreadable import of_unreadable
from edgecnn.given_model import is_file
from edgecnn.networks.assumptions import NOTHING, Assumed, sentence
from edgecnn.runners import Subject, open_subject, refuse_for_files
from runtimes.base import BadInput
from runtimes.execution.model_file import is_model_file
from runtimes.execution.shapes import ShapeText, parse_shapes
from runtimes.imaging.preprocess import Preprocess

if TYPE_CHECKING:
    from edgecnn.given_model import Source


class Told(Protocol):
    """What is asked of a model, opened for `evaluate`, `check` or `diff`."""

    @property
    def name(self) -> str: ...
    @property
    def preprocess(self) -> Preprocess | None: ...
    @property
    def carried(self) -> Preprocess | None: ...
    @property
    def assumed(self) -> Assumed: ...
    @property
    def said(self) -> str: ...


S = TypeVar("S", bound=Any)


def with_pixels(sides: Sequence[S], preprocess: str | None) -> list[S]:
    """`sides` that prepare pixels as `preprocess` says; None: as they do, or as one does that knows.

    Raises `BadInput` for a side that takes no pictures, or normalizes pixels itself.
    """
    if preprocess is not None:
        for side in sides:
            _require_floats(side, preprocess, sides)
        return [_saying(side, preprocess) for side in sides]
    donor = next((s.preprocess for s in sides if _knows(s)), None)
    return [_like(side, donor) if donor is not None and side.assumed.pixels else side for side in sides]


def _knows(side: Told) -> bool:
    """Pixels that a foreign model takes as they are say nothing of what it does with them."""
    recorded = side.preprocess is not None and (side.carried is not None or side.preprocess.floating)
    return recorded and not side.assumed.pixels


def _require_floats(side: Told, preprocess: str, sides: Sequence[Told]) -> None:
    """Raise `BadInput` for a side that normalizes pixels itself; the line says how the others will be given theirs."""
    if side.preprocess is None or side.preprocess.floating:
        return
    others = [other for other in sides if other is not side]
    as_this = [s.name for s in others if s.assumed.pixels and side.carried is not None]
    as_they_say = [s.name for s in others if s.name not in as_this]
    then = [f"{', '.join(as_this)} is then given its pixels normalized as they are there"] if as_this else []
    then += [f"{', '.join(as_they_say)} is then given its own"] if as_they_say else []
    tail = f": {', and '.join(then)}" if then else ""
    raise BadInput(f"--preprocess {preprocess}: {side.name} takes uint8 pixels and normalizes them; leave it out{tail}")


def _saying(side: S, preprocess: str) -> S:
    own = side.preprocess
    if own is None:
        raise BadInput(f"--preprocess {preprocess}: {side.name} takes no pictures of known size; leave it out")
    found = read_preprocess(preprocess, (own.channels, *own.size), own.input)
    said: S = replace(side, preprocess=found, assumed=side.assumed.but_pixels(says_layout(preprocess)))
    return said


def _like(side: S, donor: Preprocess) -> S:
    """`side`, whose preprocessing is a guess, with that of the `donor` where it takes as many channels."""
    own = side.preprocess
    assert own is not None
    if own.channels != donor.channels:
        return side
    floats = replace(donor, input=own.input)
    fitted = floats if floats.size == own.size else floats.at(own.size)
    said: S = replace(side, preprocess=fitted, assumed=side.assumed.but_pixels())
    return said


def size_of(sides: Sequence[Subject]) -> str | None:
    """`C,H,W` for a network that does not say its size, from another side that does; None where nothing is to be told.

    >>> size_of([])
    """
    lost = [side for side in sides if side.assumed.size and side.preprocess is not None]
    known = [s.preprocess for s in sides if s.preprocess is not None and not s.assumed.size]
    if not lost or not known or lost[0].preprocess == known[0]:
        return None
    return ",".join(map(str, (known[0].channels, *known[0].size)))


def opened(
    sources: Sequence[Source],
    weights: Path | None,
    input_shape: ShapeText | None,
    threads: int | None,
    decode: str | None = None,
    task: str | None = None,
    answer: str | int | None = None,
) -> list[Subject]:
    """The models that `sources` name or are; a network that does not say its size takes that of the model beside it.

    `decode` is the raw head that a network answers with, `task` what it is asked for, `answer` which of its outputs
    counts. Raises what the opening raises.
    """
    refuse_for_files(sources, decode, answer, weights)
    asked = partial(open_subject, weights=weights, threads=threads, decode=decode, task=task, answer=answer)
    subjects = [asked(source, input_shape=input_shape) for source in sources]
    if input_shape:
        return _sized(subjects, input_shape)
    size = size_of(subjects)
    if size is None:
        return subjects
    pairs = zip(subjects, sources, strict=True)
    return [subject if is_file(source) else asked(source, input_shape=size) for subject, source in pairs]


def _sized(subjects: Sequence[Subject], input_shape: ShapeText) -> list[Subject]:
    """`subjects`, whose files take inputs of the size asked for alone; raises `BadInput` for a name that none has."""
    files = [subject for subject in subjects if is_model_file(subject.name)]
    names = [info.name for subject in files for info in subject.inputs]
    if names and len(files) == len(subjects):  # a PyTorch network takes other names too
        parse_shapes(input_shape, names)
    return [replace(s, inputs=at_size(s.name, s.inputs, input_shape)) if is_model_file(s.name) else s for s in subjects]


def with_labels(sides: Sequence[Subject], labels: Labels | None, classes: Sequence[int | None]) -> list[Subject]:
    """`sides` with the class names in the file `labels`; None: with their own, or those of another with as many
    `classes`. Raises `BadInput` for a file that does not fit.
    """
    if labels is not None:
        names = read_labels(labels)  # once, as it may be a pipe
        return [replace(s, labels=for_each(names, n, labels)) for s, n in zip(sides, classes, strict=True)]
    donor = next(((s.labels, n) for s, n in zip(sides, classes, strict=True) if s.labels), ((), None))
    return [
        replace(s, labels=donor[0]) if not s.labels and n == len(donor[0]) else s
        for s, n in zip(sides, classes, strict=True)
    ]


def heard(side: Told, seen: object, data: Spec | None) -> str:
    """The line about what was assumed of `side`, fed with `seen`: samples, feeds of samples, or none of these."""
    samples = seen.samples if isinstance(seen, Feeds) else seen
    pictures = isinstance(samples, Samples) and not samples.as_is
    assumed = side.assumed if pictures else side.assumed.but_pixels(layout=True)
    if assumed == NOTHING or side.preprocess is None:
        return ""
    shape = (side.preprocess.channels, *side.preprocess.size)
    return sentence(side.name, shape, side.preprocess, assumed, common_size([data]) if assumed.size else None)


def all_heard(sides: Sequence[Told], seen: object, data: Spec | None, preprocess: str | None = None) -> tuple[str, ...]:
    samples = seen.samples if isinstance(seen, Feeds) else seen
    samples = None if data is None else samples  # what nobody gave, nobody need mend
    given = [samples] if isinstance(samples, Samples) else []
    odd = [line for one in given for s in sides for line in doubts.of_data(one, s.preprocess, s.assumed.pixels)]
    odd = [unprepared(preprocess, given), *odd, *of_unreadable(*given)]
    return doubts.told(*(heard(side, seen, data) for side in sides), *(side.said for side in sides), *odd)
