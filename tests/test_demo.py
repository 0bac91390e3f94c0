"""The demo on the small committed network (the README's own run of it trains the wide one)."""

from __future__ import annotations

import functools
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from edgecnn import demo, road
from edgecnn.cli._tables import demonstrated
from edgecnn.report import Page
from edgecnn.training.outcome import TrainReport
from runtimes.base import BadInput
from runtimes.bundle import open_bundle, verify

FIXTURE = Path(__file__).parent / "fixtures" / "resnet8_digits.safetensors"


@pytest.fixture(scope="module")
def trained() -> Iterator[None]:
    """Training takes half a minute: here it hands out the committed weights of the network half as wide."""

    def train(name: str, data: str, output: Path, **options: Any) -> TrainReport:
        shutil.copy(FIXTURE, output)
        return TrainReport(
            output=str(output), model=name, task="classification", data=data, classes=10, metric="top-1", epochs=1,
            best_epoch=1, seconds=0.1, train_images=1438, validation_images=0, test_images=359, train_score=1.0,
            test_score=0.986, losses=(0.5,), validation=(), seed=options["seed"],
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "train", train)
        patch.setattr(demo, "NETWORK", "resnet8")
        patch.setattr(road, "build", functools.partial(road.build, search_budget=1))
        yield


@pytest.fixture(scope="module")
def shown(trained: None, tmp_path_factory: pytest.TempPathFactory) -> demo.DemoReport:
    """One run for all tests, into a folder with an earlier demo's bundle; the search gets a second."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    folder.mkdir(parents=True)
    (folder / "digits.edge").write_bytes(b"mine")
    with pytest.raises(BadInput, match=r"digits\.edge: exists already"):
        demo.demo(folder)
    assert [(p.name, p.read_bytes()) for p in folder.iterdir()] == [("digits.edge", b"mine")]
    return demo.demo(folder, force=True)


def test_the_demo_answers_held_out_digits(shown: demo.DemoReport) -> None:
    folder = shown.directory
    assert sorted(p.name for p in folder.iterdir()) == [
        *(f"digit_{i}.png" for i in range(5)), "digits.edge", "weights.safetensors",
    ]  # fmt: skip
    assert verify(open_bundle(folder / "digits.edge")).passed
    assert len({digit.label for digit in shown.digits}) == 5
    assert sum(digit.answer == digit.label for digit in shown.digits) >= 4  # a network that is right on 98.6 %
    known = {(image * 255 // 16).astype(np.uint8).tobytes() for image in load_digits().images.astype(int)}
    for digit in shown.digits:
        pixels = np.asarray(Image.open(digit.path))
        assert pixels.tobytes() == digit.pixels.tobytes()
        assert pixels.tobytes() in known  # scikit-learn's own digits
    document = json.loads(json.dumps(shown.to_dict(), allow_nan=False))
    assert document["built"]["chosen"] == shown.chosen
    assert all(command.startswith("edgecnn ") for command in document["next"])


def test_the_picture_fits_a_terminal(shown: demo.DemoReport) -> None:
    assert len(shown.picture) == 9  # eight rows of pixels and the answers
    assert all(len(line) <= 80 for line in shown.picture)
    assert all(digit.answer in shown.picture[-1] for digit in shown.digits)


def test_the_next_commands_can_be_copied_from_a_narrow_terminal(shown: demo.DemoReport) -> None:
    stream = io.StringIO()
    demonstrated(Page(stream, width=40), shown)
    lines = [line.removeprefix("go on with:").strip() for line in stream.getvalue().splitlines()]
    assert tuple(lines[-len(shown.next_commands) :]) == shown.next_commands


def test_an_earlier_demo_is_overwritten_when_told_to(shown: demo.DemoReport) -> None:
    """The fixture saw that it is refused otherwise."""
    assert shown.built.size_bytes == (shown.directory / "digits.edge").stat().st_size > 1000


def test_a_folder_is_made(tmp_path: Path) -> None:
    assert demo._make(tmp_path / "new" / "folder").is_dir()


def test_a_folder_that_cannot_be_made_is_one_line(trained: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot be made \(Not a directory\)"):
        demo.demo(tmp_path / "file" / "demo")


def test_draw_uses_every_shade_in_order() -> None:
    image = np.asarray([[0, 60, 120, 180, 255]], np.uint8)
    assert demo.draw([image, image]) == ["  ░░▒▒▓▓██  ░░▒▒▓▓██"]
