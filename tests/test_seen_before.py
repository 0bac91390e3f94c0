"""`evaluate` on images that the model has seen: what training held out is judged, or a line says what is among them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
from PIL import Image

from edgecnn import api
from edgecnn.data.fingerprint import DataSet, identified
from edgecnn.data.load import load_data
from edgecnn.evaluation.evaluate import evaluate
from edgecnn.evaluation.seen_before import SeenBefore
from edgecnn.networks.spec import unit_range
from edgecnn.networks.weights import load_weights
from edgecnn.runners import Subject
from exporters.artifact import Identity, read_identity, write_identity
from small_nets import conv_net

NET = """
from torch import nn
class Net(nn.Sequential):
    input_shape = (1, 8, 8)
    preprocess = {"mean": [0.5], "std": [0.3]}
    def __init__(self):
        super().__init__(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
"""
HELD = "of {}, the fifth that training held out."


def photos(root: Path, count: int = 20, seed: int = 0) -> Path:
    """Noise in two folders: what a network knows of it, it has learned by heart."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
    return root


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `evaluate` is given for a network that has learned from the folder `photos` below the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    photos(tmp_path / "photos")
    api.train("net.py:Net", "photos", "w.safetensors", epochs=40, rate=0.02)
    return {"model": "net.py:Net", "weights": Path("w.safetensors")}


def lines(report: Any, text: str) -> list[str]:
    return [line for line in report.warnings if text in line]


def test_what_it_was_trained_on_is_not_judged(trained: dict[str, Any], tmp_path: Path) -> None:
    report = evaluate(**trained, data="photos")
    score = load_weights("w.safetensors")[1]
    assert score is not None
    assert report.models[0][1].value == score.test_score < 1
    assert (report.images, report.held_out, report.to_dict()["held_out"]) == (4, True, True)
    assert report.verdict.endswith(HELD.format("photos"))
    assert not lines(report, "judged")
    assert "the fifth that training held out" in evaluate(**trained, data="photos", min_metric=1).failures[0]
    os.rename("photos", "moved")
    assert evaluate(**trained, data="moved").held_out  # wherever it lies


def test_other_pictures_are_judged_whole(trained: dict[str, Any], tmp_path: Path) -> None:
    other = evaluate(**trained, data=str(photos(tmp_path / "other", seed=1)))
    assert (other.images, other.held_out, lines(other, "judged")) == (20, False, [])
    photos(tmp_path / "photos", count=22)
    changed = evaluate(**trained, data="./photos")
    assert (changed.images, changed.held_out) == (22, False)
    assert len(lines(changed, "photos: has changed since net.py:Net was trained on data of that name")) == 1


def test_what_was_learned_travels(trained: dict[str, Any], tmp_path: Path) -> None:
    api.export("net.py:Net", "n.onnx", weights="w.safetensors")
    identity = read_identity(onnx.load("n.onnx"))
    about = load_weights("w.safetensors")[1]
    assert identity is not None
    assert about is not None
    assert identity.trained_on == about.trained_on != ()
    api.quantize("n.onnx", "q.onnx", "photos", all_int8=True, max_drop=1.0, search_budget=0)
    api.build("net.py:Net", "n.edge", weights="w.safetensors", calib="photos", data="photos", search_budget=0)
    for names in (("n.onnx",), ("n.onnx", "q.onnx"), ("n.edge", "n.onnx")):
        report = evaluate(*names, data="photos")
        assert (report.images, report.held_out, lines(report, "calibrated on")) == (4, True, [])


def test_a_build_is_judged_and_calibrated_on_the_parts_that_training_made(trained: dict[str, Any]) -> None:
    photos(Path("other"), seed=1)
    built = api.build("net.py:Net", "n.edge", weights="w.safetensors", calib="other", data="photos", search_budget=0)
    assert built.judged_on == "4 labelled images of photos"
    alone = api.build("net.py:Net", "m.edge", weights="w.safetensors", calib="photos", search_budget=0)
    assert (alone.recipe.images, alone.judged_on.partition(" without")[0]) == (16, "4 images")


def test_a_second_training_remembers_the_first(trained: dict[str, Any]) -> None:
    photos(Path("more"), seed=2)
    api.train("net.py:Net", "more", "again.safetensors", weights="w.safetensors", epochs=1)
    model = {**trained, "weights": Path("again.safetensors")}
    assert evaluate(**model, data="photos").held_out
    assert evaluate(**model, data="more").held_out


def older(path: str, **changed: object) -> None:
    """The weights in `path` as they were written before fingerprints were taken."""
    state, about = safetensors.torch.load_file(path), load_weights(path)[1]
    assert about is not None
    values = {**json.loads(about.to_json()), **changed}
    del values["trained_on"]
    safetensors.torch.save_file(state, path, {"edgecnn": json.dumps(values)})


def test_weights_of_before_fingerprints_may_have_seen_anything(trained: dict[str, Any]) -> None:
    older("w.safetensors")
    (line,) = evaluate(**trained, data="photos").warnings
    assert line.startswith("net.py:Net: was trained on photos by an older edgecnn, which kept no fingerprint of it; ")
    os.rename("photos", "moved")
    report = evaluate(**trained, data="moved")
    assert (report.images, report.held_out) == (20, False)
    (line,) = report.warnings
    assert "all of moved is judged, and may have been seen in training" in line
    api.export("net.py:Net", "n.onnx", weights="w.safetensors")
    assert len(lines(evaluate("n.onnx", data="moved"), "n.onnx: was trained on photos by an older edgecnn")) == 1
    api.train("net.py:Net", "moved", "again.safetensors", weights="w.safetensors", epochs=1)
    again = evaluate("net.py:Net", weights=Path("again.safetensors"), data="moved")
    assert (again.held_out, again.warnings) == (True, ()), "what was held out of it now is all that can be said"


def test_who_has_no_record_or_saw_what_has_parts_is_told_nothing(trained: dict[str, Any]) -> None:
    state = safetensors.torch.load_file("w.safetensors")
    safetensors.torch.save_file(state, "plain.safetensors")
    assert not lines(evaluate("net.py:Net", weights=Path("plain.safetensors"), data="photos"), "seen in training")
    older("w.safetensors", data="digits")  # whose test part nobody trains on
    assert not lines(evaluate(**trained, data="photos"), "seen in training")
    older("w.safetensors")
    for part in ("train", "val"):
        photos(Path("parted") / part, seed=len(part))
    assert not lines(evaluate(**trained, data="parted"), "seen in training")


def test_a_metric_of_ones_own_is_asked_about_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    images = np.random.default_rng(0).standard_normal((30, 1, 8, 8), np.float32)
    np.savez("a.npz", x=images, y=np.arange(30) % 2)
    api.train("net.py:Net", "a.npz", "w.safetensors", epochs=1)
    seen: list[str] = []

    def mine(answers: object, name: str) -> float:
        seen.append(name)
        return 1.0

    report = evaluate("net.py:Net", weights=Path("w.safetensors"), data="a.npz", metric=mine)
    usual = load_data("a.npz", unit_range(8, 8, 1), split="test")
    assert report.held_out
    assert len(seen) == 6
    assert list(usual.ids) == [f"a.npz[{name}]" for name in seen]


def foreign(path: Path, labels: Sequence[str] = ()) -> Path:
    """An .onnx file that says nothing of a training."""
    model = conv_net()
    write_identity(model, Identity("net", "classification", tuple(labels), unit_range(8, 8)))
    onnx.save(model, path)
    return path


def test_calibration_images_among_those_judged_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos(Path("photos")), photos(Path("other"), seed=1)
    model = foreign(Path("m.onnx"), [*"abcdefghij"])
    for output in ("q.onnx", "q.edge"):
        api.quantize(model, output, "photos", all_int8=True, max_drop=1.0, search_budget=0)
        report = evaluate(model, output, data="photos")
        assert (report.images, report.held_out) == (20, False)
        assert len(lines(report, f"{output}: was calibrated on photos; the images that set its int8 ranges")) == 1
        assert json.dumps(report.to_dict()["warnings"]).count("calibrated on") == 1
        assert not lines(evaluate(model, output, data="other"), "calibrated on")
    assert not lines(evaluate(model, data="photos"), "calibrated on")


@pytest.mark.parametrize(("part", "held"), [("", True), ("train", False)])
def test_of_a_set_that_has_a_test_part_of_its_own_nothing_more_is_held_out(
    part: str, held: bool, tmp_path: Path
) -> None:
    photos(tmp_path / "set" / part, count=4)
    spec = str(tmp_path / "set")
    subject = Subject("net", lambda feeds: feeds, (), None, False, trained_on=identified(spec))
    before = SeenBefore(spec, [subject])
    assert before.learned
    assert before.held_out is held
    assert before.lines == ()


def test_a_set_is_read_for_its_fingerprint_only_where_a_model_knows_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large set that takes minutes."""
    monkeypatch.setattr("edgecnn.evaluation.seen_before.fingerprint", lambda spec: pytest.fail("read"))
    subject = Subject("net", lambda feeds: feeds, (), None, False)
    assert not SeenBefore("photos", [subject]).learned
    old = replace(subject, trained_on=(DataSet("photos", ""),))
    assert not SeenBefore("photos", [old]).learned
