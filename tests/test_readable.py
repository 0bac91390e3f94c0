"""Pictures that cannot be read: how many there are is said at the first one, and sets can be had without them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from data_folders import picture
from edgecnn import api
from edgecnn.cli import main
from edgecnn.data import readable, unreadable
from edgecnn.data.load import load_data
from edgecnn.data.samples import Samples
from edgecnn.networks.spec import unit_range
from runtimes.base import BadInput, silent
from small_nets import conv_net, save

READY = unit_range(8, 8)
BROKEN = ("a/3.png", "b/1.png", "b/2.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 20; of three pictures one is no picture, one has no end, and one is empty."""
    root = tmp_path / "photos"
    for i in range(40):
        picture(root / "ab"[i % 2] / f"{i // 2}.png", 8, 8, seed=i)
    (root / BROKEN[0]).write_bytes(b"no picture")
    (root / BROKEN[1]).write_bytes((root / BROKEN[1]).read_bytes()[:-60])
    (root / BROKEN[2]).write_bytes(b"")
    return root


@pytest.fixture
def model(tmp_path: Path) -> str:
    save(conv_net(), tmp_path / "net.onnx")
    return str(tmp_path / "net.onnx")


def read(samples: Samples) -> list[str]:
    samples.stack()
    return ["/".join(Path(name).parts[-2:]) for name in samples.ids]


def test_the_first_one_says_how_many_others_look_broken(photos: Path) -> None:
    with pytest.raises(BadInput) as caught:
        list(load_data(photos, READY).feeds("x", 4))
    assert str(caught.value).startswith(f"{photos}/a/3.png: is not an image or is damaged")
    assert str(caught.value).endswith("; 2 more of 40 look broken: b/1.png, b/2.png")
    (photos / BROKEN[1]).unlink()
    with pytest.raises(BadInput, match=r"; 1 more of 39 looks broken: b/2.png$"):
        load_data(photos, READY).stack()
    (photos / BROKEN[2]).unlink()
    with pytest.raises(BadInput, match=r"replace or remove it$"):
        load_data(photos, READY).stack()


def test_the_look_at_the_others_ends_in_time(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))
    monkeypatch.setattr(readable.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(readable, "SECONDS", 23)
    with pytest.raises(BadInput, match=r"; 1 more of the first 23 looks broken: b/1.png$"):
        load_data(photos, READY).stack()


def test_a_set_can_be_had_without_them(photos: Path) -> None:
    samples = load_data(photos, READY, sift=silent)
    assert len(read(samples)) == len(set(read(samples))) == 37
    assert not {*BROKEN} & {*read(samples)}
    assert samples.labels.tolist() == [0] * 19 + [1] * 18
    assert samples.unreadable == tuple(f"{photos}/{name}" for name in BROKEN)
    assert unreadable.of_unreadable(samples, load_data("digits", READY, sift=silent)) == (
        f"{photos}: 3 pictures are left out that cannot be read: a/3.png, b/1.png, b/2.png",
    )


def test_others_are_drawn_in_their_place_and_always_the_same(photos: Path) -> None:
    plain = load_data(photos, READY, limit=36, seed=5)
    samples = load_data(photos, READY, limit=36, seed=5, sift=silent)
    assert len(samples) == len(plain) == 36
    assert read(samples) == read(load_data(photos, READY, limit=36, seed=5, sift=silent))
    whole = ["/".join(Path(name).parts[-2:]) for name in plain.ids]
    assert {*whole} - {*read(samples)} == {*BROKEN} & {*whole} != set()
    assert samples.of == 40
    assert len(load_data(photos, READY, limit=50, sift=silent)) == 37


def test_how_far_it_is_is_shown(photos: Path) -> None:
    seen: list[tuple[int, str]] = []

    def track(items: Iterable[object], label: str) -> Iterable[object]:
        seen.append((len(list(items)), label))
        return items

    load_data(photos, READY, limit=10, sift=track)
    assert seen == [(10, "looking for pictures that cannot be read")]


def test_more_than_half_are_too_many(photos: Path) -> None:
    for file in sorted(photos.rglob("*.png"))[:20]:
        file.write_bytes(b"")
    with pytest.raises(
        BadInput, match=r"photos: 22 of 40 pictures cannot be read, which is too many to skip: .*a/0.png"
    ):
        load_data(photos, READY, sift=silent)


COMMANDS = {
    "evaluate": ["evaluate", "{model}", "--data", "{arrays}"],
    "check": ["check", "{model}", "{model}", "--data", "{data}", "--snr-db", "90"],
    "diff": ["diff", "{model}", "{model}", "--data", "{data}", "--samples", "40"],
    "quantize": ["quantize", "{model}", "-o", "{out}.onnx", "--calib", "{data}", "--search-budget", "0",
                 "--max-drop", "1", "--allow-slower"],
    "target": ["quantize", "{model}", "-o", "{out}.onnx", "--calib", "{data}", "--target", "tensorrt",
               "--max-drop", "1"],
    "build": ["build", "lenet5", "-o", "{out}.edge", "--calib", "{data}", "--num-classes", "2", "--data", "{data}",
              "--search-budget", "0", "--max-drop", "1"],
    "train": ["train", "lenet5", "-o", "{out}.safetensors", "--data", "{data}", "--epochs", "1"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_reads_sets_can_go_on(
    command: str, photos: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcdefghij"))
    places = {"model": model, "data": str(photos), "arrays": str(photos), "out": str(tmp_path / "out")}
    words = [word.format(**places) for word in COMMANDS[command]]
    words += ["--labels", str(names)] if command == "evaluate" else []
    assert main([*words, "--json"]) == 2
    assert " more of " in capsys.readouterr().err
    assert main([*words, "--skip-unreadable", "--json"]) == 0
    said_now = capsys.readouterr()
    assert json.loads(said_now.out)["unreadable"] == sorted(f"{photos}/{name}" for name in BROKEN)
    assert f"warning: {photos}: " in said_now.err
    assert "that cannot be read: " in said_now.err


def test_arrays_have_none(model: str) -> None:
    report = api.check(model, model, data=np.zeros((3, 3, 8, 8), np.float32), snr_db=90, skip_unreadable=True)
    assert report.unreadable == ()
