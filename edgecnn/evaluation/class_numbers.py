"""How a detector numbers the classes that it answers with, which no tensor says: told by the numbers themselves.

    index        label k is class k                                        YOLO, SSD, the zoo
    ids          label k is the category whose id is k                     torchvision on COCO: 1 to 90, with gaps
    background   label k is class k - 1, for 0 is background               torchvision on PASCAL VOC: 1 to 20

A reading is possible where it has a class for every label answered. The first of them that is possible counts, the
index where none is. Another one than the index, and a reading that is worth more, are said; a score decides nothing.
Names in the model's own order (`--labels`) settle it, for then all is by name. Test: tests/test_class_numbers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgecnn.data.samples import Samples
from edgecnn.evaluation.average_precision import Found
from edgecnn.evaluation.scores import Score
from runtimes.base import Array, counted

INDEX, IDS, BACKGROUND = "index", "ids", "background"
REMEDY = "--labels FILE with the model's names, one for each number from 0, settles it"
NO_CLASS = ("background", "bg", "none")
Worth = Callable[[Sequence[Found]], float]


@dataclass(frozen=True)
class Reading:
    """`classes` maps a label to its class; None: labels are classes, those beyond the `count` named without a name."""

    name: str
    count: int
    classes: Mapping[int, int] | None = None

    @property
    def words(self) -> str:
        return {
            INDEX: f"as indices (0 to {self.count - 1})",
            IDS: "as the category ids of the data",
            BACKGROUND: f"as 1 to {self.count} after the background",
        }[self.name]

    @property
    def table(self) -> dict[int, int]:
        return {i: i for i in range(self.count)} if self.classes is None else dict(self.classes)

    def fits(self, labels: Sequence[int]) -> bool:
        return set(labels) <= set(self.table)

    def of(self, found: Sequence[Found]) -> list[Found]:
        """`found` with its labels as classes; a label that stands for none is no answer."""
        return list(found) if self.classes is None else [self._one(answer) for answer in found]

    def _one(self, answer: Found) -> Found:
        assert self.classes is not None
        places = np.array([self.classes.get(int(k), -1) for k in answer.labels], np.int64)
        kept: Array = places >= 0
        return Found(answer.boxes[kept], answer.scores[kept], places[kept])


@dataclass(frozen=True)
class Numbers:
    """The reading `taken`; `why`, and mAP by each reading, where that was in question."""

    taken: Reading
    why: str = ""
    worth: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"read_as": self.taken.name, "why": self.why, "map_by_reading": dict(self.worth)}


def readings(samples: Samples) -> list[Reading]:
    """The different readings that there are of labels for the classes of `samples`, the index first."""
    names, count = samples.class_names, len(samples.class_names)
    found = [Reading(INDEX, count)]
    if samples.category_ids:
        found.append(Reading(IDS, count, {k: i for i, k in enumerate(samples.category_ids) if k is not None}))
    if names and names[0].strip("_ ").lower() not in NO_CLASS:
        found.append(Reading(BACKGROUND, count, {i + 1: i for i in range(count)}))
    return [r for i, r in enumerate(found) if r.table not in [other.table for other in found[:i]]]


def numbers_of(found: Sequence[Found], samples: Samples, worth: Worth) -> Numbers:
    """How the labels in `found` are to be read for `samples`; `worth` is the mAP of answers by class."""
    labels = sorted({int(k) for answer in found for k in answer.labels})
    known = readings(samples)
    possible = [r for r in known if r.fits(labels)]
    for reading in possible:
        if reading.name == samples.read_as:
            why = "" if reading.name == INDEX else f"its labels are read {reading.words}, as the other model's"
            return Numbers(reading, why)
    if not labels or not samples.class_names or possible == known[:1]:
        return Numbers(known[0])
    unnamed = samples.class_names == tuple(map(str, range(known[0].count)))  # nobody said how many classes there are
    taken = known[0] if unnamed or not possible else possible[0]
    values = {r.name: worth(r.of(found)) for r in known if r in possible or r.name == INDEX or not possible}
    named = f"{samples.name} names {counted(taken.count, 'class', 'classes')}"
    said = f"answers labels {labels[0]} to {labels[-1]}, {named}"
    asked = taken.name != INDEX or not (possible or unnamed)
    why = _why(taken, known, values, " and those beyond are of no class" if not possible else "", asked)
    return Numbers(taken, f"{said}: {why}; {REMEDY}" if why else "", values)


def _why(taken: Reading, known: Sequence[Reading], values: Mapping[str, float], beyond: str, asked: bool) -> str:
    """The words for what was `taken`, with the reading that is worth more; empty where neither is to be said."""
    best = max((r for r in known if r.name in values), key=lambda r: values[r.name])
    better = values[best.name] > values[taken.name]
    if not (asked or better):
        return ""
    worth = f", mAP {values[taken.name]:.2%}; {best.words} it is {values[best.name]:.2%}" if better else ""
    return f"they are read {taken.words}{beyond}{worth}"


def held(samples: Samples, score: Score) -> Samples:
    """`samples` for a model that is compared with the one that has this `score`: labels are read alike, if they can."""
    return replace(samples, read_as=score.reading["read_as"]) if score.reading else samples


def of_numbers(name: str, score: Score) -> str:
    """The line about how the labels of the model `name` are read; empty where that is not in question."""
    why = score.reading["why"] if score.reading else ""
    return f"{name}: {why}" if why else ""
