"""`-` is one picture or array from standard input, in `edgecnn run` and in the program of a bundle."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecnn import api
from edgecnn.cli import main
from runtimes.base import BadInput
from runtimes.imaging import piped
from runtimes.imaging.shown import of_file
from test_device_bundle import CHILD, cls_bundle
from test_predict import PREPROCESS

PIXELS = np.random.default_rng(3).integers(0, 256, (20, 24, 3), np.uint8)


def contents(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "npy":
        np.save(stream, PREPROCESS(PIXELS))
    elif kind == "npz":
        np.savez(stream, x=PIXELS[None])
    else:
        Image.fromarray(PIXELS).save(stream, format=kind)
    return stream.getvalue()


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize("kind", ["png", "ppm", "npy", "npz"])
def test_the_first_bytes_say_what_it_is(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in piped.NAMES:
        feed(monkeypatch, contents(kind))
        (shown,) = of_file(Path(name), PREPROCESS, "net")
        assert shown.name == (f"{name}[0]" if kind == "npz" else name)
        assert np.array_equal(shown.ready(), PREPROCESS(PIXELS))
        if kind in ("png", "ppm"):
            assert np.array_equal(shown.pixels(), PIXELS), "its own pixels are kept, to draw on"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "-: is empty"),
        (b"no picture", "-: is not an image or is damaged (unknown format)"),
        (contents("png")[:200], "-: is not an image or is damaged"),
        (contents("npy")[:200], "-: is cut off"),
        (contents("npz")[:200], "-: is not an .npz archive"),
    ],
)
def test_what_is_no_picture_is_one_line(data: bytes, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, data)
    with pytest.raises(BadInput) as caught:
        of_file(Path("-"), PREPROCESS, "net")
    assert str(caught.value).startswith(complaint)
    assert "/" not in str(caught.value), "the temporary file is not the user's"


def test_more_than_a_picture_may_have_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piped, "FILE_LIMIT_BYTES", 1000)
    feed(monkeypatch, b"x" * 1001)
    with pytest.raises(BadInput, match="-: has more than 1,000 bytes, the limit"):
        of_file(Path("-"), PREPROCESS, "net")


def test_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    for stream in (io.TextIOWrapper(Terminal()), None):
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(BadInput, match="-: standard input is a terminal or closed; write `< FILE`"):
            of_file(Path("-"), PREPROCESS, "net")


def test_a_network_without_pictures_takes_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    np.save(stream, np.ones((2, 40), np.float32))
    feed(monkeypatch, stream.getvalue())
    assert of_file(Path("-"), (2, 40), "net")[0].ready().shape == (2, 40)
    feed(monkeypatch, contents("png"))
    with pytest.raises(BadInput, match=r"-: is uint8 \[20, 24, 3\]; this network needs float"):
        of_file(Path("-"), (2, 40), "net")


# ------------------------------------------------------------------------------------------------------- the commands
def started(*args: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, timeout=60, **options)


def test_edgecnn_and_the_bundles_own_program_read_it(tmp_path: Path) -> None:
    """Through a pipe and from a file, in the fork that does the work."""
    bundle, picture = cls_bundle(tmp_path / "net.edge"), tmp_path / "a.ppm"
    picture.write_bytes(contents("ppm"))
    wanted = api.run(bundle, picture, top=2).to_dict()["predictions"][0]
    for program in (["-m", "edgecnn", "run", bundle], ["-c", CHILD, bundle, "run"]):
        piped_in = started(*program, "-", "--top", "2", "--json", input=picture.read_bytes())
        with open(picture, "rb") as stream:
            redirected = started(*program, "/dev/stdin", "--top", "2", "--json", stdin=stream)
        for done, name in ((piped_in, "-"), (redirected, "/dev/stdin")):
            assert (done.returncode, done.stderr) == (0, b"")
            assert json.loads(done.stdout)["predictions"] == [{**wanted, "input": name}]


def test_it_stands_among_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    bundle, picture = cls_bundle(tmp_path / "net.edge"), tmp_path / "a.png"
    picture.write_bytes(contents("png"))
    feed(monkeypatch, b"no picture")
    assert main(["run", str(bundle), "-", str(picture), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert [p["input"] for p in document["predictions"]] == [str(picture)]
    assert [p["input"] for p in document["failed"]] == ["-"]
