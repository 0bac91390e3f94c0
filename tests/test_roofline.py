"""The roofline: every layer that has work is in it, at its own place, and the same numbers give the same bytes."""

from __future__ import annotations

import pytest

from edgecnn.plots import roofline as module
from edgecnn.plots.roofline import roofline
from edgecnn.profile_report import ProfileReport
from edgecnn.profiled import Piece
from profiles import PEAKS, measured, piece
from runtimes.machine import describe

PIECES = [
    piece("Conv", 40.0, origin="wide", macs=10**6, moved=10**5, layer="conv3-8"),
    piece("QLinearConv", 50.0, origin="deep", macs=4 * 10**6, moved=10**5, made="uint8", layer="conv3-8"),
    piece("Conv", 0.01, origin="tiny", macs=10, moved=10**3, layer="conv1-1"),
    piece("Elu", 20.0, origin="elu"),
]


def report(pieces: list[Piece]) -> ProfileReport:
    return ProfileReport(describe(), measured(pieces), ())


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_each_format_and_the_same_bytes_twice(suffix: str, start: bytes) -> None:
    made = roofline(report(PIECES), suffix)
    assert made.startswith(start)
    assert made == roofline(report(PIECES), suffix)


def test_points_stand_at_their_intensity_and_their_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[list[float], list[float]]] = []
    lines: list[float] = []
    texts: list[str] = []

    def spy(made: object, suffix: str) -> bytes:
        (axes,) = made.axes  # type: ignore[attr-defined]
        drawn.extend((list(c.get_offsets()[:, 0]), list(c.get_offsets()[:, 1])) for c in axes.collections)
        lines.extend(float(line.get_ydata()[0]) for line in axes.lines[:2])
        texts.extend([axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)])
        return b""

    monkeypatch.setattr(module, "render", spy)
    roofline(report(PIECES), ".png")
    assert drawn == [([10.0], [25.0]), ([40.0], [80.0])], "the tiny one is left out, Elu has no multiply-adds"
    assert lines == [PEAKS.fp32_gmacs, PEAKS.int8_gmacs]
    assert texts[0].startswith("net.onnx: 2 of 3 layers with MACs, 82 % of 0.110 ms")
    assert {"wide", "deep"} <= set(texts)


def test_a_model_without_layers_is_drawn_too() -> None:
    assert roofline(report([piece("Elu", origin="e")]), ".svg").startswith(b"<?xml")
