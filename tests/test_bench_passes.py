"""bench/passes.py: the committed numbers reach the bars, and the check can fail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from test_bench import ROOT, load

passes = load(ROOT / "bench" / "passes.py")


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in passes.RESULTS.read_text().splitlines()]


def test_the_committed_results_reach_the_bars(rows: list[dict[str, Any]]) -> None:
    """VGG-19-BN folds in under 3 s and 1.5 times its size; ResNet-50 is simplified faster than by onnxsim alone."""
    assert passes.check(rows) == []
    assert [row["what"] for row in rows] == ["work", "commands", "fold"]
    assert passes.table(rows).count("\n") == 5


def test_the_check_can_fail(rows: list[dict[str, Any]]) -> None:
    race, _, fold = rows
    race["cpu_s"]["simplify"], fold["cpu_s"], fold["extra_bytes"] = 99.0, 3.1, 2 * fold["size_bytes"]
    assert len(passes.check(rows)) == 3


def test_the_cost_of_a_small_fold_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from small_nets import conv_net

    monkeypatch.setattr(passes, "raw_export", lambda _: conv_net())
    row = passes.fold_cost("conv_net", 2)
    assert (row["folded"], row["rounds"]) == (1, 2)
    assert 0 < row["cpu_s"] <= row["slowest_s"]
    assert row["extra_bytes"] >= 0
