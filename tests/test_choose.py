"""The choice by hand-made numbers, and one real race."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecnn.choosing import choose
from edgecnn.choosing.choose import Candidate, Entry, decide, without_int8
from edgecnn.choosing.float_answers import Remembering
from edgecnn.choosing.judge import Judge, drop_of, free_batch
from edgecnn.choosing.trial import QUICK_RACE_SECONDS, Trial, trial_on
from edgecnn.data.material import Material
from edgecnn.data.samples import Samples
from edgecnn.evaluation.own_metric import Budget, OwnMetric
from edgecnn.evaluation.scores import Agreement, Difference, upper_bound
from edgecnn.tasks import detection
from exporters.artifact import Identity
from exporters.quantization.quantize import QuantRecipe, quantize_model
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from runtimes.base import Tensors
from runtimes.latency import DECIDING_SECONDS, LatencyReport, Race, Ratio, Verdict
from runtimes.parity import OutputParity, ParityReport
from runtimes.session import Session, open_session
from small_nets import conv_net


def rival(verdict: Verdict, refused: str = "") -> Candidate:
    low, high = {"faster": (2.6, 2.8), "slower": (0.4, 0.5), "same": (0.99, 1.01), "inconclusive": (0.8, 1.3)}[verdict]
    ratio = Ratio("int8", "float", (low + high) / 2, low, high, verdict)
    return Candidate("int8", 100, 1.0, ratio, 30.0, 0.995, 0.981, 0.002, refused, "int8")


BASE = Candidate("float", 400, 2.7, accuracy=0.983)


def trial(**values: object) -> Trial:
    return Trial(samples(4, False), "x", **values)


@pytest.mark.parametrize(
    ("candidate", "allow_slower", "chosen", "words"),
    [
        (
            rival("faster"),
            False,
            "int8",
            "int8 is 2.70x of float's speed on this CPU (95 %: 2.60 to 2.80), top-1 98.1 % against",
        ),
        (
            rival("slower"),
            False,
            "float",
            "0.45x of float's speed on this CPU (95 %: 0.40 to 0.50): kept float; --allow-slower",
        ),
        (rival("slower"), True, "int8", "int8 because --allow-slower asks for it"),
        (rival("same"), False, "float", "no gain beyond the noise: kept float"),
        (
            rival("inconclusive"),
            False,
            "float",
            "(95 %: 0.80 to 1.30), too uncertain to count on: kept float; try again",
        ),
        (rival("inconclusive"), True, "int8", "int8 because --allow-slower asks for it"),
        (rival("faster", "int8 loses 3.0 points"), False, "float", "int8 loses 3.0 points: kept float"),
        (rival("faster", "int8 loses 3.0 points"), True, "float", "int8 loses 3.0 points: kept float"),
    ],
)
def test_budget_first_then_speed(candidate: Candidate, allow_slower: bool, chosen: str, words: str) -> None:
    name, sentence = choose.choose([BASE, candidate], trial(allow_slower=allow_slower))
    assert name == chosen
    assert words in sentence


def test_all_int8_takes_what_is_slower_but_not_what_misses_the_budget() -> None:
    assert "int8 because --all-int8 asks for it" in choose.choose([BASE, rival("slower")], trial(all_int8=True))[1]
    refused = rival("slower", "int8 loses 3.0 points")
    assert choose.choose([BASE, refused], trial(all_int8=True))[0] == "float"


def named(name: str, ratio: float, refused: str = "", drop: float | None = 0.0) -> Candidate:
    speed = Ratio(name, "float", ratio, ratio * 0.99, ratio * 1.01, "faster")
    return Candidate(name, 1, 1.0, speed, 30.0, 1.0, None, drop, refused, "int8")


@pytest.mark.parametrize(
    ("candidates", "best"),
    [
        ([named("a", 2.0), named("b", 3.0)], "b"),
        ([named("a", 2.0), named("b", 3.0, "loses 9 points")], "a"),
        ([named("a", 2.0, "loses 2"), named("b", 3.0, "loses 9 points")], "b"),
        ([named("plain", 9.0, "only for comparison", None), named("b", 3.0, "loses 9 points")], "b"),
    ],
)
def test_the_fastest_within_the_budget_stands_for_int8(candidates: list[Candidate], best: str) -> None:
    found = choose.best_of([BASE, *candidates])
    assert found is not None
    assert found.name == best


def parity(top1: float | None, snr_db: float, nonfinite: int = 0) -> ParityReport:
    return ParityReport(50, (OutputParity("y", 0.1, snr_db, top1, nonfinite),))


def lost(value: float) -> Difference:
    return Difference(value, value - 0.01, value + 0.01, "by hand")


def raced(name: str, ratio: float, snr_db: float, refused: str = "") -> Candidate:
    found = Ratio(name, "float", ratio, ratio - 0.05, ratio + 0.05, "faster")
    return Candidate(name, 100, 1.0, found, snr_db, 0.995, 0.981, 0.002, refused, "int8")


def test_at_the_same_speed_the_more_exact_one_is_taken() -> None:
    fast, exact, slow = raced("fast", 2.70, 20.0), raced("exact", 2.66, 30.0), raced("slow", 2.0, 40.0)
    assert choose.best_of([BASE, fast, exact, slow]) is exact  # 2.66 is as fast as 2.70, 2.0 is not
    assert choose.best_of([BASE, raced("fast", 2.80, 20.0), exact, slow]).name == "fast"
    out = raced("out", 2.75, 50.0, "loses 3 points")
    assert choose.best_of([BASE, fast, exact, out]) is exact


@pytest.mark.parametrize(
    ("report", "loss", "agreed", "drop", "high"),
    [
        (parity(0.9, 30.0), lost(0.01), Agreement(0.9, 50), 0.01, 0.02),  # labels count before agreement
        (parity(0.9, 30.0), lost(-0.02), None, -0.02, -0.01),  # int8 may be better
        (parity(0.9, 30.0), None, Agreement(0.9, 50), 0.1, 0.1988),  # scipy.stats.beta.ppf(0.95, 6, 45)
        (parity(None, 20.0), None, None, 0.01, None),  # noise power
        (parity(None, -5.0), None, None, 1.0, None),
        (parity(None, math.inf), None, None, 0.0, None),
        (parity(1.0, -math.inf, nonfinite=3), None, Agreement(1.0, 50), 1.0, None),  # NaN is never within a budget
    ],
)
def test_what_int8_costs(
    report: ParityReport, loss: Difference | None, agreed: Agreement | None, drop: float, high: float | None
) -> None:
    got, upper = drop_of(report, loss, agreed)
    assert got == pytest.approx(drop, abs=1e-12)
    assert upper == (None if high is None else pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize(("changed", "images"), [(0, 1), (0, 32), (1, 32), (7, 200), (199, 200), (32, 32)])
def test_the_upper_end_is_that_of_the_beta_distribution(changed: int, images: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with scikit-learn")
    wanted = 1.0 if changed == images else stats.beta.ppf(0.95, changed + 1, images - changed)
    assert upper_bound(changed, images) == pytest.approx(wanted, abs=1e-9)


def samples(count: int, labelled: bool) -> Samples:
    images = np.random.default_rng(0).normal(size=(count, 3, 8, 8)).astype(np.float32)
    labels = np.zeros(count, np.int64) if labelled else None
    return Samples("made", tuple(map(str, range(count))), lambda i: images[i], labels, ("a", "b"))


def entries(model: onnx.ModelProto, data: Samples) -> dict[str, Entry]:
    int8 = quantize_model(model, data.feeds("x", 1), QuantRecipe()).model
    return {"float": Entry(model, "float"), "int8": Entry(int8, "int8")}


def test_a_real_race_keeps_the_promise() -> None:
    """Whatever wins: the verdict, the ratio and the choice tell one story."""
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    data = samples(6, labelled=False)
    decision = decide(entries(model, data), Trial(data, "x", max_drop=0.5, rounds=40))
    found = decision.rival
    assert found is not None
    assert found.speedup is not None
    assert decision.race.rounds >= 6
    assert (decision.chosen == "int8") == (found.speedup.verdict == "faster" and not found.refused)
    assert f"{found.speedup.ratio:.2f}x" in decision.verdict
    times = {name: float(np.median(decision.race.times_ms(name))) for name in ("float", "int8")}
    assert {c.name: c.p50_ms for c in decision.candidates} == times, "shown on the clock of the ratios"
    # the median of paired ratios is near the ratio of medians; its inverse is not, unless both are near 1
    assert abs(math.log(found.speedup.ratio) - math.log(times["float"] / times["int8"])) < 0.3
    assert (found.speedup.a, found.speedup.b) == ("int8", "float")
    assert decision.accuracy is None
    assert found.to_dict()["speedup"]["verdict"] == found.speedup.verdict


def made_race(ratio: float, noise: float, rounds: int) -> Race:
    """float takes 10 ms; int8 `ratio` times less, but for noise of every round."""
    spread = np.random.default_rng(0).permutation(np.linspace(-2, 2, rounds))  # around a median of 0
    times = {"float": np.full(rounds, 10.0), "int8": 10.0 / ratio * np.exp(noise * spread)}
    return Race({name: LatencyReport(tuple(t), tuple(t)) for name, t in times.items()}, "cpu")


@pytest.mark.parametrize(
    ("ratio", "noise", "trial_says", "races", "chosen", "words"),
    [
        (1.07, 0.25, {}, [(40, 5.0, 0), (120, 15.0, 1)], "int8", "chose int8"),
        (1.07, 1.0, {}, [(40, 5.0, 0), (120, 15.0, 1)], "float", "too uncertain to count on"),
        (1.07, 0.01, {}, [(40, 5.0, 0)], "int8", "chose int8"),
        (0.9, 0.25, {}, [(40, 5.0, 0)], "float", "no gain beyond the noise"),
        (1.07, 0.25, {"allow_slower": True}, [(40, 5.0, 0)], "int8", "--allow-slower asks"),
        (1.07, 0.25, {"max_drop": 0.0}, [(40, 5.0, 0)], "float", "budget"),
    ],
)
def test_a_race_that_cannot_tell_is_run_once_more_and_longer(
    ratio: float,
    noise: float,
    trial_says: dict[str, float],
    races: list[tuple[int, float, int]],
    chosen: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only where int8 looks faster and may win; the second race alone counts."""
    run: list[tuple[int, float, int]] = []

    def race(calls: object, *, rounds: int, seconds: float, seed: int, threads: int, track: object) -> Race:
        run.append((rounds, seconds, seed))
        quiet = noise if rounds == 40 or noise == 1.0 else 0.01
        return made_race(ratio, quiet, rounds)

    monkeypatch.setattr(choose, "race", race)
    model, data = parse(CONV_RELU_CONV, **WEIGHTS), samples(4, labelled=False)
    decision = decide(entries(model, data), Trial(data, "x", **{"max_drop": 1.0, "rounds": 40, **trial_says}))
    assert run == races
    assert decision.race is not None
    assert decision.race.rounds == races[-1][0]
    assert decision.chosen == chosen
    assert words in decision.verdict


@pytest.mark.parametrize(
    ("threads", "alone", "trial_says", "chosen", "words"),
    [
        (
            2,
            0.68,
            {},
            "float",
            "in wall time on 2 threads, 0.68x on one in CPU time, which neighbours do not bend",
        ),
        (2, 1.0, {}, "int8", "chose int8"),
        (2, 1.5, {}, "int8", "chose int8"),
        (2, 0.68, {"allow_slower": True}, "int8", "chose int8"),
        (1, 0.68, {}, "int8", "chose int8"),
    ],
)
def test_what_wins_on_several_threads_must_not_lose_on_one(
    threads: int, alone: float, trial_says: dict[str, Any], chosen: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a busy neighbour one session may wait in every run and another never: its wall time is no evidence."""
    asked: list[int] = []

    def race(calls: object, *, rounds: int, seconds: float, seed: int, threads: int, track: object) -> Race:
        asked.append(threads)
        return made_race(alone if len(asked) > 1 else 1.5, 0.01, rounds)

    monkeypatch.setattr(choose, "race", race)
    model, data = parse(CONV_RELU_CONV, **WEIGHTS), samples(4, labelled=False)
    made = Trial(data, "x", threads=threads, **{"max_drop": 1.0, "rounds": 40, **trial_says})
    decision = decide(entries(model, data), made)
    assert asked == ([2, 1] if threads == 2 and not trial_says else [threads])
    assert decision.chosen == chosen
    assert words in decision.verdict
    rows = {c.name: c.to_dict() for c in decision.candidates}
    assert rows["int8"]["speedup"]["ratio"] == pytest.approx(1.5, rel=0.01)
    assert ("alone" in rows["int8"]) == (len(asked) > 1)
    assert "alone" not in rows["float"]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_budget_that_must_be_sure_is_held_at_the_far_end(labelled: bool) -> None:
    """Nothing changes on four images, and of all other images up to half may: measured 0, surely less than 55 %."""
    model, data = conv_net(), samples(4, labelled)
    judged = {}
    for sure in (False, True):
        judge = choose.Judge(open_session(model), Trial(data, "x", max_drop=0.1, sure=sure))
        judged[sure] = judge(open_session(model))
    assert judged[False].drop == judged[True].drop == 0
    high = judged[True].drop_high
    assert high is not None
    assert high > 0.3
    assert (judged[False].held, judged[True].held) == (0, high)
    assert ("may lose" if labelled else "may change") in judged[True].words
    assert f"(95 %; budget 10.0{'' if labelled else ' %'})" in judged[True].words
    assert "may" not in judged[False].words
    candidate = raced("int8", 2.0, 40.0)
    assert not choose.judged(candidate, judged[False], Trial(data, "x", max_drop=0.1)).refused
    refused = choose.judged(candidate, judged[True], Trial(data, "x", max_drop=0.1, sure=True))
    assert refused.refused
    assert "more labelled --data" in choose.choose([BASE, refused], Trial(data, "x", sure=True))[1]


def test_a_budget_that_must_be_sure_is_not_held_without_an_interval() -> None:
    """A metric by bootstrap of which no draw shows a difference, as mIoU on few images: `evaluate` is inconclusive."""
    own = OwnMetric("score", lambda answers, name: 0.5)
    model, data, judged = conv_net(), samples(4, False), {}
    for sure in (False, True):
        made = Trial(data, "x", max_drop=0.1, own=own, sure=sure)
        judged[sure] = Judge(open_session(model), made)(open_session(model))
        assert (judged[sure].drop, judged[sure].drop_high) == (0, None)
        refused = choose.judged(raced("int8", 2.0, 40.0), judged[sure], made).refused
        assert bool(refused) is sure
    assert refused == (
        "int8 has no known interval of what it may lose of score (95 %: at most 52.7 % of images count otherwise), "
        "and --sure needs one"
    )


def test_a_budget_that_cannot_hold_keeps_float() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    data = samples(4, labelled=False)
    decision = decide(entries(model, data), Trial(data, "x", max_drop=0.0, allow_slower=True, rounds=8))
    assert decision.chosen == "float"
    assert "budget 0 %" in decision.verdict
    assert "--search-budget" not in decision.verdict
    assert "labelled --data" in decision.verdict
    assert "--qat" not in decision.verdict, "there are no labels to learn from"
    hurried = decide(entries(model, data), Trial(data, "x", max_drop=0.0, quick=True, rounds=8))
    assert "kept float; a --search-budget above 0, " in hurried.verdict


def test_without_an_int8_graph_float_stays() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    decision = decide({"float": Entry(model, "float")}, Trial(samples(2, False), "x", rounds=6))
    assert (decision.chosen, decision.verdict) == ("float", "no layer of this network can be int8: kept float")
    assert decision.rival is None


@pytest.mark.parametrize("data_type", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_layers_in_float16_are_named_as_the_cause(data_type: int) -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    before = without_int8(model)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(data_type))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = data_type
    assert before == "no layer of this network can be int8: kept float"
    assert without_int8(model) == (
        "no layer of this network can be int8: kept float; 2 of 2 layers compute in float16, where int8 cannot start: "
        "export the network in float32, and quantize that"
    )


def test_a_graph_only_for_comparison_is_timed_and_never_chosen() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    data = samples(3, labelled=False)
    both = entries(model, data)
    both["int8"] = Entry(both["int8"].model, "int8", "only for comparison")
    decision = decide(both, Trial(data, "x", max_drop=1.0, allow_slower=True, rounds=8))
    assert decision.chosen == "float"
    shown = decision.candidates[1]
    assert (shown.refused, shown.drop, shown.snr_db) == ("only for comparison", None, None)
    assert shown.speedup is not None


def test_answers_are_remembered_by_what_was_fed_and_within_a_limit() -> None:
    asked = []

    def runner(feeds: Tensors) -> Tensors:
        asked.append(float(feeds["x"].ravel()[0]))
        return {"y": feeds["x"] * 2}

    one, two = ({"x": np.full((4,), value, np.float32)} for value in (1.0, 2.0))
    recall = Remembering(runner, limit_bytes=16)
    for feeds in (one, dict(one), two, two, {"x": one["x"].reshape(2, 2)}, {"x": one["x"].copy()}):
        np.testing.assert_array_equal(recall(feeds)["y"], feeds["x"] * 2)
    assert asked == [1, 2, 2, 1]  # two no longer fits; another shape is another input


@pytest.mark.parametrize(
    ("high", "unit", "said"),
    [
        (0.0123, "", " (95 %: at most 1.2 points less)"),
        (0.51, "px", " (95 %: at most 0.51 px less)"),
        (0.0, "", " (95 %: no less)"),
        (None, "", ""),
    ],
)
def test_the_verdict_says_how_much_may_be_lost(high: float | None, unit: str, said: str) -> None:
    def error(answers: Tensors, name: str) -> float:
        return 0.0

    error.unit = unit  # type: ignore[attr-defined]
    own = OwnMetric("error", error) if unit else None
    found = choose._cost(BASE, replace(rival("faster"), drop_high=high), trial(own=own))
    assert found.endswith(said)
    assert "98.1 % against 98.3 %" in found or unit


def test_a_loss_just_over_the_budget_is_not_shown_as_the_budget() -> None:
    judge = Judge(lambda feeds: feeds, trial(max_drop=0.01))  # type: ignore[arg-type]
    lost = Difference(0.0102, 0.0, 0.02, "")
    parity = ParityReport(1, ())
    assert judge._words(parity, None, lost, 0.0102) == "loses 1.02 points of top-1 (budget 1.0)"
    assert judge._words(parity, None, lost, 0.0134) == "loses 1.3 points of top-1 (budget 1.0)"


def drawn(images: int) -> Samples:
    """Each of another colour, so that a network of random weights has more than one answer."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((images, 3, 8, 8)) + 20 * rng.standard_normal((images, 3, 1, 1))).astype(np.float32)
    return Samples("drawn", tuple(map(str, range(images))), lambda i: x[i])


@pytest.mark.parametrize(
    ("images", "push", "words"), [(8, 1e4, "class 2 on all of the 8 im"), (8, 0, ""), (7, 1e4, "")]
)
def test_a_class_that_never_changes_proves_nothing(images: int, push: float, words: str) -> None:
    model = conv_net()
    last = next(t for t in model.graph.initializer if t.name == "d")
    last.CopyFrom(onnx.numpy_helper.from_array(push * np.eye(10, dtype=np.float32)[2], "d"))
    judge = Judge(open_session(model), Trial(drawn(images), "x"))
    assert judge.alike is None
    judge(open_session(model))
    assert judge.alike is not None
    assert judge.alike.startswith(f"answers {words}" if words else "")
    assert bool(judge.alike) == bool(words)


@pytest.mark.parametrize(
    ("score", "said"), [(0.29, "scores no box 0.3 or more on any of the 2 images that judge it"), (0.3, "")]
)
def test_a_detector_that_finds_nothing_proves_nothing(score: float, said: str) -> None:
    def runner(feeds: Tensors) -> Tensors:
        found = np.array([score], np.float32), np.array([1]), np.array([0])
        return dict(zip(detection.OUTPUTS, (np.array([[0, 0, 9, 9]], np.float32), *found), strict=True))

    judge = Judge(runner, Trial(drawn(2), "x", task="detection"))  # type: ignore[arg-type]
    judge(runner)  # type: ignore[arg-type]
    assert judge.alike == said


def test_what_was_said_of_the_model_reaches_the_trial() -> None:
    """Another task judges by another rule, and a Sigmoid's half is the middle."""
    data = samples(4, False)
    material = Material("x", (3, 8, 8), data, data, unused="no labels of this task")
    said = trial_on(
        material, Identity("net", "multi-label", sigmoid=True), Budget(0.03, True), True, True, None, 2, 0, 7
    )
    assert said == Trial(
        data, "x", 0.03, True, 2, seconds=QUICK_RACE_SECONDS, seed=7, task="multi-label", all_int8=True,
        unused="no labels of this task", sigmoid=True, quick=True, sure=True,
    )  # fmt: skip
    patient = trial_on(material, Identity("net"), Budget(0.03), False, False, None, 1, 5.0, 0)
    assert (patient.seconds, patient.quick) == (DECIDING_SECONDS, False)


@pytest.mark.parametrize(("images", "numbers", "free"), [("N", "N", True), ("N", "1", False), ("1", "1", False)])
def test_one_input_of_a_fixed_batch_fixes_it(images: str, numbers: str, free: bool) -> None:
    text = f"net (float[{images},3] x, float[{numbers},3] z) => (float[N,3] y) {{ y = Add (x, z) }}"
    assert free_batch(open_session(parse(text))) is free


def test_a_closed_judge_holds_the_float_graph_no_more() -> None:
    """Its session has all weights in memory while int8 is raced."""

    class Answers:
        def __call__(self, feeds: Tensors) -> Tensors:
            return {"y": feeds["x"]}

    runner = Answers()
    judge, held = Judge(runner, trial(task="other")), weakref.ref(runner)  # type: ignore[arg-type]
    del runner
    assert held() is not None
    judge.close()
    assert held() is None


def test_a_graph_is_judged_once() -> None:
    model, data = parse(CONV_RELU_CONV, **WEIGHTS), samples(6, labelled=False)
    both, opened = entries(model, data), []

    def answers_of(graph: onnx.ModelProto) -> Session:
        opened.append(graph)
        return open_session(graph)

    judge = Judge(open_session(model), Trial(data, "x", max_drop=0.5, rounds=8), answers_of=answers_of)
    before = judge.of(both["int8"].model)
    found = decide(both, judge.trial, judge).candidates[1]
    assert len(opened) == 1
    assert (found.snr_db, found.drop) == (before.snr_db, before.drop)
    fresh = Judge(open_session(model), judge.trial)(open_session(both["int8"].model))
    assert fresh == before
