"""Today against an earlier document: ratios wherever there are two models, absolute times on the same machine alone."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from edgecnn.latency.baseline import read
from runtimes.base import BadInput
from runtimes.device.process import plain
from runtimes.timing.bench_report import BenchReport, Combination
from test_benchmark import fixed


def times(float_ms: float, int8_ms: float, folder: str = "new/") -> BenchReport:
    return fixed({f"{folder}float.onnx": [float_ms] * 40, f"{folder}int8.onnx": [int8_ms] * 40})


def write(path: Path, *reports: BenchReport | dict[str, Any]) -> Path:
    documents = [plain(r if isinstance(r, dict) else r.to_dict()) for r in reports]
    text = json.dumps(documents[0], indent=2) if len(documents) == 1 else "\n".join(map(json.dumps, documents))
    path.write_text(text)
    return path


def states(report: BenchReport, path: Path, tolerance: float = 0.05) -> list[tuple[str, float | None]]:
    return [(o.state, o.value) for o in read(path, tolerance).judge(report.heats, report.machine)]


def test_a_slower_machine_is_no_slower_model(tmp_path: Path) -> None:
    """Everything takes three times as long; int8 is as many times faster as it was. The folders differ too."""
    path = write(tmp_path / "then.json", times(2.0, 1.0, "old/"))
    before = path.read_bytes()
    assert states(times(6.0, 3.0), path) == [("passed", pytest.approx(1.0))]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("int8_ms", "tolerance", "state"),
    [(1.04, 0.05, "passed"), (1.10, 0.05, "missed"), (1.10, 0.10, "passed"), (0.5, 0.0, "passed")],
)
def test_the_model_itself_slower(tmp_path: Path, int8_ms: float, tolerance: float, state: str) -> None:
    path = write(tmp_path / "then.json", times(2.0, 1.0))
    assert states(times(2.0, int8_ms), path, tolerance) == [(state, pytest.approx(1 / int8_ms))]


def test_both_intervals_count(tmp_path: Path) -> None:
    document = times(2.0, 1.0).to_dict()
    document["ratios"][0].update(low=0.4, high=0.6)  # float over int8 was 0.5, give or take 20 %
    (outcome,) = read(write(tmp_path / "then.json", document)).judge((now := times(2.0, 1.0)).heats, now.machine)
    assert (outcome.low, outcome.high) == pytest.approx((2 * 0.4, 2 * 0.6))
    assert outcome.state == "inconclusive"


def test_a_ratio_is_found_in_either_order(tmp_path: Path) -> None:
    path = write(tmp_path / "then.json", times(2.0, 1.0))
    turned = fixed({"int8.onnx": [1.0] * 40, "float.onnx": [2.0] * 40})
    assert states(turned, path) == [("passed", pytest.approx(1.0))]


def test_the_last_line_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "then.jsonl", times(8.0, 1.0), times(2.0, 1.0), fixed({"other.onnx": [1.0] * 40}))
    assert states(times(2.0, 1.0), path) == [("passed", pytest.approx(1.0))]


def test_one_model_alone_is_compared_by_its_time_on_the_same_machine(tmp_path: Path) -> None:
    alone = fixed({"int8.onnx": [1.2] * 40})
    path = write(tmp_path / "then.json", fixed({"int8.onnx": [1.0] * 40}))
    assert states(alone, path) == [("missed", pytest.approx(1 / 1.2))]
    document = copy.deepcopy(fixed({"int8.onnx": [1.0] * 40}).to_dict())
    document["models"][0].update(p50_low_ms=0.8, p50_high_ms=1.25)
    (wide,) = read(write(tmp_path / "wide.json", document)).judge(alone.heats, alone.machine)
    assert (wide.low, wide.high, wide.state) == (pytest.approx(0.8 / 1.2), pytest.approx(1.25 / 1.2), "inconclusive")
    unsteady = fixed({"int8.onnx": [1 + i % 7 / 10 + i / 1000 for i in range(40)]})
    seen = unsteady.to_dict()["models"][0]
    (wider,) = read(tmp_path / "wide.json").judge(unsteady.heats, unsteady.machine)
    assert seen["p50_low_ms"] < seen["p50_high_ms"]
    assert wider.low == pytest.approx(0.8 / seen["p50_high_ms"])
    assert wider.high == pytest.approx(1.25 / seen["p50_low_ms"])
    for name in ("p50_low_ms", "p50_high_ms"):  # as in documents of before there was an interval
        del document["models"][0][name]
    assert states(alone, write(tmp_path / "older.json", document)) == [("missed", pytest.approx(1 / 1.2))]
    document = copy.deepcopy(alone.to_dict())
    document["machine"]["cpu"] = "another"
    elsewhere = read(write(tmp_path / "else.json", document)).judge(alone.heats, alone.machine)
    assert [(o.state, o.value) for o in elsewhere] == [("inconclusive", None)]
    assert "measured on another machine (cpu)" in str(elsewhere[0])


@pytest.mark.parametrize("names", [("int8.onnx",), ("float.onnx", "int8.onnx")])
def test_seven_rounds_are_no_comparison(names: tuple[str, ...], tmp_path: Path) -> None:
    """Neither today nor then; each time is the same, so that the intervals are as narrow as can be."""
    few, enough = (fixed({name: [1.0] * rounds for name in names}) for rounds in (7, 8))
    for then, now, why in (
        (enough, few, "7 rounds, at least 8 are needed"),
        (few, enough, "the baseline has 7 rounds, at least 8 are needed"),
        (enough, enough, ""),
    ):
        (outcome,) = read(write(tmp_path / "then.json", then)).judge(now.heats, now.machine)
        assert (outcome.state, outcome.why) == ("inconclusive" if why else "passed", why)


def test_another_combination_is_no_baseline(tmp_path: Path) -> None:
    document = times(2.0, 1.0).to_dict()
    for row in document["models"]:
        row["threads"] = 7
    with pytest.raises(
        BadInput, match=r"has nothing on cpu, 1 thread, batch 1, but on cpu, 7 threads, batch 1; measure"
    ):
        states(times(2.0, 1.0), write(tmp_path / "then.json", document))


HERE = Combination("cpu", 1, 1)


def test_a_model_that_the_baseline_does_not_have_is_refused(tmp_path: Path) -> None:
    """Beside known ones, too: what is not compared must not look as if it had passed."""
    before = read(write(tmp_path / "then.json", times(2.0, 1.0, "")))
    before.require(["float.onnx", "int8.onnx"], [HERE])
    with pytest.raises(BadInput) as caught:
        before.require(["float.onnx", "int8_new.onnx"], [HERE])
    assert str(caught.value) == (
        f"{tmp_path / 'then.json'}: does not know int8_new.onnx on cpu, 1 thread, batch 1; "
        "it has float.onnx, int8.onnx; measure the baseline anew with it"
    )
    with pytest.raises(BadInput, match="has nothing on cpu, 2 threads, batch 1, but on cpu, 1 thread, batch 1"):
        before.require(["float.onnx", "int8.onnx"], [HERE, Combination("cpu", 2, 1)])
    three = fixed({name: [1.0] * 40 for name in ("float.onnx", "int8.onnx", "int8_new.onnx")})
    with pytest.raises(BadInput, match=r"does not know int8_new.onnx"):
        before.judge(three.heats, three.machine)


def test_two_races_are_no_race_of_all(tmp_path: Path) -> None:
    other = fixed({"float.onnx": [2.0] * 40, "new.onnx": [1.0] * 40})
    before = read(write(tmp_path / "then.jsonl", times(2.0, 1.0, ""), other))
    before.require(["float.onnx", "int8.onnx"], [HERE])
    with pytest.raises(BadInput, match=r"does not know int8.onnx on .*; no one race of it has all of these"):
        before.require(["float.onnx", "int8.onnx", "new.onnx"], [HERE])


def test_what_is_not_measured_again_is_named(tmp_path: Path) -> None:
    then = fixed({name: [1.0] * 40 for name in ("float.onnx", "int8.onnx", "old.onnx")}).to_dict()
    row = copy.deepcopy(then["models"][0])
    then["models"].append({**row, "threads": 7})
    now = times(2.0, 1.0)
    unmeasured = read(write(tmp_path / "then.json", then)).unmeasured(now.heats)
    assert unmeasured == ("old.onnx on cpu, 1 thread, batch 1", "float.onnx on cpu, 7 threads, batch 1")
    assert read(write(tmp_path / "same.json", times(2.0, 1.0))).unmeasured(now.heats) == ()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("models", {"p50_ms": math.inf}), ("models", {"p50_low_ms": 0}), ("models", {"p50_high_ms": "fast"}),
        ("models", {"p50_ms": -1.0}), ("models", {"batch": [1]}), ("ratios", {"low": math.inf}), ("ratios", {"a": {}}),
        ("machine", "a fast one"),
    ],
)  # fmt: skip
def test_numbers_that_nothing_measures_are_refused(tmp_path: Path, part: str, change: Any) -> None:
    document = copy.deepcopy(times(2.0, 1.0).to_dict())
    if part == "machine":
        document[part] = change
    else:
        document[part][0].update(change)
    path = tmp_path / "then.json"
    path.write_text(json.dumps(document))
    with pytest.raises(BadInput, match="is no result of `edgecnn bench --json`; measure the baseline again"):
        read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is no result of"),
        ("[]", "is no result of"),
        ("3", "is no result of"),
        ('{"models": [{"model": "a"}], "ratios": []}', "is no result of"),
        (
            '{"models": [{"model": "a", "provider": "cpu", "batch": 1, "threads": 1, "p50_ms": 1, "samples": "x"}], '
            '"ratios": []}',
            "is no result of",
        ),
        ('{"models": [], "ratios": []}\nnot json', "line 2 is no JSON"),
        ("[" * 100_000, "line 1 is no JSON"),
        ("", "is empty"),
    ],
)
def test_other_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "then.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        read(tmp_path / "then.json")
