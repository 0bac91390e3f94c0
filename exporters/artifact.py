"""What was done to a model, step by step, kept inside the `.onnx` file itself.

    export -> simplify -> fold_batchnorm -> cleanup -> quantize           each: seconds, bytes, operators, parity

The stages travel in the model's `metadata_props` under `edgecnn.stages` (JSON), so that any reader of the file can ask
where it came from, on whatever machine. Test: tests/test_artifact.py.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import onnx

from exporters.graph import get_meta, op_counts, set_meta
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess
from runtimes.parity import JSON_SNR_LIMIT, ParityReport, json_number

STAGES_KEY = "edgecnn.stages"
RECIPE_KEY = "edgecnn.recipe"
REWRITES_KEY = "edgecnn.rewrites"
"""Of an integer graph: the rewrites that were made of the float graph before (exporters/rewrites), by commas."""
IDENTITY_KEY = "edgecnn.identity"


@dataclass(frozen=True)
class Identity:
    """What a model is for: carried along so that calibration, evaluation and deployment see the same pixels."""

    name: str
    task: str = "classification"
    labels: tuple[str, ...] = ()
    preprocess: Preprocess | None = None
    sigmoid: bool = False
    """Its answers come out of a Sigmoid: each is a probability of its own, and a class or label starts at one half."""
    trained_on: tuple[tuple[str, str], ...] = ()
    """(name, fingerprint) of the data that it has learned from, as far as its weights say so."""


@dataclass(frozen=True)
class Stage:
    """One step. `snr_db` (of the worst kind of numbers) and `max_abs` compare the model after it with the original
    network; None: not compared.
    """

    name: str
    seconds: float
    size_bytes: int
    nodes: int
    ops: Mapping[str, int] = field(default_factory=dict)
    snr_db: float | None = None
    max_abs: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON allows it: an SNR of 999 dB says that the outputs are equal."""
        snr = None if self.snr_db is None else json_number(self.snr_db, JSON_SNR_LIMIT)
        return {**asdict(self), "ops": dict(self.ops), "snr_db": snr}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Stage:
        known = {k: values[k] for k in cls.__dataclass_fields__ if k in values}
        snr = known.get("snr_db")
        return cls(**{**known, "snr_db": math.inf if snr is not None and snr >= JSON_SNR_LIMIT else snr})


def describe(
    name: str, model: onnx.ModelProto, seconds: float, parity: ParityReport | None = None, note: str = ""
) -> Stage:
    """The stage called `name` that took `seconds` and left `model`, compared with the original network by `parity`."""
    return Stage(
        name=name,
        seconds=round(seconds, 4),
        size_bytes=model.ByteSize(),
        nodes=len(model.graph.node),
        ops=op_counts(model),
        snr_db=parity.worst_db if parity else None,
        max_abs=parity.max_abs if parity else None,
        note=note,
    )


def with_parity(stage: Stage, parity: ParityReport) -> Stage:
    """`stage`, compared with the original network by `parity`."""
    return replace(stage, snr_db=parity.worst_db, max_abs=parity.max_abs)


def write_stages(model: onnx.ModelProto, stages: tuple[Stage, ...]) -> onnx.ModelProto:
    """A copy of `model` that carries `stages`.

    Seconds differ from run to run; with SOURCE_DATE_EPOCH set (the custom of reproducible builds) they are written
    as 0, so that the same inputs give the same bytes.
    """
    if "SOURCE_DATE_EPOCH" in os.environ:
        stages = tuple(replace(stage, seconds=0.0) for stage in stages)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    set_meta(copy, {STAGES_KEY: json.dumps([stage.to_dict() for stage in stages], sort_keys=True)})
    return copy


def read_stages(model: onnx.ModelProto) -> tuple[Stage, ...]:
    """The stages that `model` carries; empty for a file from elsewhere or an entry that is not ours."""
    try:
        entries = json.loads(get_meta(model).get(STAGES_KEY, "[]"))
        return tuple(Stage.from_dict(entry) for entry in entries)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ()


def read_recipe(model: onnx.ModelProto) -> object:
    """How `model` was quantized, as it lies there; None for a file from elsewhere or an entry that is not ours."""
    try:
        return json.loads(get_meta(model).get(RECIPE_KEY, "null"))
    except (ValueError, RecursionError):
        return None


def write_identity(model: onnx.ModelProto, identity: Identity) -> None:
    """Store `identity` in `model`, in place."""
    preprocess = identity.preprocess.to_dict() if identity.preprocess else None
    values: dict[str, Any] = {
        "name": identity.name,
        "task": identity.task,
        "labels": list(identity.labels),
        "preprocess": preprocess,
    }
    values |= {"sigmoid": True} if identity.sigmoid else {}
    values |= {"trained_on": list(map(list, identity.trained_on))} if identity.trained_on else {}
    set_meta(model, {IDENTITY_KEY: json.dumps(values, sort_keys=True)})


def read_identity(model: onnx.ModelProto, name: str = "model") -> Identity | None:
    """The identity that `model` carries; None for a file from elsewhere.

    Raises `BadInput` naming `name` for one that was damaged.
    """
    text = get_meta(model).get(IDENTITY_KEY)
    if text is None:
        return None
    try:
        values = json.loads(text)
        preprocess = Preprocess.from_dict(values["preprocess"]) if values["preprocess"] else None
        labels, sigmoid = tuple(map(str, values["labels"])), values.get("sigmoid") is True
        trained_on = tuple((str(data), str(mark)) for data, mark in values.get("trained_on", ()))
        return Identity(str(values["name"]), str(values["task"]), labels, preprocess, sigmoid, trained_on)
    except (ValueError, TypeError, KeyError, RecursionError, BadInput) as error:
        raise BadInput(f"{name}: its metadata {IDENTITY_KEY} is damaged; export the model again") from error
