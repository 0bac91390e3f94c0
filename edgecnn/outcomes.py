"""What `export`, `quantize` and `build` return: frozen records that turn into the JSON of the command line.

Test: tests/test_road.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecnn.choosing.choose import FLOAT, Candidate, Decision
from edgecnn.choosing.contest import Contest
from edgecnn.choosing.names import PORTABLE
from edgecnn.data.pixels import in_words
from edgecnn.words import decibel
from exporters.artifact import Stage
from exporters.quantization.quantize import Quantized, QuantRecipe
from runtimes.base import CheckFailed, counted
from runtimes.bundle import SUFFIX
from runtimes.imaging.preprocess import Preprocess
from runtimes.latency import Ratio
from runtimes.parity import JSON_SNR_LIMIT, json_number

SEEDED = "The weights are random (no --weights): sizes and times are real, answers are not."


def weights_notes(seeded: bool, prefix: str) -> list[str]:
    """What must be known of the weights: that they are random, that their keys were spelled otherwise."""
    spelled = [f"weights: every key begins with {prefix!r}, which the network's do not; it was left out"]
    return [*([SEEDED] if seeded else []), *(spelled if prefix else [])]


@dataclass(frozen=True)
class ExportReport:
    """A float model on disk with the stages that made it. `seeded`: the weights are random, drawn from seed 0."""

    output: Path
    stages: tuple[Stage, ...]
    seeded: bool
    preprocess: Preprocess | None
    warnings: tuple[str, ...] = ()
    """What a user should hear beside the result (edgecnn/doubts.py)."""
    prefix: str = ""
    """What stood before every key of the weights, and was left out."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know beside the table."""
        return (f"pixels: {in_words(self.preprocess)}", *weights_notes(self.seeded, self.prefix))

    @property
    def verdict(self) -> str:
        last = self.stages[-1]
        return f"{self.output}: {decibel(last.snr_db)} to the PyTorch module, {counted(last.nodes, 'node')}."

    def to_dict(self) -> dict[str, Any]:
        return {
            "output": str(self.output),
            "stages": [stage.to_dict() for stage in self.stages],
            "seeded_weights": self.seeded,
            "preprocess": self.preprocess.to_dict() if self.preprocess else None,
            "warnings": list(self.warnings),
        }


def calibration_notes(quantized: Quantized) -> list[str]:
    """What the pass over the images saw; who advises more of them says what held them back."""
    seen, recipe = quantized.calibration, quantized.recipe
    if seen is None:
        return []
    kept = recipe.available is not None and not seen.enough
    more = f"; --limit {recipe.available} takes all that there are" if kept else ""
    return [f"calibration: {seen.summary}{more}"]


@dataclass(frozen=True)
class QuantizeReport:
    """The graph that was written and why. `judged_on` says in words what the verdict stands on."""

    output: Path
    decision: Decision
    quantized: Quantized
    preprocess: Preprocess | None
    judged_on: str
    contest: Contest = field(repr=False)
    """How the search got there; `decision` and `quantized` are of it."""
    portable: Path | None
    """The graph for other runtimes, where one was asked for and holds the budget."""
    warnings: tuple[str, ...] = field(default=(), kw_only=True)
    """What a user should hear beside the result (edgecnn/doubts.py)."""
    pixels: str = field(default="", kw_only=True)
    """What was done with the images, in words, where that is not all of `preprocess`."""
    unreadable: tuple[str, ...] = field(default=(), kw_only=True)
    """Pictures of the data that were left out."""
    keep_float: bool = field(default=False, kw_only=True)
    """Whether the float graph was to be kept beside an int8 one."""

    @property
    def failure(self) -> CheckFailed | None:
        """What to raise after the report: int8 was insisted on and no integer graph holds the budget."""
        return CheckFailed(f"{self.output}: {self.verdict}") if self.decision.over_budget else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know beside the tables."""
        images = f"calibrated on {self.recipe.calibrated_on}, judged on {self.judged_on}"
        calibration = calibration_notes(self.quantized)
        reasons = [c.refused for c in self.candidates if c.name == PORTABLE]
        missed = [f"no file for other runtimes: {why}" for why in (*reasons, self.contest.unportable) if why]
        portable = [f"for other runtimes: {self.portable}"] if self.portable else missed
        return (
            f"pixels: {self.pixels or in_words(self.preprocess)}",
            images,
            *calibration,
            self.contest.aimed.words,
            *portable,
            *self._beside,
        )

    @property
    def keeps_float(self) -> bool:
        """Whether the bundle holds the float graph beside the chosen one."""
        return self.keep_float and self.chosen != FLOAT

    @property
    def _beside(self) -> tuple[str, ...]:
        if not self.keep_float:
            return ()
        if not self.keeps_float:
            return ("float was chosen: there is no second graph to keep",)
        return (f"the float graph is kept beside: `python {self.output.name} settle -o HERE{SUFFIX}` chooses there",)

    @property
    def bundled(self) -> bool:
        return self.output.suffix == SUFFIX

    @property
    def chosen(self) -> str:
        return self.decision.chosen

    @property
    def verdict(self) -> str:
        return self.decision.verdict

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.decision.candidates

    @property
    def accuracy(self) -> dict[str, float] | None:
        return self.decision.accuracy

    @property
    def recipe(self) -> QuantRecipe:
        return self.quantized.recipe

    @property
    def int8_nodes(self) -> int:
        return self.quantized.int8_nodes

    @property
    def float_nodes(self) -> tuple[tuple[str, str], ...]:
        """(node, reason) for what is float in the int8 candidate."""
        return self.quantized.float_nodes

    @property
    def speedup(self) -> Ratio | None:
        rival = self.decision.rival
        return rival.speedup if rival else None

    @property
    def snr_db(self) -> float | None:
        rival = self.decision.rival
        return rival.snr_db if rival else None

    def to_dict(self) -> dict[str, Any]:
        """Of the integer candidate called `describes`, also where float was chosen: what was given up, and why."""
        rival = self.decision.rival
        return {
            "output": str(self.output),
            "chosen": self.chosen,
            "verdict": self.verdict,
            "describes": rival.name if rival else None,
            "speedup": self.speedup.to_dict() if self.speedup else None,
            "snr_db": None if self.snr_db is None else json_number(self.snr_db, JSON_SNR_LIMIT),
            "accuracy": self.accuracy,
            "judged_on": self.judged_on,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "recipe": self.recipe.to_dict(),
            "calibration": self.quantized.calibration.to_dict() if self.quantized.calibration else None,
            "int8_nodes": self.int8_nodes,
            "float_nodes": [{"node": node, "reason": reason} for node, reason in self.float_nodes],
            "preprocess": self.preprocess.to_dict() if self.preprocess else None,
            "target": self.contest.aimed.to_dict(),
            "portable": str(self.portable) if self.portable else None,
            "keeps_float": self.keeps_float,
            "search": self.contest.to_dict(),
            "warnings": list(self.warnings),
            "unreadable": list(self.unreadable),
        }


@dataclass(frozen=True)
class BuildReport(QuantizeReport):
    """A bundle on disk, and everything that its manifest says."""

    stages: tuple[Stage, ...]
    size_bytes: int
    seeded: bool
    seconds: float
    prefix: str = ""
    """What stood before every key of the weights, and was left out."""

    @property
    def notes(self) -> tuple[str, ...]:
        return (*super().notes, *weights_notes(self.seeded, self.prefix))

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "stages": [stage.to_dict() for stage in self.stages],
            "size_bytes": self.size_bytes,
            "seeded_weights": self.seeded,
            "seconds": round(self.seconds, 2),
        }
