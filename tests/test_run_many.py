"""`edgecnn run` on very many inputs: an answer is out, and its pictures are saved, before the next; little is kept."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecnn.cli import main
from edgecnn.prediction.predict import run
from runtimes.imaging import shown
from runtimes.imaging.arrays import Rows
from runtimes.imaging.named import stems
from runtimes.proof.answers import NumbersPrediction
from runtimes.proof.prediction import gathered, slim
from test_device_bundle import cls_bundle, on_device
from test_predict import det_bundle, quarters, seg_bundle, spoiled

MADE = pytest.mark.parametrize("made", [cls_bundle, seg_bundle, det_bundle], ids=["classes", "masks", "boxes"])


@MADE
def test_a_line_for_each_image_says_what_the_document_says(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, with those that cannot be read where they lie, and the same exit code and `error:` lines."""
    bundle = made(tmp_path / "net.edge")
    (tmp_path / "photos").mkdir()
    folder = spoiled(tmp_path / "photos")
    assert main(["run", str(bundle), str(folder), "--json"]) == 2
    document, wanted = json.loads((whole := capsys.readouterr()).out), whole.err
    assert main(["run", str(bundle), str(folder), "--jsonl"]) == 2
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["input"] for line in lines] == [str(folder / f"{i}.png") for i in range(5)]
    assert [line for line in lines if "error" not in line] == document["predictions"]
    assert [line for line in lines if "error" in line] == document["failed"]
    assert said.err == wanted


def test_a_device_tells_the_same_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = cls_bundle(tmp_path / "net.edge")
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32))
    inputs = [str(tmp_path / "missing.npy"), str(tmp_path / "a.npy")]
    assert main(["run", str(bundle), *inputs, "--jsonl"]) == 2
    ours = capsys.readouterr()
    done = on_device(bundle, "run", *inputs, "--jsonl")
    assert (done.returncode, done.stdout, done.stderr) == (2, ours.out, ours.err)
    assert [json.loads(line)["input"] for line in ours.out.splitlines()] == [
        inputs[0], *(f"{inputs[1]}[{i}]" for i in range(3))
    ]  # fmt: skip
    both = on_device(bundle, "run", *inputs, "--jsonl", "--json")
    assert main(["run", str(bundle), *inputs, "--json", "--jsonl"]) == both.returncode == 2
    line = "error: --jsonl: is a document a line, and --json one of all; give one of them\n"
    assert capsys.readouterr().err == both.stderr == line


def test_where_none_can_be_read_each_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = cls_bundle(tmp_path / "net.edge")
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert main(["run", str(bundle), str(tmp_path / "a.png"), str(tmp_path / "b.npz"), "--jsonl"]) == 2
    said = capsys.readouterr()
    assert sorted(json.loads(line)["input"] for line in said.out.splitlines()) == [
        str(tmp_path / name) for name in ("a.png", "b.npz")
    ]
    assert said.err.count("error: ") == 1


@pytest.mark.parametrize("made", [seg_bundle, det_bundle], ids=["masks", "boxes"])
def test_pictures_are_saved_before_the_next_is_answered(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each picture is decoded once, whatever it is needed for."""
    for name in "abc":
        quarters(tmp_path / f"{name}.png")
    decoded, real = [], shown.read_image

    def counting(path: Path, white: int | None) -> Any:
        decoded.append(Path(path).name)
        return real(path, white)

    monkeypatch.setattr(shown, "read_image", counting)
    saved: list[list[str]] = []

    def watched(items: Sequence[Any], label: str) -> Iterator[Any]:
        for item in items:
            saved.append(sorted(path.name for path in (tmp_path / "out").glob("*.overlay.png")))
            if item.name.endswith("c.png"):
                raise KeyboardInterrupt
            yield item

    bundle = made(tmp_path / "net.edge")
    with pytest.raises(KeyboardInterrupt):
        run(bundle, [tmp_path / f"{name}.png" for name in "abc"], save=tmp_path / "out", track=watched)
    assert saved == [[], ["a.overlay.png"], ["a.overlay.png", "b.overlay.png"]]
    assert decoded == ["a.png", "b.png"]
    assert Image.open(tmp_path / "out" / "b.overlay.png").size == (80, 40)


def test_callers_have_the_mask_and_tables_do_without(tmp_path: Path) -> None:
    quarters(tmp_path / "a.png")
    (found,) = run(seg_bundle(tmp_path / "s.edge"), tmp_path / "a.png").masks
    assert found.mask.nbytes == 40 * 80
    light = slim(found)
    assert light.mask.strides == (0, 0)
    assert light.mask.base is None or light.mask.base.nbytes == 1
    assert (light.to_dict(), light.words) == (found.to_dict(), found.words)
    numbers = NumbersPrediction("a", (), arrays={"y": np.zeros(3)})
    assert slim(numbers).arrays == {}


def test_rows_of_an_array_are_made_when_they_are_asked_for() -> None:
    rows = np.broadcast_to(np.zeros((1, 4), np.float32), (10**7, 4))
    tracemalloc.start()
    parts = [shown.of_array("a", rows, (4,)), shown.of_array("b", rows[:2], (4,)), Rows(0, lambda i: i)]
    found, lost = gathered(parts, lambda part: part, str)
    assert (len(found), lost) == (10**7 + 2, [])
    assert [found[i].name for i in (0, 10**7 - 1, 10**7, -1)] == ["a[0]", "a[9999999]", "b[0]", "b[1]"]
    assert [image.name for image in parts[1]] == ["b[0]", "b[1]"]
    with pytest.raises(IndexError):
        found[10**7 + 2]
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_many_inputs_of_one_name_are_numbered() -> None:
    """As class folders have them; to count from 1 for each would take two hundred million steps here."""
    found = stems([f"{i}/a.jpg" for i in range(20_000)])
    assert (found[0], found[1], found[-1], len(set(found))) == ("a", "a_2", "a_20000", 20_000)
    assert stems(["a_2.png", "a.png", "x/a.png", "y/a_2.png", "y/a.png"]) == ["a_2", "a", "a_3", "a_2_2", "a_4"]
