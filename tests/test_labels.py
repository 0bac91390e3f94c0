"""Class names from files: three spellings, and everything that is no list of names."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgecnn.data.labels import read_labels
from runtimes.base import BadInput
from small_nets import conv_net, save

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


@contextlib.contextmanager
def piped(data: bytes) -> Iterator[str]:
    """The name by which a shell hands over `<(command)`."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    try:
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)


@pytest.mark.parametrize("text", ["\n".join(NAMES), json.dumps(NAMES), f" {json.dumps(dict(enumerate(NAMES)))}"])
def test_what_is_piped_is_read_as_a_file_of_it(text: str) -> None:
    with piped(text.encode()) as name:
        assert read_labels(name, 3) == NAMES
        with pytest.raises(BadInput, match=r"is empty; a pipe can be read once"):
            read_labels(name, 3)
    with piped(text.encode()) as name, pytest.raises(BadInput, match=r"/dev/fd/\d+: holds 3 names"):
        read_labels(name, 4)


def test_what_is_piped_has_the_limits_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with piped(b"a\n" * 100) as name:
        monkeypatch.setattr("edgecnn.data.labels.LIMIT_BYTES", 100)
        with pytest.raises(BadInput, match="more than 100 bytes"):
            read_labels(name)
    with piped(b'["a", ') as name, pytest.raises(BadInput, match="is no list of names"):
        read_labels(name)
    with pytest.raises(BadInput, match="is no list of names"):
        read_labels("/dev/fd/98765")  # nothing is open there
    leader, terminal = os.openpty()
    with pytest.raises(BadInput, match="is a terminal"):
        read_labels(f"/dev/fd/{terminal}")
    os.close(leader), os.close(terminal)


def test_a_pipe_names_the_classes_of_both_models(tmp_path: Path) -> None:
    """Read once, though two models are named by it."""
    model = save(conv_net(), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 3, 8, 8), np.float32), y=np.arange(4))
    command = [sys.executable, "-m", "edgecnn", "evaluate", str(model), str(model), "--data", str(tmp_path / "d.npz")]
    done = subprocess.run(
        [*command, "--labels", "/dev/stdin", "--json"], input=json.dumps([*"abcdefghij"]), capture_output=True,
        text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)["images"]) == (0, 4), done.stderr
