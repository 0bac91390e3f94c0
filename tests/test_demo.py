"""The demo on the small committed network (the README's own run of it trains the wide one)."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from edgecnn import demo
from edgecnn.cli._tables import demonstrated
from edgecnn.report import Page
from edgecnn.training.train import TrainReport
from runtimes.base import BadInput
from runtimes.bundle import open_bundle, verify

FIXTURE = Path(__file__).parent / "fixtures" / "resnet8_digits.safetensors"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training takes half a minute: here it hands out the committed weights of the network half as wide."""

    def train(name: str, data: str, output: Path, **options: Any) -> TrainReport:
        shutil.copy(FIXTURE, output)
        return TrainReport(
            output=str(output), model=name, task="classification", data=data, classes=10, metric="top-1", epochs=1,
            best_epoch=1, seconds=0.1, train_images=1438, validation_images=0, test_images=359, train_score=1.0,
            test_score=0.986, losses=(0.5,), validation=(), seed=options["seed"],
        )  # fmt: skip

    monkeypatch.setattr(demo, "train", train)
    monkeypatch.setattr(demo, "NETWORK", "resnet8")


def test_the_demo_answers_held_out_digits(trained: None, tmp_path: Path) -> None:
    report = demo.demo(tmp_path / "new" / "folder")
    folder = report.directory
    assert sorted(p.name for p in folder.iterdir()) == [
        *(f"digit_{i}.png" for i in range(5)), "digits.edge", "weights.safetensors",
    ]  # fmt: skip
    assert verify(open_bundle(folder / "digits.edge")).passed
    assert len({shown.label for shown in report.digits}) == 5
    assert sum(shown.answer == shown.label for shown in report.digits) >= 4  # a network that is right on 98.6 %
    known = {(image * 255 // 16).astype(np.uint8).tobytes() for image in load_digits().images.astype(int)}
    for shown in report.digits:
        pixels = np.asarray(Image.open(shown.path))
        assert pixels.tobytes() == shown.pixels.tobytes()
        assert pixels.tobytes() in known  # scikit-learn's own digits
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["built"]["chosen"] == report.chosen
    assert all(command.startswith("edgecnn ") for command in document["next"])


def test_the_picture_fits_a_terminal(trained: None, tmp_path: Path) -> None:
    report = demo.demo(tmp_path)
    assert len(report.picture) == 9  # eight rows of pixels and the answers
    assert all(len(line) <= 80 for line in report.picture)
    assert all(shown.answer in report.picture[-1] for shown in report.digits)


def test_the_next_commands_can_be_copied_from_a_narrow_terminal(trained: None, tmp_path: Path) -> None:
    report, stream = demo.demo(tmp_path), io.StringIO()
    demonstrated(Page(stream, width=40), report)
    lines = [line.removeprefix("go on with:").strip() for line in stream.getvalue().splitlines()]
    assert tuple(lines[-len(report.next_commands) :]) == report.next_commands


def test_an_earlier_demo_is_not_overwritten(trained: None, tmp_path: Path) -> None:
    (tmp_path / "digits.edge").write_bytes(b"mine")
    with pytest.raises(BadInput, match=r"digits\.edge: exists already"):
        demo.demo(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["digits.edge"]
    assert demo.demo(tmp_path, force=True).built.size_bytes > 1000


def test_a_folder_that_cannot_be_made_is_one_line(trained: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot be made \(Not a directory\)"):
        demo.demo(tmp_path / "file" / "demo")


def test_draw_uses_every_shade_in_order() -> None:
    image = np.asarray([[0, 60, 120, 180, 255]], np.uint8)
    assert demo.draw([image, image]) == ["  ░░▒▒▓▓██  ░░▒▒▓▓██"]
