"""Quantize for a target that is not the processor at hand: written, checked and judged here, not raced.

    float graph -> the target's own quantizer -> its static check -> within the accuracy budget? -> int8, else float

What the integer graph costs is measured on the CPU, where the same integers give the same answers; how fast it is on
its target is not known here, and the report says so. Test: tests/test_tensorrt.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgecnn import doubts
from edgecnn.choosing.choose import FLOAT, INT8, without_int8
from edgecnn.choosing.judge import Judge, Judgement
from edgecnn.choosing.model_identity import classes_in
from edgecnn.choosing.trial import Trial
from edgecnn.data.material import Material
from edgecnn.data.pixels import in_words
from edgecnn.evaluation.chance import chance_warning
from edgecnn.outcomes import calibration_notes
from exporters import artifact
from exporters.artifact import Identity, Stage
from exporters.load import save_model
from exporters.quantization.quantize import Quantized, QuantRecipe
from exporters.targets.targets_int8 import Int8Target
from runtimes.base import CheckFailed, Track
from runtimes.imaging.preprocess import Preprocess
from runtimes.parity import JSON_SNR_LIMIT, json_number
from runtimes.session import open_session


@dataclass(frozen=True)
class TargetReport:
    """The graph that was written for `target` and what it costs; `float_value` is the float graph's metric."""

    output: Path
    target: str
    chosen: str
    verdict: str
    quantized: Quantized
    judged: Judgement
    float_value: float | None
    judged_on: str
    preprocess: Preprocess | None
    warnings: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Pictures of the data that were left out."""

    @property
    def accuracy(self) -> dict[str, float] | None:
        if self.float_value is None or self.judged.accuracy is None:
            return None
        lost = self.float_value - self.judged.accuracy
        return {"float": self.float_value, "int8": self.judged.accuracy, "drop": lost}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know beside the table."""
        images = f"calibrated on {self.quantized.recipe.calibrated_on}, judged on {self.judged_on}"
        return (f"pixels: {in_words(self.preprocess)}", images, *calibration_notes(self.quantized))

    def to_dict(self) -> dict[str, Any]:
        snr = self.judged.snr_db
        return {
            "output": str(self.output),
            "target": self.target,
            "chosen": self.chosen,
            "verdict": self.verdict,
            "speedup": None,
            "snr_db": None if snr is None else json_number(snr, JSON_SNR_LIMIT),
            "accuracy": self.accuracy,
            "judged_on": self.judged_on,
            "recipe": self.quantized.recipe.to_dict() | {"target": self.target},
            "calibration": self.quantized.calibration.to_dict() if self.quantized.calibration else None,
            "int8_nodes": self.quantized.int8_nodes,
            "float_nodes": [{"node": node, "reason": reason} for node, reason in self.quantized.float_nodes],
            "preprocess": self.preprocess.to_dict() if self.preprocess else None,
            "warnings": list(self.warnings),
            "unreadable": list(self.unreadable),
        }


def aimed(
    target: Int8Target,
    float_model: onnx.ModelProto,
    recipe: QuantRecipe,
    material: Material,
    trial: Trial,
    output: Path,
    identity: Identity | None,
    before: tuple[Stage, ...],
    force: bool,
    track: Track,
) -> TargetReport:
    """Quantize `float_model` for `target` and write it to `output`; float where int8 is impossible or costs too much.

    Raises `CheckFailed` when the result does not pass the target's own check, which would be a mistake of ours.
    """
    started = time.perf_counter()
    images = material.calibration_feeds
    quantized = target.quantizer()(float_model, images, recipe, threads=trial.threads, track=track)
    seconds = time.perf_counter() - started
    findings = target.checker()(quantized.model)
    if findings:
        raise CheckFailed(f"{output}: not what {target.name} takes ({findings[0]}); nothing was written")
    judge = Judge(open_session(float_model, threads=trial.threads), trial, track)
    judged = judge(open_session(quantized.model, threads=trial.threads))
    chosen, verdict = _choose(target, quantized, judged, trial)
    words = f"{quantized.int8_nodes} int8 nodes for {target.name}"
    stage = artifact.describe("quantize", quantized.model, seconds, note=words)
    model = quantized.model if chosen == INT8 else float_model
    written = artifact.write_stages(model, (*before, stage) if chosen == INT8 else before)
    if identity is not None:
        artifact.write_identity(written, identity)
    save_model(written, output, force=force)
    heard = chance_warning(f"{output}: float", trial.metric, judge.value, material.judged, classes_in(float_model))
    return TargetReport(
        output, target.name, chosen, verdict, quantized, judged, judge.value, material.judged_on, material.preprocess,
        doubts.told(doubts.of_lone(quantized.calibration, material.calibration), heard), material.unreadable,
    )  # fmt: skip


def _choose(target: Int8Target, quantized: Quantized, judged: Judgement, trial: Trial) -> tuple[str, str]:
    if not quantized.int8_nodes:
        return FLOAT, without_int8(quantized.model)
    if judged.held > trial.max_drop:
        return FLOAT, f"int8 {judged.words}: kept float"
    return INT8, f"int8 {judged.words}; {target.words}"
