"""The picture of a race holds the samples: checked on matplotlib's own objects, and on the file."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.plots import latency
from runtimes.timing.bench_report import BenchReport
from test_benchmark import fixed

RNG = np.random.default_rng(0)
TIMES = {"a/float_$x.onnx": list(RNG.lognormal(1.0, 0.1, 150)), "_int8.onnx": list(RNG.lognormal(0.0, 0.1, 150))}

NEAR = {"a": 1.0, "b": 1.01, "c": 1.02}


def drawn(report: BenchReport, monkeypatch: pytest.MonkeyPatch) -> Any:
    kept: list[Any] = []
    monkeypatch.setattr(latency, "save", lambda made, path: kept.append(made))
    latency.draw(report, Path("x.png"))
    return kept[0]


def test_every_sample_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = drawn(fixed(TIMES), monkeypatch).axes
    for line, samples in zip(left.lines, TIMES.values(), strict=True):
        assert list(line.get_ydata()) == samples
        assert list(line.get_xdata()) == list(range(1, 151))
    curves = [line for line in right.lines if len(line.get_xdata()) == 150]
    assert [list(curve.get_xdata()) for curve in curves] == [sorted(samples) for samples in TIMES.values()]
    assert curves[0].get_ydata()[-1] == 1.0


def test_percentiles_are_marked_where_the_samples_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    right = drawn(fixed(TIMES), monkeypatch).axes[1]
    head, *rows = [text.get_text().split() for text in right.texts]
    assert head == ["p50", "p90", "ms"]
    assert [row[1] for row in rows] == [f"{np.percentile(samples, 90):#.3g}" for samples in TIMES.values()]
    points = [line for line in right.lines if len(line.get_xdata()) == 1]
    assert points[1].get_xdata()[0] == pytest.approx(np.percentile(TIMES["a/float_$x.onnx"], 90))


def test_numbers_stand_beside_the_curves_and_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models of nearly one speed: no number on a curve, none on another."""
    made = drawn(fixed({name: [t * speed for t in TIMES["_int8.onnx"]] for name, speed in NEAR.items()}), monkeypatch)
    made.canvas.draw()
    right = made.axes[1]
    boxes = [text.get_window_extent() for text in right.texts]
    assert len(boxes) == 4
    assert all(box.x0 >= right.get_window_extent().x1 for box in boxes)
    assert all(above.y0 >= below.y1 - 1 for above, below in itertools.pairwise(boxes))
    assert max(box.x1 for box in boxes) <= made.bbox.x1


def test_one_row_a_combination(monkeypatch: pytest.MonkeyPatch) -> None:
    one = fixed(TIMES)
    made = drawn(BenchReport(one.machine, one.heats * 3, 0), monkeypatch)
    assert len(made.axes) == 6
    assert [axis.get_title("left") for axis in made.axes[::2]] == ["cpu, 1 thread, batch 1"] * 3


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_file(tmp_path: Path, suffix: str) -> None:
    path, again = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    latency.draw(fixed(TIMES), path)
    latency.draw(fixed(TIMES), again)
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)
    assert path.read_bytes() == again.read_bytes()
    if suffix == ".svg":
        assert path.read_text().count("clip-path") > 4


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.2), (0.01, 5000.0), (3.1, 3.5), (0.045, 5.0), (1e-4, 2e-4)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = latency.ticks_between(low, high)
    assert 2 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))
    assert all(low <= tick <= high and len(f"{tick:g}") <= 7 for tick in ticks)


def test_the_axis_holds_everything() -> None:
    reports = [model.latency for model in fixed({"a": [1.0] * 8, "b": [1.0, 900.0]}).models]
    low, high = latency.limits(reports)
    assert low < 1.0 < 900.0 < high
    low, high = latency.limits(reports[:1])
    assert high / low > 1.2
