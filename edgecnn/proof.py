"""What a bundle says about itself: the manifest's entries, and golden samples with the original network's own answers.

The original is the PyTorch module, or the float model that came as a file. Imports no torch.

Test: tests/test_road.py, tests/test_pack.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

import edgecnn
from edgecnn.choosing.choose import Decision
from edgecnn.choosing.contest import Contest
from edgecnn.float_passes import FLOAT_LIMIT_DB, NOISE_MARGIN_DB
from exporters.artifact import Identity, Stage
from exporters.pack import Beside, Golden, pack
from runtimes import machine
from runtimes.base import Array, BadInput, CheckFailed, Runner, Tensors
from runtimes.comparing import matching
from runtimes.execution.feeds import TensorInfo
from runtimes.parity import compare
from runtimes.proof.parts import Apart, apart, parts_of
from runtimes.session import Session, open_session

GOLDEN_BYTES = 1_500_000
GOLDEN_IMAGES = 4
LOOKED_AT = 16
"""Images among which those are looked for where a detector finds something."""
DETECTION = "detection"
CUT = "write .onnx, or cut that output off (onnx.utils.extract_model)"
CHOOSE = "`edgecnn export` writes .onnx, or choose another output: --answer"


class Original(Protocol):
    """The network that a bundle stands for: its answers to `feeds`, which it is asked for one by one."""

    @property
    def feeds(self) -> Sequence[Tensors]: ...

    def __call__(self, feeds: Tensors, /) -> Tensors: ...


@dataclass(frozen=True)
class GivenModel:
    """A float model that came as a file, as the original of its own bundle."""

    session: Runner
    feeds: Sequence[Tensors]

    def __call__(self, feeds: Tensors, /) -> Tensors:
        return self.session(feeds)


def golden(
    real: Original, session: Session, given: Sequence[Tensors] | None = None, feeds: Sequence[Tensors] | None = None
) -> tuple[list[Array], list[Array], float, tuple[Apart, ...]]:
    """(inputs, the original's outputs, how far `session` is from them, the same by kind of numbers) for a few images.

    At most 4 of the real images, or of `feeds`, those first where the original finds boxes, and 1.5 MB of them, at
    least one, and one where the answers are not all of one shape; each array is (n, ...) in the order of the model's.
    `given`: what the session gets for the feeds of the module, where that is not the same. The distance is the largest
    |difference|, for detections disagreement.
    """
    feeds = real.feeds if feeds is None else feeds
    given = feeds if given is None else given
    size = sum(value.nbytes for value in given[0].values())
    places = _telling(real, feeds)[: max(1, min(GOLDEN_IMAGES, GOLDEN_BYTES // size))]
    answers = [real(feeds[i]) for i in places]
    require_rows(answers[0], session.subject)
    places = places if matching.is_detections(answers[0]) or _alike(answers) else places[:1]
    given = [given[i] for i in places]
    answers = answers[: len(given)]
    inputs = [np.concatenate([feed[info.name] for feed in given]) for info in session.inputs]
    if matching.is_detections(answers[0]):
        tables = matching.pad(answers)
        far = matching.disagreement(answers, [session(feed) for feed in given])
        return inputs, [tables[info.name] for info in session.outputs], far, ()
    outputs = [np.concatenate([answer[info.name] for answer in answers]) for info in session.outputs]
    found = [session(feed) for feed in given]
    known = {id(feed): answer for feed, answer in zip(given, answers, strict=True)}
    again = {id(feed): answer for feed, answer in zip(given, found, strict=True)}
    far = compare(lambda feed: known[id(feed)], lambda feed: again[id(feed)], given).max_abs
    have = [np.concatenate([answer[info.name] for answer in found]) for info in session.outputs]
    return inputs, outputs, far, apart(parts_of(outputs), outputs, have)


def looked_at(task: str) -> int:
    """From how many images the golden ones are taken."""
    return LOOKED_AT if task == DETECTION else GOLDEN_IMAGES


def _telling(real: Original, feeds: Sequence[Tensors]) -> list[int]:
    """The places of `feeds` in their order; of detections those first where `real` is sure of a box, then where it
    finds one.
    """
    places = list(range(len(feeds)))
    if not matching.is_detections(real(feeds[0])):
        return places
    highest = [float(real(feed)["scores"].max(initial=-np.inf)) for feed in feeds]
    return sorted(places, key=lambda i: (highest[i] < matching.SURE, np.isneginf(highest[i])))


def require_rows(answers: Tensors, name: str, way: str = CUT) -> None:
    """Raise `BadInput`, naming the model `name`, unless its `answers` to one image are detections, or one row each.

    `way`: what to do about it.
    """
    if matching.is_detections(answers):
        return
    for output, value in answers.items():
        if value.shape[:1] != (1,):
            shape = f"[{', '.join(map(str, value.shape))}] for one image" if value.ndim else "a number without a batch"
            first = images_first(value.shape)
            raise BadInput(
                f"{name}: its output {output} is {shape}; a bundle is proven by a row for each image; {first}{way}"
            )


def images_first(shape: Sequence[int]) -> str:
    """How an answer of `shape` to one image, whose images are another axis than the first, becomes a row for each, as
    the beginning of a remedy; empty where no axis, or more than one, may be that of images.

    >>> images_first((32, 1, 11)), images_first((5, 7))
    ('put the images first, answer.transpose(0, 1) at the end of forward; or ', '')
    """
    places = [axis for axis, size in enumerate(shape) if size == 1]
    if len(places) != 1:
        return ""
    return f"put the images first, answer.transpose(0, {places[0]}) at the end of forward; or "


def _alike(answers: Sequence[Tensors]) -> bool:
    """Whether the `answers` to all images are of the same shapes."""
    return len({tuple((name, value.shape) for name, value in answer.items()) for answer in answers}) == 1


def write(
    path: Path, chosen: onnx.ModelProto, session: Session, manifest: Mapping[str, Any], real: Original,
    given: Sequence[Tensors] | None = None, sizes: Original | None = None, second: onnx.ModelProto | None = None,
    runtime: bool = True,
) -> str:  # fmt: skip
    """Write the bundle `path` of `chosen`, open as `session`, with golden samples of `real` as in `golden`; what
    these do not prove, as `pack` says it.

    `sizes` is the original at two sizes, for a bundle of open size, and `second` the float graph to keep beside.
    """
    other = other_size(sizes, session) if sizes else None
    kept = None if second is None else beside(second, real, given, sizes)
    return pack(path, chosen, manifest, *golden(real, session, given), other, runtime, kept)


def beside(
    model: onnx.ModelProto, real: Original, given: Sequence[Tensors] | None = None, sizes: Original | None = None
) -> Beside:
    """The float graph `model` for a bundle that keeps it, on the golden samples of the chosen one, which `golden` takes
    from the same `real` and `given`; `sizes` is the original at two sizes, for a bundle of open size.
    """
    session = open_session(model)
    return Beside(model, Golden(*golden(real, session, given)), other_size(sizes, session) if sizes else None)


def other_size(reference: Original, session: Session) -> Golden:
    """The golden sample at the second size, which is the last feed of the `reference`.

    Raises `CheckFailed` where the model is further from the module there than another size of picture explains.
    """
    own, other = reference.feeds[:1], reference.feeds[-1:]
    snr = [compare(reference, session, feeds).worst_db for feeds in (own, other)]
    limit = min(snr[0], FLOAT_LIMIT_DB) - NOISE_MARGIN_DB
    if not matching.is_detections(reference(other[0])) and snr[1] < limit:
        size, first = ("x".join(map(str, feeds[0][session.inputs[0].name].shape[2:])) for feeds in (other, own))
        raise CheckFailed(
            f"size {size}: {snr[1]:.1f} dB to the PyTorch module, at {first} {snr[0]:.1f} dB; leave --dynamic-size out"
        )
    return Golden(*golden(reference, session, feeds=other))


def about(
    identity: Identity,
    result: Contest,
    stages: Sequence[Stage],
    session: Session,
    weights: str,
) -> dict[str, Any]:
    """The manifest of a bundle but for what the packer knows best (files, format, golden limits)."""
    decision = result.decision
    return {
        **common(identity, stages, session, weights),
        "chosen": decision.chosen,
        "winner": decision.winner,
        "metric": decision.metric,
        "verdict": decision.verdict,
        "candidates": [candidate.to_dict() for candidate in decision.candidates],
        "recipe": result.quantized.recipe.to_dict(),
        "target": result.aimed.to_dict(),
        "search": result.to_dict(),
        "accuracy": decision.accuracy,
        "race": raced(decision),
    }


def common(identity: Identity, stages: Sequence[Stage], session: Session, weights: str) -> dict[str, Any]:
    """What the manifest of every bundle says: whose model it is, what it takes and gives, how and where it was made."""
    return {
        "name": identity.name,
        "task": identity.task,
        "labels": list(identity.labels),
        "preprocess": identity.preprocess.to_dict() if identity.preprocess else None,
        "created_by": f"edgecnn {edgecnn.__version__}",
        "weights": weights,
        **taken(session.inputs),
        **({"trained_on": list(map(list, identity.trained_on))} if identity.trained_on else {}),
        "output": tensor(session.outputs[0]) | ({"sigmoid": True} if identity.sigmoid else {}),
        "stages": [stage.to_dict() for stage in stages],
        "machine": machine.describe().to_dict(),
    }


def taken(inputs: Sequence[TensorInfo]) -> dict[str, Any]:
    """The manifest's entry of the one input of a model, or of its several."""
    found = [tensor(info) for info in inputs]
    return {"input": found[0]} if len(found) == 1 else {"inputs": found}


def raced(decision: Decision) -> dict[str, Any] | None:
    """Every time of the last race; None where the bundle is for another CPU."""
    race = decision.race
    if race is None:
        return None
    times = {name: list(race.times_ms(name)) for name in race.names}
    return {"clock": race.clock, "rounds": race.rounds, "threads": decision.threads, "times_ms": times}


def tensor(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "dtype": info.dtype, "shape": list(info.shape)}
