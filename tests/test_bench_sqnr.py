"""bench/sqnr.py: the committed numbers reach the bars, the check can fail, and it measures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from test_bench import ROOT, load

sqnr = load(ROOT / "bench" / "sqnr.py")


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in sqnr.RESULTS.read_text().splitlines()]


def test_the_committed_results_reach_the_bars(rows: list[dict[str, Any]]) -> None:
    assert sqnr.check(rows) == []
    assert [row["name"] for row in rows] == list(sqnr.NAMES)
    assert sqnr.table(rows).count("\n") == 5


def test_the_check_can_fail(rows: list[dict[str, Any]]) -> None:
    rows[0]["ours"] = max(rows[0]["quantize_static"], rows[0]["quantize_static best"]) - 0.6
    assert sqnr.check(rows) == ["resnet18: 0.6 dB under quantize_static"]
    level = [{**row, "ours": row["quantize_static best"] - 0.1} for row in rows]
    assert len(sqnr.check(level)) == 1


@pytest.mark.slow
def test_a_small_network_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqnr, "SHAPE", (3, 32, 32))
    monkeypatch.setattr(sqnr, "CALIBRATION", 8)
    row = sqnr.measure("resnet8")
    assert sqnr.check([row]) == []
    assert row["plain"] > 20
