"""What a bundle says about itself: the manifest's entries, and golden samples with the PyTorch module's own answers.

Test: tests/test_road.py, tests/test_pack.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import edgecnn
from edgecnn.choose import Decision
from edgecnn.contest import Contest
from edgecnn.stages import Reference
from exporters.artifact import Identity, Stage
from runtimes import machine, matching
from runtimes.base import Array
from runtimes.feeds import TensorInfo
from runtimes.parity import compare
from runtimes.session import Session

GOLDEN_BYTES = 1_500_000
GOLDEN_IMAGES = 4


def golden(real: Reference, session: Session) -> tuple[list[Array], list[Array], float]:
    """(inputs, the module's outputs, largest |difference| of `session` to them) for a few of the real images.

    At most 4 images and 1.5 MB of them, at least one; each array is (n, ...) in the order of the model's.
    """
    size = sum(value.nbytes for value in real.feeds[0].values())
    feeds = real.feeds[: max(1, min(GOLDEN_IMAGES, GOLDEN_BYTES // size))]
    inputs = [np.concatenate([feed[info.name] for feed in feeds]) for info in session.inputs]
    answers = [real(feed) for feed in feeds]
    if matching.is_detections(answers[0]):
        tables = matching.pad(answers)
        apart = max(matching.farthest(answer, session(feed)) for answer, feed in zip(answers, feeds, strict=True))
        return inputs, [tables[info.name] for info in session.outputs], apart
    outputs = [np.concatenate([answer[info.name] for answer in answers]) for info in session.outputs]
    return inputs, outputs, compare(real, session, feeds).max_abs


def about(
    identity: Identity,
    result: Contest,
    stages: Sequence[Stage],
    session: Session,
    weights: str | None,
) -> dict[str, Any]:
    """The manifest of a bundle but for what the packer knows best (files, format, golden limits)."""
    decision = result.decision
    return {
        "name": identity.name,
        "task": identity.task,
        "labels": list(identity.labels),
        "preprocess": identity.preprocess.to_dict() if identity.preprocess else None,
        "created_by": f"edgecnn {edgecnn.__version__}",
        "chosen": decision.chosen,
        "verdict": decision.verdict,
        "weights": weights or "random, seed 0",
        "input": tensor(session.inputs[0]),
        "output": tensor(session.outputs[0]),
        "stages": [stage.to_dict() for stage in stages],
        "candidates": [candidate.to_dict() for candidate in decision.candidates],
        "recipe": result.quantized.recipe.to_dict(),
        "target": result.aimed.to_dict(),
        "search": result.to_dict(),
        "accuracy": decision.accuracy,
        "race": raced(decision),
        "machine": machine.describe().to_dict(),
    }


def raced(decision: Decision) -> dict[str, Any] | None:
    """Every time of the last race; None where the bundle is for another CPU."""
    race = decision.race
    if race is None:
        return None
    times = {name: list(race.times_ms(name)) for name in race.names}
    return {"clock": race.clock, "rounds": race.rounds, "threads": decision.threads, "times_ms": times}


def tensor(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "dtype": info.dtype, "shape": list(info.shape)}
