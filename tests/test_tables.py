"""What a person reads of a build and of a quantization: why operators are float."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from edgecnn.cli import main
from edgecnn.cli._tables import in_short, left_float
from runtimes.bundle import open_bundle
from runtimes.device.page import PlainPage

NET = """
from torch import nn
class Net(nn.Sequential):
    input_shape = (3, 16, 16)
    preprocess = {"mean": [0.5], "std": [0.3]}
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 4))
"""
BUDGET = "in float for the accuracy budget"
FLOATS = [
    ("a", f"{BUDGET}: alone in int8 it leaves 7.7 dB"),
    ("b", "Gelu has no int8 kernel"),
    ("c", f"{BUDGET}: alone in int8 it leaves -3.3 dB"),
]


def test_measured_reasons_are_one_row_where_it_is_to_be_short() -> None:
    stream = io.StringIO()
    left_float(PlainPage(stream), 5, in_short(FLOATS))
    rows = stream.getvalue().splitlines()
    assert rows[0] == "5 operators in int8, 3 in float."
    assert [" ".join(row.split()) for row in rows[-2:]] == [f"2 a, c {BUDGET}", "1 b Gelu has no int8 kernel"]


@pytest.mark.parametrize("extra", [["--all-int8", "--allow-slower"], []])
def test_a_build_says_why_operators_are_float(
    extra: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    args = ["build", "net.py:Net", "-o", "n.edge", "--calib", "random:8", "--max-drop", "1", "--search-budget", "0"]
    assert main([*args, *extra]) == 0
    out, kept = capsys.readouterr().out, open_bundle(Path("n.edge")).chosen != "float"
    assert (" in float.\n" in out and "Gelu has no int8 kernel" in out) == kept
    assert kept or not extra
