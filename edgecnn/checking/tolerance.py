"""How far a float model is from itself: the same function, computed in another order or from inputs one bit off.

    noise(output) = the worse of   model, optimizer on   against   model, optimizer off      (PyTorch: float64)
                                   model on x            against   model on x (1 +- 2^-23)
    limit         = noise - MARGIN_DB, within HALF_SNR_DB and HIGHEST_DB

Two right implementations differ by about this much, and no wrong one by so little that it would matter: a limit that
fits the network and needs no number from the user. The margin is for one order of summation being one draw of many.
Test: tests/test_tolerance.py.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.runners import Subject
from runtimes.base import Array, BadInput, Runner, Tensors
from runtimes.comparing.matching import Edges
from runtimes.parity import ParityReport, compare

MARGIN_DB = 15.0
HIGHEST_DB = 90.0
"""What every step of the road is held to; float32 itself rounds at 144 dB."""
HALF_SNR_DB, INT8_SNR_DB = 40.0, 10.0
"""float16 leaves 50 to 70 dB; int8 13 dB (MobileNetV2) to 40, so that 10 only tells working from broken."""
SAME_MARGIN = 0.001
MOST_FEEDS = 3
"""On which noise is measured, of one size; each other size that is compared counts, too."""
ULP = 2.0**-23


@dataclass(frozen=True)
class Tolerance:
    """The least SNR (dB) by output, the least share of equal values by integer output, and where both come from."""

    snr_db: dict[str, float]
    same: dict[str, float]
    why: str


def jitter(given: Tensors) -> dict[str, Array]:
    """Float inputs off by up to one unit in the last place, seeded."""
    rng = np.random.default_rng(0)
    made = dict(given)
    for name, value in given.items():
        if value.dtype == np.float32:
            made[name] = (value * (1 + ULP * rng.uniform(-1, 1, value.shape))).astype(np.float32)
    return made


def tolerance(subjects: Sequence[Subject], feeds: Sequence[Tensors], parity: ParityReport) -> Tolerance:
    """What `parity` of the two `subjects` is held to where the user said nothing; noise is that on `feeds`."""
    names = [out.name for out in parity.outputs]
    if any(subject.quantized for subject in subjects):
        return Tolerance(dict.fromkeys(names, INT8_SNR_DB), {}, "int8: only tells working from broken")
    edges = functools.reduce(operator.or_, (subject.edges for subject in subjects))
    reports, how = own_noise(subjects[0], feeds, edges)
    highest = HALF_SNR_DB if any(subject.half for subject in subjects) else HIGHEST_DB
    snr, same = dict.fromkeys(names, highest), dict[str, float]()
    integer = {out.name for out in parity.outputs if out.same is not None}
    for place, name in enumerate(names):
        seen = [report.outputs[place] for report in reports if len(report.outputs) == len(names)]
        snr[name] = max(HALF_SNR_DB, min([highest, *(out.worst_db - MARGIN_DB for out in seen)]))
        if name in integer:
            del snr[name]
            same[name] = min([1.0, *(out.same for out in seen if out.same is not None)]) - SAME_MARGIN
    return Tolerance(snr, same, f"the reference's own noise less {MARGIN_DB:g} dB, at most {highest:g}; {how}")


def own_noise(subject: Subject, feeds: Sequence[Tensors], edges: Edges | None = None) -> tuple[list[ParityReport], str]:
    """(`subject` against itself, in each way that there is, what these were)."""
    runs: list[tuple[str, Runner]] = [("inputs off by one unit in the last place", lambda f: subject.runner(jitter(f)))]
    if subject.again is not None:
        with contextlib.suppress(BadInput):
            runs.insert(0, (subject.how, subject.again()))
    reports, words = [], []
    for what, runner in runs:
        with contextlib.suppress(BadInput):  # it may be unable to: then the others count
            reports.append(compare(subject.runner, runner, feeds, edges=edges))
            words.append(what)
    return reports, " and ".join(words)
