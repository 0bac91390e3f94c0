"""A bundle that stays open answers as `api.run` does, from any thread, and is opened once."""

from __future__ import annotations

import inspect
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecnn import api
from edgecnn.prediction.loaded import Loaded
from runtimes import bundle as bundles
from runtimes.proof.answers import MaskPrediction
from runtimes.proof.prediction import RunReport
from test_answering import BUNDLES, MAPS, made
from test_predict import det_bundle, picture, seg_bundle

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), np.uint8)


def said(report: RunReport) -> tuple[str, list[bytes]]:
    """All of a report: its document, and the pixels of its masks."""
    masks = [one.mask.tobytes() for one in report.predictions if isinstance(one, MaskPrediction)]
    return json.dumps([report.to_dict(), report.verdict]), masks


@pytest.mark.parametrize("kind", BUNDLES)
def test_it_reports_what_run_reports(kind: str, tmp_path: Path) -> None:
    path = BUNDLES[kind](tmp_path).path
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    loaded = api.load(path, threads=1)
    floats = np.full((3, 8, 8), 300, np.float32)
    for inputs in (FRAMES[0], FRAMES, [tmp_path / "a.png", floats, tmp_path / "b.png"], tmp_path / "a.png"):
        found = loaded.run(inputs, top=2, min_score=0.1)
        assert said(found) == said(api.run(path, inputs, threads=1, top=2, min_score=0.1))
    assert (found.bundle, found.provider) == (os.fspath(path), "cpu")


def test_a_bundle_of_open_size_sees_all_pictures_at_the_size_that_was_asked_for(tmp_path: Path) -> None:
    path = made(tmp_path, "segmentation", MAPS.replace("8, 8", "h, w")).path
    loaded = api.load(path, input_shape="3,16,24")
    for frame in FRAMES[:2]:
        assert said(loaded.run(frame)) == said(api.run(path, frame, input_shape="3,16,24"))
        assert said(loaded.run(frame)) != said(api.run(path, frame))


def test_its_arguments_are_those_of_run() -> None:
    """Some are given when it is opened, the others when it answers."""
    run, load, again = (dict(inspect.signature(call).parameters) for call in (api.run, api.load, Loaded.run))
    del again["self"]
    assert not load.keys() & again.keys()
    for name, parameter in run.items():
        mine = load.get(name) or again[name]
        assert (mine.default, mine.kind, mine.annotation) == (parameter.default, parameter.kind, parameter.annotation)
    assert run.keys() == load.keys() | again.keys()


def test_the_bundle_is_read_and_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = seg_bundle(tmp_path / "net.edge"), list[str]()
    plain = bundles.open_session

    def counted(*given: object, **named: object) -> object:
        opened.append("session")
        return plain(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(bundles, "open_session", counted)
    loaded = api.load(path)
    path.unlink()
    reports = [loaded.run(FRAMES[i]) for i in range(4)]
    assert opened == ["session"]
    assert [one.predictions[0].input for one in reports] == ["array 0"] * 4


def test_threads_get_the_answers_to_their_own_pictures(tmp_path: Path) -> None:
    loaded, wrong = api.load(BUNDLES["classes"](tmp_path).path, threads=1), list[int]()
    alone = [loaded.run(frame).classes[0].top for frame in FRAMES]
    assert len(set(alone)) == len(FRAMES)

    def ask(i: int) -> None:
        wrong.extend(i for _ in range(50) if loaded.run(FRAMES[i]).classes[0].top != alone[i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(FRAMES))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_pictures_are_saved_as_run_saves_them(tmp_path: Path) -> None:
    loaded = api.load(det_bundle(tmp_path / "net.edge"))
    (found,) = loaded.run(FRAMES[0], save=tmp_path / "drawn").boxes
    assert [Path(file).exists() for file in found.files] == [True]
    with pytest.raises(api.BadInput, match="force"):
        loaded.run(FRAMES[0], save=tmp_path / "drawn")
    assert loaded.run(FRAMES[0], save=tmp_path / "drawn", force=True).boxes[0].files == found.files


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (lambda path: api.load(path / "none.edge"), "no such file"),
        (lambda path: api.load(path / "net.edge", provider="gpu"), "provider"),
        (lambda path: api.load(path / "net.edge", threads=0), "threads 0"),
        (lambda path: api.load(path / "net.edge", input_shape="3,9,9"), "--input-shape 3,9,9"),
        (lambda path: api.load(path / "net.edge").run(np.zeros((3, 9, 9), np.float32)), "array 0: is float32"),
    ],
)
def test_what_is_wrong_is_told_where_it_is_given(wrong: Callable[[Path], object], line: str, tmp_path: Path) -> None:
    seg_bundle(tmp_path / "net.edge")
    with pytest.raises(api.BadInput, match=line):
        wrong(tmp_path)
