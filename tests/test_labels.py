"""Class names from files: three spellings, and everything that is no list of names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgecnn.data.labels import read_labels
from runtimes.base import BadInput

NAMES = ("cat", "großer Hund", "猫")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps(NAMES)),
        ("a.json", "\ufeff" + json.dumps(NAMES)),
        ("a.json", json.dumps({"2": NAMES[2], "0": NAMES[0], "1": NAMES[1]})),
        ("a.txt", "\n".join(NAMES)),
        ("a.txt", "\r\n".join(NAMES) + "\r\n"),
    ],
)
def test_three_spellings(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8", newline="")
    assert read_labels(tmp_path / name, 3) == NAMES
    assert read_labels(tmp_path / name) == NAMES


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (b'["a", "b",', "is no list of names"),
        (b'["a", "b"]', "holds 2 names, the network has 3 classes"),
        (b'["a", "b", "c", "d"]', "holds 4 names"),
        (b"[]", "holds 0 names"),
        (b'["a", null, "c"]', "name 1 is 'NoneType'"),
        (b'["a", "", "c"]', "name 1 is ''"),
        (b'["a", "b\\u001b[31m", "c"]', "printable characters"),
        (b'["a", "b", "' + b"c" * 201 + b'"]', "1 to 200 printable"),
        (b'{"0": "a", "0": "b", "1": "c"}', 'keys are not "0"'),
        (b'{"0": "a", "1": "b", "3": "c"}', 'keys are not "0"'),
        (b'"abc"', "a str instead of a list"),
        (b"[NaN, Infinity]", "NaN is not JSON"),
        (b"[" * 100_000, "is no list of names"),
        (b"[" + b"9" * 100_000 + b"]", "is no list of names"),
        (b"\xff\xfe", "is no list of names"),
    ],
)
def test_what_is_no_list_of_names(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(BadInput) as caught:
        read_labels(tmp_path / "a.json", 3)
    assert complaint in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_blank_line_and_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat\n\ndog\n")
    with pytest.raises(BadInput, match="name 1 is ''"):
        read_labels(tmp_path / "a.txt")
    os.mkfifo(tmp_path / "b.txt")
    with pytest.raises(BadInput, match="is a pipe"):
        read_labels(tmp_path / "b.txt")
