"""Figures are written in the format of their name, the same bytes for the same numbers."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn.plots import _canvas
from runtimes.base import BadInput


def drawn(values: list[float]) -> object:
    made, axes = _canvas.figure(4, 3)
    axes.plot(values, color=_canvas.COLOURS[0])
    return made


def test_a_png_has_its_size_and_its_line() -> None:
    picture = Image.open(io.BytesIO(_canvas.render(drawn([0, 1]), ".png")))
    assert picture.size == (480, 360)
    blue = np.abs(np.asarray(picture.convert("RGB")).astype(int) - (0x1F, 0x5F, 0xA8)).sum(2) < 30
    rows, columns = np.nonzero(blue)
    assert len(rows) > 100
    assert rows[columns.argmin()] > rows[columns.argmax()]  # it rises


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_same_numbers_give_the_same_bytes(suffix: str, start: bytes) -> None:
    first, again, other = (_canvas.render(drawn(v), suffix) for v in ([0.0, 1], [0.0, 1], [1.0, 0]))
    assert first.startswith(start)
    assert first == again != other


def test_a_name_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"plot\.txt: is no picture's name; end it with \.png"):
        _canvas.check_plot(tmp_path / "plot.txt")
    taken = tmp_path / "plot.png"
    taken.write_bytes(b"mine")
    with pytest.raises(BadInput, match="exists already"):
        _canvas.check_plot(taken)
    _canvas.save(drawn([0, 1]), _canvas.check_plot(taken, force=True))
    assert taken.read_bytes().startswith(b"\x89PNG")


def test_a_font_cache_without_a_place_is_not_talked_about(tmp_path: Path) -> None:
    """matplotlib logs it when it is imported, on the stderr that is for our one line."""
    pytest.importorskip("resource")
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))\n"
        "from edgecnn.plots._canvas import figure; figure(1, 1)"
    )
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True)
    assert done.stderr == b""
