"""The proof in a bundle: inputs with the original network's own answers, and how far the model may be from those.

    tensors       largest |difference| of the answers to one input                            limit_max_abs
                  relative L2 over all inputs; bundles made before have none                  limit_relative_l2
    detections    mean over the boxes that either side is sure of, of all inputs at once      limit_disagreement
                  0: the same box and score, 1: no counterpart                                (matching.disagreement)
    several kinds largest |difference| and relative L2 in each kind of numbers, all inputs    kinds: limits of each

A largest difference says nothing of detections: one box that has no counterpart would set it to the size of the image.
Where outputs hold numbers of several kinds (boxes in pixels beside scores), each kind has its own limits, and
`limit_max_abs` is the largest of them, all that older readers know (runtimes/proof/parts.py). How far a model may be is
said where it is packed: exporters/golden_limits.py.
A model of open size has a second set of inputs, of another size. Test: tests/test_bundle.py, tests/test_golden.py.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.base import Array, Tensors
from runtimes.comparing import matching
from runtimes.comparing.distance import difference, json_number
from runtimes.proof.parts import Part, apart, is_part
from runtimes.session import Session

MAX_ABS, DISAGREEMENT, RELATIVE_L2 = "max_abs", "disagreement", "relative_l2"
KINDS = "kinds"
NO_BOX = "no box in its golden pictures: proves only that none is found there"
KIND_LIMITS = (f"limit_{MAX_ABS}", f"limit_{RELATIVE_L2}")


@dataclass(frozen=True)
class GoldenCheck:
    """One golden sample, or several (`images`), whose first input has the `shape` (C, H, W): what was measured, and its
    limit.

    `of`: the numbers that are meant, where outputs hold several kinds. `empty`: the original finds no box.
    """

    value: float
    limit: float
    measure: str = MAX_ABS
    images: int = 1
    shape: tuple[int, ...] = ()
    of: str = ""
    empty: bool = False

    @property
    def passed(self) -> bool:
        return self.value <= self.limit

    def to_dict(self) -> dict[str, Any]:
        measured = {self.measure: json_number(self.value), "limit": self.limit}
        kind = ({"of": self.of} if self.of else {}) | ({"empty": True} if self.empty else {})
        return {**measured, "images": self.images, "shape": list(self.shape), **kind}


def worst_of(checks: Sequence[GoldenCheck]) -> GoldenCheck:
    """The check that is nearest to its limit, or furthest beyond it."""
    return max(checks, key=lambda check: check.value / check.limit if check.limit else check.value)


def without_boxes(checks: Sequence[GoldenCheck]) -> bool:
    """Whether `checks` are about detections, of which there are none."""
    return all(check.empty for check in checks)


def samples_in(checks: Sequence[GoldenCheck]) -> int:
    """How many golden inputs `checks` are about: several kinds of numbers in one are not several inputs."""
    first: dict[tuple[int, ...], tuple[str, str]] = {}
    for check in checks:
        first.setdefault(check.shape, (check.measure, check.of))
    return sum(check.images for check in checks if first[check.shape] == (check.measure, check.of))


def measure_of(output_names: Sequence[str]) -> str:
    """How the answers of a model with these outputs are judged."""
    return DISAGREEMENT if set(output_names) == set(matching.NAMES) else MAX_ABS


def is_entry(entry: object) -> bool:
    """Whether `entry` of a manifest says for how many images which limit holds."""
    if not isinstance(entry, dict):
        return False
    limits = [entry[key] for key in (f"limit_{MAX_ABS}", f"limit_{DISAGREEMENT}") if key in entry]
    given = [*limits, entry.get(KIND_LIMITS[1], 0)]
    numbers = all(type(limit) in (int, float) and 0 <= limit < math.inf for limit in given)
    kinds = entry.get(KINDS, [])
    if not isinstance(kinds, list) or not all(is_part(kind, KIND_LIMITS) for kind in kinds):
        return False
    return len(limits) == 1 and numbers and type(entry.get("images")) is int and entry["images"] >= 1


def checks(
    session: Session, inputs: Sequence[Array], outputs: Sequence[Array], entry: Mapping[str, Any]
) -> tuple[GoldenCheck, ...]:
    """`session` on golden `inputs`, one by one, held to the limits in the manifest's `entry`."""
    shape = inputs[0].shape[1:]
    if f"limit_{DISAGREEMENT}" in entry:
        value = _boxes_apart(session, inputs, outputs)
        limit = float(entry[f"limit_{DISAGREEMENT}"])
        return (GoldenCheck(value, limit, DISAGREEMENT, len(inputs[0]), shape, empty=_no_box(session, outputs)),)
    if entry.get(KINDS):
        return tuple(_kinds(session, inputs, outputs, entry[KINDS]))
    return tuple(_whole(session, inputs, outputs, entry))


def golden_bytes(inputs: Sequence[Array], outputs: Sequence[Array]) -> bytes:
    """The content of `golden.npz` for arrays in the order of the model's inputs and outputs, n samples each."""
    arrays = {f"{kind}_{i}": a for kind, group in (("input", inputs), ("output", outputs)) for i, a in enumerate(group)}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _whole(
    session: Session, inputs: Sequence[Array], outputs: Sequence[Array], entry: Mapping[str, Any]
) -> Iterator[GoldenCheck]:
    """Each sample against the largest difference, and all of them against the relative one where that does not hold."""
    limit, shape, count = float(entry[KIND_LIMITS[0]]), inputs[0].shape[1:], len(inputs[0])
    answers = _answers(session, inputs)
    for i in range(count):
        yield GoldenCheck(_largest(outputs, answers, i), limit, shape=shape)
    if KIND_LIMITS[1] in entry:
        (found,) = apart([Part(0)], outputs, _joined(answers))
        whole = GoldenCheck(found.relative_l2, float(entry[KIND_LIMITS[1]]), RELATIVE_L2, count, shape)
        yield from () if whole.passed else (whole,)


def _kinds(
    session: Session, inputs: Sequence[Array], outputs: Sequence[Array], kinds: Sequence[Mapping[str, Any]]
) -> Iterator[GoldenCheck]:
    """Each kind of numbers, over all samples, against its limits."""
    names, count, shape = [info.name for info in session.outputs], len(inputs[0]), inputs[0].shape[1:]
    distances = apart([Part.from_dict(kind) for kind in kinds], outputs, _joined(_answers(session, inputs)))
    for kind, found in zip(kinds, distances, strict=True):
        for measure in (MAX_ABS, RELATIVE_L2):
            limit = kind.get(f"limit_{measure}")
            if limit is not None:
                yield GoldenCheck(getattr(found, measure), float(limit), measure, count, shape, found.part.words(names))


def _answers(session: Session, inputs: Sequence[Array]) -> list[list[Array]]:
    """The outputs for each sample; none of them where the model takes another number of inputs."""
    fed = range(len(inputs[0])) if len(session.inputs) == len(inputs) else ()
    return [list(_answer(session, inputs, i).values()) for i in fed]


def _joined(answers: Sequence[Sequence[Array]]) -> list[Array]:
    """The samples' outputs as arrays (n, ...); none where their shapes differ."""
    columns = list(zip(*answers, strict=True))
    same = all(len({array.shape for array in column}) == 1 and column[0].ndim for column in columns)
    return [np.concatenate(column) for column in columns] if same else []


def _largest(outputs: Sequence[Array], answers: Sequence[Sequence[Array]], index: int) -> float:
    """Largest |difference| of sample `index` over all outputs; inf for NaN, Inf, or another shape or count."""
    if index >= len(answers) or len(answers[index]) != len(outputs):
        return math.inf
    return max(_error(want[index : index + 1], have) for want, have in zip(outputs, answers[index], strict=True))


def _boxes_apart(session: Session, inputs: Sequence[Array], outputs: Sequence[Array]) -> float:
    """Disagreement of all samples; inf where one side has no detections but other outputs."""
    names = [info.name for info in session.outputs]
    if len(session.inputs) != len(inputs) or len(names) != len(outputs) or measure_of(names) != DISAGREEMENT:
        return math.inf
    tables = dict(zip(names, outputs, strict=True))
    samples = range(len(inputs[0]))
    return matching.disagreement(
        [matching.unpad(tables, i) for i in samples], [_answer(session, inputs, i) for i in samples]
    )


def _no_box(session: Session, outputs: Sequence[Array]) -> bool:
    tables = dict(zip([info.name for info in session.outputs], outputs, strict=False))
    return bool((tables.get("scores", np.zeros(1)) == matching.PADDING).all())


def _answer(session: Session, inputs: Sequence[Array], index: int) -> Tensors:
    names = [info.name for info in session.inputs]
    return session({name: array[index : index + 1] for name, array in zip(names, inputs, strict=True)})


def _error(want: Array, have: Array) -> float:
    if want.shape != have.shape or not (np.isfinite(want).all() and np.isfinite(have).all()):
        return math.inf
    return float(difference(want, have).max(initial=0.0))
