"""bench/protocol.py, overhead.py, diff.py: committed numbers reach the bars, checks can fail, small runs work."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import numpy as np
import pytest

from runtimes.session import open_session
from test_bench import ROOT, load

protocol = load(ROOT / "bench" / "protocol.py")
overhead = load(ROOT / "bench" / "overhead.py")
diff = load(ROOT / "bench" / "diff.py")


def committed(script: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in script.RESULTS.read_text().splitlines()]


def test_the_committed_results_reach_the_bars() -> None:
    """100 races of a graph against itself give at most 5 false verdicts, a tenth more is found, 1 % against 5 %."""
    rows = committed(protocol)
    assert protocol.check(rows) == []
    assert [row["what"] for row in rows] == ["spread", "same", "slower"]
    assert 1.07 < rows[2]["times"] < 1.13
    assert protocol.table(rows).count("\n") == 7


def test_the_check_can_fail() -> None:
    rows = copy.deepcopy(committed(protocol))
    rows[0].update(sequential=0.04, interleaved=0.011)
    rows[1]["verdicts"] = {"faster": 3, "slower": 3, "same": 94}
    rows[2]["verdicts"] = {"slower": 19, "inconclusive": 1}
    assert len(protocol.check(rows)) == 4


def test_small_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "neighbours", contextlib.nullcontext)
    drift, even, slow = protocol.spread(2, 6), protocol.same(2, 6), protocol.slower(2, 6)
    assert drift["interleaved"] >= 0
    assert sum(even["verdicts"].values()) == sum(slow["verdicts"].values()) == 2
    assert set(even["noise"]) >= {"others_percent", "steal_percent"}


def test_the_stack_is_as_long_as_it_says() -> None:
    session = open_session(protocol.stack(3), threads=1, optimize=False)
    x = np.ones((1, 16, 16, 16), np.float32)
    assert session({"t0": x})["t3"].shape == x.shape


def test_the_neighbours_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    real = protocol.subprocess.Popen
    monkeypatch.setattr(protocol.machine, "affinity", lambda: 1)
    monkeypatch.setattr(protocol.time, "sleep", lambda _: None)
    monkeypatch.setattr(protocol.subprocess, "Popen", lambda *a: started.append(real(*a)) or started[-1])
    with protocol.neighbours():
        assert started[0].poll() is None
    assert started[0].poll() is not None


def test_our_session_costs_less_than_five_microseconds() -> None:
    rows = committed(overhead)
    assert overhead.check(rows) == 0
    assert [row["tensors"] for row in rows] == [1, 4]
    dear = copy.deepcopy(rows)
    dear[1]["session"]["high"] = 5.01
    assert overhead.check(dear) == 1


def test_the_overhead_of_a_graph_is_measured() -> None:
    row = overhead.measure(2, rounds=6)
    assert row["raw_us"] > 0
    assert row["session"]["low"] <= row["session"]["extra_us"] <= row["session"]["high"]


def test_a_diff_beyond_its_bars_is_told() -> None:
    row = {"network": "n", "planted": "c", "first": "c", "nodes": 9, "seconds": 1.0}
    row |= {"partial_runs": 6, "runs_bound": 6, "growth_mb": 2.0, "bound_mb": 2.0}
    assert diff.check([row]) == []
    dear = [row | {"growth_mb": 2.1}, row | {"partial_runs": 7}, row | {"first": "another"}]
    assert [len(diff.check([each])) for each in dear] == [1, 1, 1]
    assert diff.table([row, *dear]).count("\n") == 5


def test_the_committed_diffs_keep_to_their_bars() -> None:
    rows = committed(diff)
    assert diff.check(rows) == []
    assert [row["network"] for row in rows] == list(diff.NAMES)
