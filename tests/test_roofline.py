"""The roofline: every layer that has work is in it, at its own place, and the same numbers give the same bytes."""

from __future__ import annotations

import math

import pytest

from edgecnn.plots import roofline as module
from edgecnn.plots.roofline import roofline
from edgecnn.profiling.profile_report import ProfileReport
from edgecnn.profiling.profiled import Piece
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


def test_no_name_lies_on_a_roof_or_out_of_the_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers at a place, just under a peak: a name fits below, and few above."""
    found: list[tuple[str, float]] = []

    def spy(made: object, suffix: str) -> bytes:
        (axes,) = made.axes  # type: ignore[attr-defined]
        found.extend((text.get_text(), text.xyann[1]) for text in axes.texts if "peak" not in text.get_text())
        bottom, top = axes.get_ylim()
        roofs.extend(math.log(p / bottom) / math.log(top / bottom) for p in (PEAKS.fp32_gmacs, PEAKS.int8_gmacs))
        return b""

    roofs: list[float] = []
    monkeypatch.setattr(module, "render", spy)
    for time_us in range(21, 40, 2):
        near = [piece("Conv", float(time_us), origin=f"near{twin}", macs=10**6, moved=10**4) for twin in range(3)]
        roofline(report([*near, piece("Conv", 1000.0, origin="far", macs=10**6, moved=10**6)]), ".png")
    assert found
    assert all(0 < v < 1 and min(abs(v - roof) for roof in roofs) >= 0.025 for _, v in found)


def test_where_roofs_are_everywhere_no_name_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []

    def spy(made: object, suffix: str) -> bytes:
        texts.extend(text.get_text() for text in made.axes[0].texts)  # type: ignore[attr-defined]
        return b""

    monkeypatch.setattr(module, "render", spy)
    monkeypatch.setattr(module, "_roofs_over", lambda *_: [(0.0, 1.0)])
    roofline(report(PIECES), ".png")
    assert texts
    assert all("peak" in text for text in texts)


def test_a_model_without_layers_is_drawn_too() -> None:
    assert roofline(report([piece("Elu", origin="e")]), ".svg").startswith(b"<?xml")
