"""The page on detectors: what it says of raw heads runs, both ways find the same boxes, and all that follows works."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn import api
from edgecnn.cli import main

PAGE = (Path(__file__).parent.parent / "docs/detectors.md").read_text("utf-8")
SECTION = PAGE.partition("\n## A YOLO's raw head\n")[2].partition("\n## ")[0]
QUICK = {"search_budget": 0, "allow_slower": True, "max_drop": 1.0, "limit": 4, "force": True}


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`nets.py` of the page, and a folder of labelled pictures as YOLO has them."""
    folder = tmp_path_factory.mktemp("street")
    (folder / "nets.py").write_text(block("python"))
    (folder / "data/images").mkdir(parents=True)
    (folder / "data/labels").mkdir()
    (folder / "data/data.yaml").write_text("names: [cat, dog, cow]\n")
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / f"data/images/{i}.png")
        (folder / f"data/labels/{i}.txt").write_text(f"{i % 3} 0.5 0.5 0.25 0.25\n")
    return folder


@pytest.fixture(scope="module")
def decoded(street: Path) -> Path:
    """The files that the commands of the page write, without the checks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(street)
        for line in block("sh").splitlines():
            if "check" not in line:
                assert main(shlex.split(line)[1:]) == 0, line
    return street


def test_both_ways_find_the_same_boxes(
    decoded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(decoded)
    checks = [line for line in block("sh").splitlines() if "check" in line]
    assert len(checks) == 2
    for line in checks:
        assert main([*shlex.split(line)[1:], "--json"]) == 0, line
        found = json.loads(capsys.readouterr().out)["matching"]
        assert found["matched"] > 20
        assert found["lost"] == found["extra"] == 0


def test_a_joined_detector_is_quantized_judged_and_run(decoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(decoded)
    made = api.quantize("decoded.onnx", "net.edge", "data", data="data", **QUICK)  # type: ignore[arg-type]
    assert made.judged_on.endswith("2 labelled images of data/images")
    assert made.accuracy is not None
    assert made.decision.metric == "mAP@[.5:.95]"
    kept = [node for node, why in made.quantized.float_nodes if "decoded in float" in why]
    assert any("decode/" in node for node in kept)
    assert api.verify("net.edge").passed
    (answer,) = api.run("net.edge", ["data/images/0.png"]).predictions
    assert len(answer.boxes) > 3  # type: ignore[union-attr]
    scored = api.evaluate("decoded.onnx", "net.edge", data="data")
    assert scored.metric == "mAP@[.5:.95]"


def test_labels_for_a_raw_head_are_told_to_be_of_no_use(decoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(decoded)
    built = api.build("nets.py:Raw", "raw.edge", calib="data", data="data", **QUICK)  # type: ignore[arg-type]
    (line,) = [line for line in built.warnings if "labels" in line]
    assert line.startswith("nets.py:Raw: labels of data/images cannot be used: they are boxes, and answers of shape (")
    assert "`--decode yolov8`" in line
    assert "labelled" not in built.judged_on
    assert "whose labels cannot be used" in built.judged_on
    api.report("raw.edge", "raw.html")
    page = Path("raw.html").read_text("utf-8")
    assert "labels were given and could not be used (they are boxes" in page
    assert "no labelled images were given" not in page
    assert "labelled image" not in page
    assert "kind by kind" in page
    assert {check.of for check in api.verify("raw.edge").golden} == {
        "channels 0 to 3 of output",
        "channels 4 to 6 of output",
    }


def test_a_raw_file_is_told_the_same(decoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(decoded)
    made = api.quantize("raw.onnx", "rawq.onnx", "data", data="data", **QUICK)  # type: ignore[arg-type]
    assert [line for line in made.warnings if "labels of data/images cannot be used" in line]
    assert made.accuracy is None
    elsewhere = api.quantize("raw.onnx", "rawt.onnx", "data", data="data", target="tensorrt", max_drop=1.0)
    assert [line for line in elsewhere.warnings if "labels of data/images cannot be used" in line]


def test_decode_for_a_file_is_refused_where_networks_are_meant(
    decoded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(decoded)
    for words in (["evaluate", "raw.onnx", "--data", "data"], ["check", "raw.onnx", "raw.onnx"], ["diff", "raw.onnx",
                  "raw.onnx"]):  # fmt: skip
        assert main([*words, "--decode", "yolov8"]) == 2
        assert "`edgecnn decode raw.onnx` makes boxes of it" in capsys.readouterr().err
