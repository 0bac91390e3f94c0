"""The page on preprocessing: its blocks run, its table has every key, and its examples say what is printed."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from edgecnn.data.pixels import NAMES, in_words, read_preprocess
from edgecnn.networks.sources import resolve
from runtimes.imaging.preprocess import Preprocess

PAGE = (Path(__file__).parent.parent / "docs/preprocess.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def rows(heading: str) -> set[str]:
    """First cells of the table below `heading`."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_the_worked_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example, _ = blocks("python")
    exec(compile(example, "docs/preprocess.md", "exec"), {})
    (text,) = blocks("json")
    assert json.loads(text) == json.loads((tmp_path / "pixels.json").read_text())
    assert f"`pixels: {in_words(read_preprocess('pixels.json', (3, 32, 32)))}`" in PAGE


def test_every_key_and_preset_is_there() -> None:
    assert rows("A file") == {field.name for field in fields(Preprocess)}
    assert rows("The six presets") == set(NAMES)


def test_a_network_that_carries_its_attributes_needs_no_flags(tmp_path: Path) -> None:
    assert rows("In the code of a network") == {
        "input_shape",
        "input_shapes",
        "preprocess",
        "labels",
        "task",
        "answer",
        "decode",
    }
    (tmp_path / "nets.py").write_text(blocks("python")[1])
    network = resolve(f"{tmp_path / 'nets.py'}:Net")
    assert network.assumption() == ""
    assert network.preprocess == Preprocess((32, 32), mean=(0.3,), std=(0.2,))
    assert (network.input_shape, network.labels, network.classes) == ((3, 32, 32), ("zero", "one", "two"), 3)
