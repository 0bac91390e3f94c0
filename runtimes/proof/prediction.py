"""Use a bundle: what it answers for images that are ready, as classes, a mask, boxes, points or a picture.

    Shown --ready--> model --outputs--> answer: Prediction | MaskPrediction | BoxesPrediction --save--> pictures
      `-- cannot be read: told with the others' answers, or raised where it is the only one

What the outputs mean is told by the bundle's task (runtimes/proof/answering.py). `edgecnn run` and `python NAME.edge
run` are this, and differ in what they take for images. Test: tests/test_predict.py.
"""

from __future__ import annotations

import os
from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from runtimes import bundle as bundles
from runtimes.base import Array, BadInput, Track, counted, silent
from runtimes.bundle import Bundle
from runtimes.execution.model_file import is_bundle, whereabouts
from runtimes.imaging.arrays import Rows
from runtimes.imaging.depth import MOST_LOOKED_AT, PLAIN, oddities
from runtimes.imaging.maps import is_whole
from runtimes.imaging.named import check_folder
from runtimes.imaging.shown import Shown, beyond_pixels
from runtimes.proof.answering import answer, answers, is_numbers, require_answers
from runtimes.proof.answers import (
    MULTI_LABEL,
    AnyPrediction,
    BoxesPrediction,
    LabelsPrediction,
    MaskPrediction,
    NumbersPrediction,
    PicturePrediction,
    Prediction,
)
from runtimes.proof.numbers import Keeping, files_of_numbers
from runtimes.proof.points import PointsPrediction
from runtimes.proof.sizes import at_size, ready_of
from runtimes.session import Session

__all__ = [
    "Given", "How", "RunReport", "Unread", "answer", "answers", "at_size", "gathered", "open_bundle", "opened_to_run",
    "ready_of", "run", "slim",
]  # fmt: skip

T = TypeVar("T")
P = TypeVar("P", bound=AnyPrediction)
ANSWERS = {
    Prediction: "classes", MaskPrediction: "masks", BoxesPrediction: "boxes", LabelsPrediction: "labels",
    NumbersPrediction: "numbers", PicturePrediction: "pictures", PointsPrediction: "points",
}  # fmt: skip
TOP, MIN_SCORE = 5, 0.3


@dataclass(frozen=True)
class Unread:
    """An input without an answer, and why: `error` is one line that begins with its file."""

    input: str
    error: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RunReport:
    bundle: str
    provider: str
    predictions: tuple[AnyPrediction, ...]
    warnings: tuple[str, ...] = ()
    """What a user should hear beside the answers."""
    unread: tuple[Unread, ...] = ()
    """The inputs that have no answer; the others have theirs."""

    @property
    def classes(self) -> tuple[Prediction, ...]:
        """`predictions` of a bundle that classifies; raises `BadInput` for another."""
        return self._of(Prediction)

    @property
    def masks(self) -> tuple[MaskPrediction, ...]:
        """`predictions` of a bundle that segments; raises `BadInput` for another."""
        return self._of(MaskPrediction)

    @property
    def boxes(self) -> tuple[BoxesPrediction, ...]:
        """`predictions` of a bundle that detects; raises `BadInput` for another."""
        return self._of(BoxesPrediction)

    @property
    def labels(self) -> tuple[LabelsPrediction, ...]:
        """`predictions` of a bundle whose labels do not exclude each other; raises `BadInput` for another."""
        return self._of(LabelsPrediction)

    @property
    def numbers(self) -> tuple[NumbersPrediction, ...]:
        """`predictions` of a bundle that answers with numbers; raises `BadInput` for another."""
        return self._of(NumbersPrediction)

    @property
    def pictures(self) -> tuple[PicturePrediction, ...]:
        """`predictions` of a bundle that answers with pictures; raises `BadInput` for another."""
        return self._of(PicturePrediction)

    @property
    def points(self) -> tuple[PointsPrediction, ...]:
        """`predictions` of a bundle that answers with points of one subject; raises `BadInput` for another."""
        return self._of(PointsPrediction)

    def _of(self, kind: type[P]) -> tuple[P, ...]:
        found = tuple(one for one in self.predictions if isinstance(one, kind))
        if len(found) < len(self.predictions):
            held = ANSWERS[type(self.predictions[0])]
            raise BadInput(f"{self.bundle}: answers with {held}, not with {ANSWERS[kind]}; read `.{held}`")
        return found

    @property
    def failures(self) -> tuple[BadInput, ...]:
        """What the command line says and exits with: one for each input that could not be read."""
        return tuple(BadInput(one.error) for one in self.unread)

    @property
    def verdict(self) -> str:
        lost = f"; {len(self.unread)} could not be read" if self.unread else ""
        return f"{counted(len(self.predictions), 'image')} through {self.bundle} on {self.provider}{lost}."

    def to_dict(self) -> dict[str, Any]:
        predictions = [prediction.to_dict() for prediction in self.predictions]
        return {"bundle": self.bundle, "provider": self.provider, "predictions": predictions,
                "failed": [one.to_dict() for one in self.unread], "warnings": list(self.warnings)}  # fmt: skip


@dataclass(frozen=True)
class How:
    """`top`: how many classes (None: `TOP`). `min_score`: of boxes (None: `MIN_SCORE`). `save`: a folder for pictures,
    written over with `force`. `require_all`: every node must run on `provider`. `each` is given every answer, and every
    input without one, as it comes; of answers the report holds what it returns, nothing of None.
    """

    provider: str = "cpu"
    threads: int | None = None
    require_all: bool = False
    top: int | None = None
    min_score: float | None = None
    save: str | os.PathLike[str] | None = None
    force: bool = False
    each: Callable[[AnyPrediction | Unread], AnyPrediction | Unread | None] = lambda one: one


Given = tuple[Sequence[Shown], list[Unread]]
"""The images of all inputs, and the inputs that are none."""


def gathered(sources: Iterable[T], shown: Callable[[T], Sequence[Shown]], called: Callable[[T], str]) -> Given:
    """What `shown` finds in each of the `sources`, which the user knows as `called` says."""
    parts, lost = list[Sequence[Shown]](), list[Unread]()
    for source in sources:
        try:
            parts.append(shown(source))
        except BadInput as error:
            lost.append(Unread(called(source), str(error)))
    ends = [0, *accumulate(map(len, parts))]

    def make(place: int) -> Shown:
        part = bisect(ends, place) - 1
        return parts[part][place - ends[part]]

    return Rows(ends[-1], make), lost


def slim(found: AnyPrediction | Unread) -> AnyPrediction | Unread:
    """`found` without what no table and no JSON holds: pixels of a mask or a picture, outputs as arrays."""
    if isinstance(found, MaskPrediction):
        return replace(found, mask=np.broadcast_to(np.uint8(0), found.mask.shape))
    if isinstance(found, PicturePrediction):
        return replace(found, picture=np.broadcast_to(np.uint8(0), found.picture.shape))
    return replace(found, arrays={}) if isinstance(found, NumbersPrediction) else found


def run(
    bundle: Bundle, inputs: Given, how: How, name: str, track: Track = silent, session: Session | None = None
) -> RunReport:
    """What `bundle`, which the user calls `name`, answers for every image of the `inputs`.

    `session`: its model, where that is open as `how` says; else it is opened once there is something to answer.
    Raises `BadInput` where none of them can be read, `Unavailable`, `CheckFailed`.
    """
    given, lost = inputs[0], list(inputs[1])
    for one in lost:
        how.each(one)
    _require_some(given, lost)
    files = _files(bundle, given, how.save, how.force)
    session = session or bundle.session(how.provider, how.threads)
    names = [info.name for info in session.inputs]
    top, least = TOP if how.top is None else how.top, MIN_SCORE if how.min_score is None else how.min_score
    found, answered, odd, doubt, kept = list[Any](), list[int](), "", "", Keeping()
    for i, image in enumerate(track(given, "answering")):
        try:
            feeds = image.feeds(names)
        except BadInput as error:
            lost.append(Unread(image.name, str(error)))
            how.each(lost[-1])
            continue
        if how.require_all and not answered:
            whereabouts(bundle, feeds, how.provider, how.threads).require_all(name)
        odd, doubt = odd or strange(image, feeds[names[0]]), doubt or image.doubt
        answered += [i] if len(answered) < MOST_LOOKED_AT else []
        told = answer(bundle, image, session(feeds), top, least)
        if isinstance(told, NumbersPrediction):
            told = kept.hold(told, files[i] if files else ())
        elif files:
            from runtimes.imaging.pictures import saved

            told = saved(told, image.pixels, files[i], bundle.labels)
        found += filter(None, [how.each(told)])
    _require_some(answered, lost)
    heard = (*idle(bundle, how, name), *filter(None, (odd, doubt)), *odd_pictures([given[i] for i in answered]))
    return RunReport(name, session.provider, tuple(found), heard, tuple(lost))


def _require_some(found: Sequence[object], lost: Sequence[Unread]) -> None:
    """Raise `BadInput` where nothing is found beside what is lost."""
    if lost and not found:
        more = f" (and {len(lost) - 1} more that cannot be read)" if len(lost) > 1 else ""
        raise BadInput(f"{lost[0].error}{more}")


def idle(bundle: Bundle, how: How, name: str) -> list[str]:
    """A line for each thing that was given of answers which `bundle`, called `name`, does not give."""
    of = {"--top": (how.top, "classification", "classes"), "--min-score": (how.min_score, "detection", "boxes")}
    line = "{} {}: does nothing, for {} answers with no {}"
    return [
        line.format(option, value, name, what)
        for option, (value, task, what) in of.items()
        if value is not None and bundle.task != task
    ]


def strange(image: Shown, ready: Array) -> str:
    """The line for an array whose numbers are not what the preprocessing of its bundle makes of pixels; else empty."""
    if image.original is not None or image.preprocess is None or ready.dtype.kind != "f":
        return ""
    return beyond_pixels(image.name, float(ready.min()), float(ready.max()), image.preprocess, "in this bundle")


def odd_pictures(images: Sequence[Shown]) -> tuple[str, ...]:
    """What should be heard of pictures of 16 bits or of several pages, of as many as are quickly looked at."""
    seen = [image for image in images if image.preprocess is not None]
    looks = [image.look() for image in seen]
    odd = [image.name for image, look in zip(seen, looks, strict=True) if look != PLAIN]
    if not odd:
        return ()
    assert seen[0].preprocess is not None
    name = odd[0] if len(odd) == 1 else f"{odd[0]} and {len(odd) - 1} more"
    return oddities(name, looks, seen[0].preprocess.white)


def _files(
    bundle: Bundle, given: Sequence[Shown], save: str | os.PathLike[str] | None, force: bool
) -> list[tuple[Path, ...]]:
    if save is None:
        return []
    if is_numbers(bundle):
        return files_of_numbers(Path(save), [image.name for image in given], force)
    kinds = {"classification": "classes", MULTI_LABEL: "labels"}
    if bundle.task in kinds:
        what = kinds[bundle.task]
        raise BadInput(
            f"--save {os.fspath(save)}: {bundle.path} answers with {what}, which are no pictures; leave it out"
        )
    from runtimes.imaging.pictures import files_for, require_pillow

    require_pillow()
    files = files_for(Path(save), [image.name for image in given], bundle.task)
    check_folder(Path(save), files, force)
    return files


def open_bundle(path: Path) -> Bundle:
    """The bundle in `path`; a model that is not packed yet is told from a damaged bundle. Raises `BadInput`."""
    if not is_bundle(path):
        raise BadInput(f"{path}: is no bundle; make one with `edgecnn build SOURCE -o NAME.edge --calib DATA`")
    return bundles.open_bundle(path)


def opened_to_run(path: Path, input_shape: str | None) -> Bundle:
    """The bundle in `path`, of which the manifest says that it has answers, to see images as `input_shape` says."""
    bundle = open_bundle(path)
    bundle = bundle if input_shape is None else at_size(bundle, input_shape)
    require_answers(bundle, _output_shape(bundle), whole=is_whole(bundle.manifest["output"].get("dtype", "float32")))
    return bundle


def _output_shape(bundle: Bundle) -> list[object]:
    shape = bundle.manifest["output"].get("shape")
    if not isinstance(shape, list):
        raise BadInput(f"{bundle.path}: manifest.json has no proper 'output'; build it again")
    return shape
