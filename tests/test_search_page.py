"""The page on the search: its commands print what it shows, its names are the code's, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgecnn.choosing import names
from edgecnn.choosing.choose import INT8, MIXED
from edgecnn.cli import main

PAGE = (Path(__file__).parent.parent / "docs/search.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def titles(text: str) -> set[str]:
    """The titles of its tables, and its sentences with numbers left out."""
    lines = [re.sub(r"\s+", " ", re.sub(r"[\d.]+", "#", line)).strip() for line in text.splitlines()]
    return {line for line in lines if re.match(r"taken|candidate", line) or line.endswith(".")}


def test_the_blocks_run_and_print_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (commands,) = blocks("sh")
    for command in commands.splitlines():
        assert main(command.split()[1:]) == 0
    printed = titles(capsys.readouterr().out)
    for shown in blocks("text"):
        there = {title for title in titles(shown) if not title.startswith("(+)")}  # two ways are not always needed
        assert there <= printed
    (example,) = blocks("python")
    exec(compile(example, "docs/search.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"[+ ] all rewrites \d\.\d\dx", lines[0])
    assert sum(" us, float " in line for line in lines) > 10


def test_every_candidate_is_in_the_table() -> None:
    found = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert set(found) == {INT8, MIXED, names.PLAIN, names.PORTABLE, names.AGAIN, names.EXACT}
