"""What `export`, `quantize` and `build` return: frozen records that turn into the JSON of the command line.

Test: tests/test_road.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn.choose import Candidate, Decision
from edgecnn.pixels import in_words
from exporters.artifact import Stage
from exporters.quantize import Quantized, QuantRecipe
from runtimes.latency import Ratio
from runtimes.parity import JSON_SNR_LIMIT, json_number
from runtimes.preprocess import Preprocess

SEEDED = "The weights are random (no --weights): sizes and times are real, answers are not."


@dataclass(frozen=True)
class ExportReport:
    """A float model on disk with the stages that made it. `seeded`: the weights are random, drawn from seed 0."""

    output: Path
    stages: tuple[Stage, ...]
    seeded: bool
    preprocess: Preprocess | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know beside the table."""
        return (f"pixels: {in_words(self.preprocess)}", *([SEEDED] if self.seeded else []))

    def to_dict(self) -> dict[str, Any]:
        steps = [stage.to_dict() for stage in self.stages]
        preprocess = self.preprocess.to_dict() if self.preprocess else None
        return {
            "output": str(self.output),
            "stages": steps,
            "seeded_weights": self.seeded,
            "preprocess": preprocess,
        }


@dataclass(frozen=True)
class QuantizeReport:
    """The graph that was written and why. `float_nodes` are (node, reason) in the int8 candidate."""

    output: Path
    decision: Decision
    quantized: Quantized
    preprocess: Preprocess | None = None
    judged_on: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        return _notes(self.preprocess, self.recipe, self.judged_on)

    @property
    def chosen(self) -> str:
        return self.decision.chosen

    @property
    def verdict(self) -> str:
        return self.decision.verdict

    @property
    def recipe(self) -> QuantRecipe:
        return self.quantized.recipe

    @property
    def speedup(self) -> Ratio | None:
        rival = self.decision.rival
        return rival.speedup if rival else None

    @property
    def int8_nodes(self) -> int:
        return self.quantized.int8_nodes

    @property
    def float_nodes(self) -> tuple[tuple[str, str], ...]:
        return self.quantized.float_nodes

    @property
    def snr_db(self) -> float | None:
        rival = self.decision.rival
        return rival.snr_db if rival else None

    @property
    def accuracy(self) -> dict[str, float] | None:
        return self.decision.accuracy

    def to_dict(self) -> dict[str, Any]:
        return {
            "output": str(self.output),
            "speedup": self.speedup.to_dict() if self.speedup else None,
            "snr_db": None if self.snr_db is None else json_number(self.snr_db, JSON_SNR_LIMIT),
            **_choice(self.decision, self.quantized),
        }


@dataclass(frozen=True)
class BuildReport:
    """A bundle on disk, and everything that its manifest says."""

    output: Path
    size_bytes: int
    stages: tuple[Stage, ...]
    decision: Decision
    quantized: Quantized
    seeded: bool
    seconds: float
    preprocess: Preprocess | None = None
    judged_on: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        own = _notes(self.preprocess, self.quantized.recipe, self.judged_on)
        return (*own, *([SEEDED] if self.seeded else []))

    @property
    def chosen(self) -> str:
        return self.decision.chosen

    @property
    def verdict(self) -> str:
        return self.decision.verdict

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.decision.candidates

    def to_dict(self) -> dict[str, Any]:
        return {
            "output": str(self.output),
            "size_bytes": self.size_bytes,
            "stages": [stage.to_dict() for stage in self.stages],
            "seeded_weights": self.seeded,
            "seconds": round(self.seconds, 2),
            "preprocess": self.preprocess.to_dict() if self.preprocess else None,
            "judged_on": self.judged_on,
            **_choice(self.decision, self.quantized),
        }


def _notes(preprocess: Preprocess | None, recipe: QuantRecipe, judged_on: str) -> tuple[str, ...]:
    calibrated = f"calibrated on {recipe.images} images of {recipe.data}, judged on {judged_on}"
    return (f"pixels: {in_words(preprocess)}", calibrated)


def _choice(decision: Decision, quantized: Quantized) -> dict[str, Any]:
    """What both say of the choice: who won, who ran, what is int8 and what is not."""
    return {
        "chosen": decision.chosen,
        "verdict": decision.verdict,
        "candidates": [candidate.to_dict() for candidate in decision.candidates],
        "accuracy": decision.accuracy,
        "recipe": quantized.recipe.to_dict(),
        "int8_nodes": quantized.int8_nodes,
        "float_nodes": [{"node": node, "reason": reason} for node, reason in quantized.float_nodes],
    }
