"""What `bench` and `profile` assume is said before they measure, once, on stderr and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgecnn import api
from edgecnn.cli import main
from edgecnn.cli._result import Telling
from edgecnn.latency.assumptions import of_pictures, of_sizes
from edgecnn.latency.job import Job
from exporters.pack import pack
from runtimes.base import CheckFailed
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import open_session
from small_nets import model, save
from test_predict import ABOUT

OPEN = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Relu (x) }
"""
FIXED = OPEN.replace("3, H, W", "3, 16, 24")
FINDER = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 8, 8] x) => (float[M, 4] boxes, float[M] scores, int64[M] labels, int64[M] image)
<float[1, 4] b = {1.0, 1.0, 4.0, 4.0}, float[1] s = {0.5}, int64[1] l = {1}> {
    boxes = Identity (b)
    scores = Identity (s)
    labels = Identity (l)
    image = Sub (l, l)
    seen = ReduceMean (x)
}
"""

pytestmark = pytest.mark.usefixtures("quick_measurements")


def bundle(path: Path) -> str:
    net = model(OPEN)
    images = np.random.default_rng(0).random((1, 3, 16, 24), np.float32)
    shape = ["N", 3, "H", "W"]
    about = {
        **ABOUT, "task": "other", "labels": [], "preprocess": Preprocess((16, 24)).to_dict(),
        "input": {"name": "x", "dtype": "float32", "shape": shape},
        "output": {"name": "y", "dtype": "float32", "shape": shape},
        "stages": [{"name": "export", "note": ""}, {"name": "fold", "note": ""}],
    }  # fmt: skip
    pack(path, net, about, [images], [open_session(net)({"x": images})["y"]], 0.0)
    return str(path)


def warned(capsys: pytest.CaptureFixture[str], *args: str) -> list[str]:
    assert main([*args, "--json"]) == 0
    out, err = capsys.readouterr()
    found: list[str] = json.loads(out)["warnings"]
    said = [line.removeprefix("warning: ") for line in err.splitlines() if line.startswith("warning: ")]
    assert said == found  # each once
    return found


def test_the_size_of_a_bundle_that_leaves_it_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bundle(tmp_path / "net.edge")
    line = f"{path}: leaves the size of its input open: measured at 3x16x24, for which it was built; see --input-shape"
    assert warned(capsys, "bench", path, "--iterations", "4", "--batch", "1,2") == [line]
    assert warned(capsys, "profile", path, "--iterations", "2") == [line]
    assert warned(capsys, "bench", path, "--iterations", "4", "--input-shape", "1,3,8,8") == []
    assert warned(capsys, "profile", path, "--iterations", "2", "--input-shape", "1,3,8,8") == []


def test_a_size_that_another_model_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed, free = (str(save(model(text), tmp_path / n)) for text, n in ((FIXED, "a.onnx"), (OPEN, "b.onnx")))
    line = f"{free}: leaves the size of its input open: measured at 3x16x24, as another model of the race takes;"
    (found,) = warned(capsys, "bench", fixed, free, "--iterations", "4")
    assert found.startswith(line)
    (found,) = warned(capsys, "profile", fixed, "--against", free, "--iterations", "2")
    assert found.startswith(line)
    assert warned(capsys, "bench", fixed, "--iterations", "4") == []


def test_a_detector_is_fed_random_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(save(model(FINDER), tmp_path / "det.onnx"))
    line = f"{path}: how long a detector takes depends on the picture, and it is fed random numbers"
    assert warned(capsys, "bench", path, "--iterations", "4", "--batch", "1,2") == [line]
    assert warned(capsys, "profile", path, "--iterations", "2") == [line]


def test_it_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, told = bundle(tmp_path / "net.edge"), list[str]()

    def no_race(*_: object, **__: object) -> None:
        raise CheckFailed("the race")

    monkeypatch.setattr("edgecnn.latency.benchmark.heat", no_race)
    monkeypatch.setattr("edgecnn.profiling.profile.measure_peaks", no_race)
    for work in (api.bench, api.profile):
        with pytest.raises(CheckFailed, match="the race"):
            work(path, tell=told.append)
    assert len(told) == 2
    assert all("leaves the size of its input open" in line for line in told)


def test_words() -> None:
    job = Job("m", "cpu", 1, 4, 0, ("mask:4,1,8,8",))
    after = Job("m", "cpu", 1, 4, 0, ("mask:4,1,8,8", "x:4,3,8,8"))
    assert of_sizes({"m": job}, {"m": job}) == []
    assert "measured at 3x8x8, for" in of_sizes({"m": job}, {"m": after})[0]
    assert of_pictures("m", ["boxes", "scores"]) == ""


def test_what_was_told_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    class Report:
        warnings, verdict, failure = ("early", "late"), "done", CheckFailed("no")

        def to_dict(self) -> dict[str, object]:
            return {"warnings": list(self.warnings)}

    tell = Telling()
    tell("early")
    assert "early" in capsys.readouterr().err
    result = tell.result(Report(), lambda page: None)
    assert (result.verdict, result.warnings, result.failure) == ("done", ["late"], Report.failure)
    assert result.document == {"warnings": ["early", "late"]}
