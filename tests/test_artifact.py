"""Stages and identity survive the trip through a file, and damage is noticed."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest

from exporters import artifact
from exporters.artifact import Identity, Stage
from exporters.graph import get_meta, set_meta
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess

TEXT = '<ir_version: 10, opset_import: ["": 20]> g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }'


def test_stages_survive_the_file(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(TEXT)
    stages = (
        Stage("export", 1.5, 100, 1, {"Relu": 1}, 131.25, 1e-6, "note"),
        Stage("simplify", 0.5, 90, 1, {"Relu": 1}, math.inf, 0.0),
        Stage("quantize", 0.5, 90, 1, {"Relu": 1}, None, None),
    )
    onnx.save(artifact.write_stages(model, stages), tmp_path / "m.onnx")
    assert artifact.read_stages(onnx.load(tmp_path / "m.onnx")) == stages
    assert not get_meta(model)  # the argument is not edited


def test_describe_counts_the_model() -> None:
    model = onnx.parser.parse_model(TEXT)
    stage = artifact.describe("export", model, 0.25)
    assert (stage.nodes, stage.ops, stage.size_bytes, stage.seconds) == (1, {"Relu": 1}, model.ByteSize(), 0.25)


def test_reproducible_builds_write_no_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    model = onnx.parser.parse_model(TEXT)
    one, two = (artifact.write_stages(model, (Stage("export", s, 1, 1),)) for s in (1.0, 2.0))
    assert one.SerializeToString() == two.SerializeToString()


DEEP = "[" * 100_000
"""More than the parser of JSON can descend."""


@pytest.mark.parametrize("text", ["", "not json", "[1]", '{"a": 1}', '[{"name": "x"}]', DEEP], ids=lambda t: t[:9])
def test_foreign_stages_are_nobodys(text: str) -> None:
    model = onnx.parser.parse_model(TEXT)
    set_meta(model, {artifact.STAGES_KEY: text})
    assert artifact.read_stages(model) == ()


def test_identity_survives(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(TEXT)
    assert artifact.read_identity(model) is None
    identity = Identity("net", "classification", ("cat", "dög"), Preprocess(size=(8, 8), channels=1))
    artifact.write_identity(model, identity)
    assert artifact.read_identity(model) == identity


WRONG_SIZE = '{"name": "n", "task": "t", "labels": [], "preprocess": {"size": [0, 0]}}'


@pytest.mark.parametrize("text", ['{"name": 1}', "[]", DEEP, WRONG_SIZE], ids=lambda text: text[:9])
def test_a_damaged_identity_is_bad_input(text: str) -> None:
    model = onnx.parser.parse_model(TEXT)
    set_meta(model, {artifact.IDENTITY_KEY: text})
    with pytest.raises(BadInput, match=r"^m\.onnx: its metadata edgecnn\.identity is damaged; export the model again$"):
        artifact.read_identity(model, "m.onnx")
