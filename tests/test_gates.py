"""Gates: what they mean, what they are measured against, and every way to spell one wrong."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.latency.gates import LimitGate, RatioGate, parse
from runtimes.base import BadInput
from test_benchmark import fixed

NAMES = ["a/float.onnx", "a/int8.onnx", "b/int8.onnx", "torch:resnet18"]


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("a/int8.onnx >= 2.5x float", ("a/int8.onnx", "a/float.onnx", 2.5)),
        ("#2>=1x #1", ("a/int8.onnx", "a/float.onnx", 1.0)),
        ("  float >= .5 x torch:resnet18 ", ("a/float.onnx", "torch:resnet18", 0.5)),
    ],
)
def test_a_ratio(text: str, gate: tuple[str, str, float]) -> None:
    assert parse(text, NAMES) == RatioGate(text.strip(), *gate)


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("p90 of float <= 3 ms", ("a/float.onnx", "p90", 3.0)),
        ("mean of #3 <= 250us", ("b/int8.onnx", "mean", 0.25)),
        ("p50 of torch:resnet18 <= 1.5 s", ("torch:resnet18", "p50", 1500.0)),
    ],
)
def test_a_limit(text: str, gate: tuple[str, str, float]) -> None:
    assert parse(text, NAMES) == LimitGate(text, *gate)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int8 is fast", "is no gate; write"),
        ("int8 > 2x float", "is no gate; write"),
        ("float >= 2 a/int8.onnx", "is no gate; write"),
        ("p95 of float <= 3 ms", "is no gate; write"),
        ("p90 of float <= 3", "is no gate; write"),
        ("int8 >= 2x float", r"int8 names 2 models; give the path, or #1"),
        ("#5 >= 2x float", "#5: unknown model in this race"),
        ("#0 >= 2x float", "#0: unknown model in this race"),
        ("flaot >= 2x #2", "flaot: unknown model in this race; did you mean float"),
        ("#1 >= 2x float", "compares a/float.onnx with itself"),
        ("#1 >= 0x #2", "with itself or with 0"),
    ],
)
def test_what_is_no_gate(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(text, NAMES)


@pytest.mark.parametrize(
    ("text", "state"),
    [("a >= 1.8x b", "passed"), ("a >= 2.2x b", "missed"), ("a >= 2x b", "inconclusive"), ("b >= .4x a", "passed")],
)
def test_the_whole_interval_decides_a_ratio(text: str, state: str) -> None:
    """b takes twice as long as a, give or take 5 %."""
    noise = np.exp(np.random.default_rng(0).normal(0, 0.05, 300))
    heat = fixed({"a": [1.0] * 300, "b": list(2 * noise)}).heats[0]
    found = parse(text, ["a", "b"]).judge(heat)
    assert (found.state, found.unit, found.heat) == (state, "x", "cpu, 1 thread, batch 1")
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.high
    assert str(found).startswith(f"{text}: {state}, ")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("p50 of a <= 11 ms", "passed"),
        ("p50 of a <= 9 ms", "missed"),
        ("p50 of a <= 10 ms", "inconclusive"),
        ("p90 of a <= 13 ms", "passed"),  # 10 + 1.28 = 11.3
        ("p90 of a <= 10.5 ms", "missed"),
        ("mean of a <= 10400 us", "passed"),
        ("p99 of a <= 99 s", "inconclusive"),
    ],
)
def test_the_whole_interval_decides_a_limit(text: str, state: str) -> None:
    heat = fixed({"a": list(np.random.default_rng(1).normal(10, 1, 400))}).heats[0]
    found = parse(text, ["a"]).judge(heat)
    assert found.state == state
    assert ("400 samples are too few for p99" in str(found)) == text.startswith("p99")


@pytest.mark.parametrize("text", ["a >= 1.5x b", "p50 of a <= 9 ms", "mean of a <= 9 ms", "p50 of b <= 1 ms"])
def test_seven_rounds_say_nothing(text: str) -> None:
    seven, eight = (fixed({"a": [1.0] * n, "b": [2.0] * n}).heats[0] for n in (7, 8))
    found = parse(text, ["a", "b"]).judge(seven)
    assert (found.state, found.why) == ("inconclusive", "7 rounds, at least 8 are needed")
    assert parse(text, ["a", "b"]).judge(eight).state != "inconclusive"
