"""The CPU at which a graph is aimed: forms that must help here, predictions for elsewhere, nothing raced there."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn.choosing import choose, contest, keeper
from edgecnn.choosing.choose import Candidate, Decision
from edgecnn.choosing.contest import Contest, compete
from edgecnn.choosing.judge import Judgement
from edgecnn.choosing.keeper import FAST, SLOW, Keeper
from edgecnn.choosing.names import EXACT, PLAIN, meanings
from edgecnn.choosing.trial import Trial
from edgecnn.cli import main
from edgecnn.cli._tables import candidates
from edgecnn.data.material import Material
from edgecnn.data.samples import Samples
from edgecnn.report import Page
from exporters.quantization import work as works
from exporters.quantization.quantize import QuantRecipe
from exporters.quantization.work import Work, start
from exporters.searching.search import Design, Found
from exporters.targets import weight_forms
from exporters.targets.cpu_target import SATURATING, TARGETS, LayerRisk, this_cpu
from runtimes.base import BadInput, Tensors, Track, silent
from small_nets import conv_net, save
from test_weight_forms import bright_net, only_where_sums_saturate

SHAPE = (8, 10, 10)


def material() -> Material:
    images = np.random.default_rng(1).uniform(0.5, 1.0, (8, *SHAPE)).astype(np.float32)
    samples = Samples("made", tuple(map(str, range(8))), lambda i: images[i], None, ())
    return Material("x", SHAPE, samples, samples)


def keeper_for(target: str, track: Track = silent) -> Keeper:
    data = material()
    return Keeper(bright_net(), QuantRecipe(target=target), data, Trial(data.judged, "x", rounds=6), 0.0, track)


def aimed_recipe(work: Keeper) -> QuantRecipe:
    return work.aim(start(work.model, work.recipe, work.images), work.images).recipe


def run(target: str, portable: bool = False, **options: object) -> Contest:
    data = material()
    trial = Trial(data.judged, "x", rounds=8, seconds=1.0, **options)
    return compete(bright_net(), QuantRecipe(target=target), data, trial, 0.0, portable)


def int8_weights(model: onnx.ModelProto) -> int:
    return sum(t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1 for t in model.graph.initializer)


@pytest.fixture
def saturating(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a CPU whose sums saturate, which this one takes itself for; there other forms of weights help."""
    monkeypatch.setattr(keeper, "this_cpu", lambda: "avx2")
    monkeypatch.setattr(Keeper, "_measured", lambda *_: (20.0, 30.0))
    return "avx2"


@only_where_sums_saturate
def test_here_the_forms_are_measured() -> None:
    work = keeper_for(this_cpu())
    recipe = aimed_recipe(work)
    aimed = work.aims[recipe.weight_forms]
    assert recipe.weight_forms == (("Conv_a", "s7"), ("Gemm_y", "s7"))
    assert aimed.measured_db is not None
    assert aimed.measured_db[1] > aimed.measured_db[0] + 3
    assert "measured: SQNR" in aimed.words


@pytest.mark.parametrize(("passes", "seen", "judging"), [((), 8, 8), (("bias_correction",), 6, 2)])
def test_forms_are_measured_on_the_ranges_of_many_images(
    passes: tuple[str, ...], seen: int, judging: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With those of a few, what other images bring is cut off, and that hides what saturates."""
    met: list[tuple[int, int]] = []

    def measured(self: Keeper, work: Work, adapted: Work, images: Sequence[Tensors]) -> tuple[float, float]:
        assert work.calibration is adapted.calibration
        met.append((work.calibration.images, len(images)))
        return 20.0, 30.0

    monkeypatch.setattr(keeper, "this_cpu", lambda: "avx2")
    monkeypatch.setattr(Keeper, "_measured", measured)
    work = keeper_for("avx2")
    made = work.made(work.workshop(equalize=False), contest.NOTHING.design, passes)
    assert met == [(seen, judging)]
    assert made.calibration.images == 8
    assert made.recipe.weight_forms


def test_here_forms_that_do_not_help_are_dropped(saturating: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keeper, "_measured", lambda *_: (30.0, 29.0))
    work = keeper_for(saturating)
    recipe = aimed_recipe(work)
    assert recipe.weight_forms == ()
    assert "other forms of weights did not help" in work.aims[()].words


def test_elsewhere_the_forms_are_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "this_cpu", lambda: "vnni")
    monkeypatch.setattr(Keeper, "_measured", lambda *_: pytest.fail("nothing can be measured"))
    work = keeper_for("avx2")
    recipe = aimed_recipe(work)
    assert recipe.weight_forms == (("Conv_a", "s7"), ("Gemm_y", "s7"))
    assert work.aims[recipe.weight_forms].measured_db is None
    assert "predicted, not measured" in work.aims[recipe.weight_forms].words


@pytest.mark.parametrize(
    ("here", "target", "twin"),
    [
        ("avx2", "vnni", True),
        ("avx2", "avx512", False),
        ("vnni", "avx2", False),
        ("avx2", "avx2", False),
        ("avx2", "", False),
    ],
)
def test_answers_are_those_of_the_target(monkeypatch: pytest.MonkeyPatch, here: str, target: str, twin: bool) -> None:
    """On a saturating CPU a graph for one that is not is judged by its exact twin."""
    opened: list[onnx.ModelProto] = []
    monkeypatch.setattr(keeper, "this_cpu", lambda: here)
    work = keeper_for(target)
    real = keeper.open_session
    monkeypatch.setattr(keeper, "open_session", lambda model, **o: opened.append(model) or real(model, **o))
    made = work.made(work.workshop(equalize=False), contest.NOTHING.design, ())
    given = made.quantized().model
    work.session(given)
    assert (int8_weights(opened[-1]) == 0) == twin
    assert int8_weights(given) > 0


def test_for_another_cpu_nothing_is_raced() -> None:
    target = next(name for name in TARGETS if name != this_cpu())
    result = run(target, max_drop=1.0)
    assert result.decision.race is None
    assert result.decision.chosen == "int8"
    assert [c.speedup for c in result.decision.candidates] == [None, None]
    assert [c.p50_ms for c in result.decision.candidates] == [None, None]
    assert f"int8 for {target}" in result.decision.verdict
    assert f"predicted, not measured (this CPU is {this_cpu()})" in result.decision.verdict
    assert result.found.steps == ()
    assert result.quantized.recipe.target == target


def test_for_another_cpu_the_budget_holds_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keeper, "within_budget", lambda self, shop, design: keeper.Kept(
        self.made(shop, design, ()), keeper.Aimed("arm", False)))  # fmt: skip
    monkeypatch.setattr(choose, "judged", lambda raced, found, trial: choose.replace(raced, refused="int8 is bad"))
    target = next(name for name in TARGETS if name != this_cpu())
    assert run(target).decision.chosen == "float"


def test_a_portable_graph_is_judged_and_may_win() -> None:
    result = run("", portable=True, max_drop=1.0)
    names = [c.name for c in result.decision.candidates]
    assert result.portable is not None
    assert result.portable.recipe.images == 8, "calibrated on all images"
    if not result.found.design.is_plain:
        assert "portable" in names
        assert next(c for c in result.decision.candidates if c.name == "portable").drop is not None


def winner_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the race says, candidate `name` wins."""
    monkeypatch.setattr(choose, "choose", lambda found, *rest: (name, f"chose {name}"))


def test_layers_with_unsigned_weights_race_in_float_too(saturating: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search knows them signed and faster; what wins the last race is what comes back."""
    winner_is(EXACT, monkeypatch)
    real = weight_forms.look
    monkeypatch.setattr(weight_forms, "look", lambda work: tuple(replace(r, choice="u8") for r in real(work)))
    result = run(saturating, max_drop=1.0)
    kinds = {c.name: c.kind for c in result.decision.candidates}
    assert kinds[EXACT] == "mixed"
    assert result.decision.chosen == "mixed"
    reasons = dict(result.quantized.float_nodes)
    assert "float was raced against unsigned" in reasons["Conv_a"]
    assert next(c for c in result.decision.candidates if c.name == EXACT).snr_db is not None


@pytest.mark.parametrize("fast_holds", [True, False])
def test_the_exact_forms_are_taken_where_the_fast_ones_miss_the_budget(
    fast_holds: bool, saturating: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only there: what holds the budget is not made slower to lose less."""
    real = weight_forms.look
    monkeypatch.setattr(
        weight_forms,
        "look",
        lambda work: tuple(replace(r, choice="s7", seven_bits_db=r.exact_db - 6) for r in real(work)),
    )
    work = keeper_for(saturating)
    fast = 0.005 if fast_holds else 0.5
    monkeypatch.setattr(work, "drop", lambda work: 0.0 if forms_of(work.recipe) == {"u8"} else fast)
    kept = work.within_budget(work.workshop(equalize=False), Design())
    assert forms_of(kept.work.recipe) == ({"s7"} if fast_holds else {"u8"})
    assert bool(kept.aimed.slow) != fast_holds
    assert kept.aimed.measured_db is not None
    assert not kept.returned


@pytest.mark.parametrize(("seconds", "long"), [(0.0, True), (0.0, False), (1.0, True)])
def test_without_a_search_only_what_is_quick_is_tried_for_the_budget(
    seconds: float, long: bool, saturating: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are seen once for each of the two kinds of ranges, however many forms are tried on them."""
    observed, tried = [], []
    real = works.observe
    monkeypatch.setattr(
        works,
        "observe",
        lambda m, t, images, *o, **k: observed.append(len(images)) or real(m, t, images, *o, **k),
    )
    monkeypatch.setattr(keeper, "finer", lambda risks: tuple(replace(risk, choice="u8") for risk in risks))
    monkeypatch.setattr(Keeper, "_improved", lambda self, work, passes: tried.append(passes) or work)
    monkeypatch.setattr(keeper, "QUICK_STEP", 0.0 if long else 1e9)
    data = material()
    work = Keeper(
        bright_net(), QuantRecipe(target=saturating), data, Trial(data.judged, "x", rounds=6), seconds, silent
    )
    monkeypatch.setattr(work, "drop", lambda work: 0.5)
    work.within_budget(work.workshop(equalize=seconds > 0), Design())
    if seconds:
        assert [set(passes) for passes in tried] == [set(keeper.EXACT), set(FAST), set(FAST), set(SLOW)]
        assert observed.count(6) == 3, "for equalization, for all three attempts, and for layers alone in int8"
    elif not long:
        assert [set(passes) for passes in tried] == [set(keeper.EXACT), set(FAST), set(SLOW)]
    else:
        assert not tried
        assert observed.count(8) == 2, "for both attempts, and for layers alone in int8"


def test_where_no_layer_in_float_holds_the_budget_all_stay_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    work = keeper_for("vnni")
    kept = keeper.Kept(start(work.model, work.recipe, work.images), keeper.Aimed("vnni", False))
    monkeypatch.setattr(work, "drop", lambda work: 0.5)
    assert work.with_layers_in_float(kept) is kept


@pytest.mark.parametrize(
    ("accuracy", "high", "spare"),
    [(0.9, 0.01 + 2 * 1.96, 2.0), (0.9, 0.0, 0.0), (0.9, None, 0.0), (None, 0.01 + 2 * 1.96, 0.0)],
)
def test_room_is_left_only_for_what_labels_cannot_tell(
    accuracy: float | None, high: float | None, spare: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standard error, of a metric on labels: the end of a 95 % interval is 1.96 of them away."""
    work = keeper_for("vnni")
    monkeypatch.setattr(work.judge, "of", lambda model: Judgement(30.0, 0.9, accuracy, 0.01, high, ""))
    assert work.spare(start(work.model, work.recipe, work.images)) == pytest.approx(spare)


@pytest.mark.parametrize(("search", "step"), [(0.0, 6.0), (5.0, 30.0), (60.0, 60.0)])
def test_a_longer_search_allows_longer_steps(search: float, step: float) -> None:
    data = material()
    work = Keeper(bright_net(), QuantRecipe(), data, Trial(data.judged, "x", rounds=6), search, silent)
    assert work.step_seconds == step


def test_layers_are_looked_at_once_for_both_kinds_of_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, real = [], weight_forms.look
    monkeypatch.setattr(weight_forms, "look", lambda work: looked.append(work) or real(work))
    monkeypatch.setattr(keeper, "this_cpu", lambda: "vnni")
    work = keeper_for("avx2")
    begun = start(work.model, work.recipe, work.images)
    for fine in (False, True):
        work.aim(begun, work.images, fine)
    assert looked == [begun]


def test_what_is_aimed_at_is_told_in_a_sentence() -> None:
    risk = LayerRisk("Conv_a", 0.1, 40.0, 20.0, 36.0, "s7")
    told = [
        keeper.Aimed("", True),
        keeper.Aimed("vnni", True),
        keeper.Aimed("avx2", False, (risk, *[replace(risk, choice="s8")] * 2)),
        keeper.Aimed("avx2", True, (risk,), (20.0, 30.0)),
        keeper.Aimed("avx2", True, (replace(risk, choice="s8"),), (30.0, 29.0)),
        keeper.Aimed("avx2", False, (replace(risk, choice="s8"),)),
    ]
    on = ", on a few calibration images (the SNR of the race is on all that were judged)"
    may = "sums of two 8-bit products may saturate, no layer needs other weights"
    assert [aimed.words for aimed in told] == [
        "target any CPU: sums of 8-bit products stay exact",
        "target vnni (this CPU): sums of 8-bit products stay exact",
        "target avx2: sums of two 8-bit products saturate: 2 layers as they are, 1 with weights on 7 bits; "
        "predicted, not measured",
        "target avx2 (this CPU): sums of two 8-bit products saturate: 1 with weights on 7 bits; "
        f"measured: SQNR 20.0 dB before, 30.0 dB with them{on}",
        f"target avx2 (this CPU): {may}; other forms of weights did not help; "
        f"measured: SQNR 30.0 dB before, 29.0 dB with them{on}",
        f"target avx2: {may}",
    ]


def forms_of(recipe: QuantRecipe) -> set[str]:
    return {form for _, form in recipe.weight_forms}


def test_the_graph_that_won_is_the_one_that_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portable graph that wins is not exchanged for the rewritten one."""
    winner_is("portable", monkeypatch)
    monkeypatch.setattr(contest, "search", lambda shop, time_left, whole: Found(Design(("pad_outputs",)), (), True))
    result = run("", portable=True, max_drop=1.0)
    assert result.portable is not None
    assert result.quantized.model is result.portable.model


def test_images_of_one_value_are_no_calibration() -> None:
    data = material()
    blank = replace(data.calibration, load=lambda i: np.zeros(SHAPE, np.float32))
    trial = Trial(data.judged, "x", rounds=8, seconds=1.0)
    with pytest.raises(BadInput, match="made: every image is of one value"):
        compete(bright_net(), QuantRecipe(), replace(data, calibration=blank), trial, 0.0)


def test_a_portable_graph_outside_the_budget_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is the very graph that was found."""
    monkeypatch.setattr(Keeper, "with_layers_in_float", lambda self, kept: kept)
    monkeypatch.setattr(Keeper, "drop", lambda self, work: 1.0)
    real = choose.judged
    bad = lambda raced, found, trial: choose.replace(real(raced, found, trial), refused=f"{raced.name} is bad")  # noqa: E731
    monkeypatch.setattr(choose, "judged", bad)
    assert run("", portable=True).portable is None


# ------------------------------------------------------------------------------------------------- the command line
def quantize(capsys: pytest.CaptureFixture[str], tmp_path: Path, *options: str) -> tuple[int, str, str]:
    source = save(conv_net(), tmp_path / "net.onnx")
    arguments = ["quantize", str(source), "-o", str(tmp_path / "out.onnx"), "--calib", "random:4", *options]
    code = main([*arguments, "--search-budget", "0", "--max-drop", "1"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("target", ["avx2", "vnni"])
def test_a_target_works_from_any_machine(target: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = quantize(capsys, tmp_path, "--target", target, "--portable", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["target"]["name"] == target
    assert report["target"]["this_cpu"] == (target == this_cpu())
    assert (report["speedup"] is None) == (target != this_cpu())
    assert ("predicted, not measured" in report["verdict"]) == (target != this_cpu())
    assert len(report["target"]["layers"]) == (2 if target in SATURATING else 0)
    assert report["portable"] == str(tmp_path / "out.portable.onnx")
    plain = onnx.load(report["portable"])
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= {node.op_type for node in plain.graph.node}
    assert {node.domain for node in plain.graph.node} == {""}


def test_a_target_that_does_not_exist_is_bad_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = quantize(capsys, tmp_path, "--target", "avx521")
    assert code == 2
    assert "did you mean avx512" in err


@pytest.mark.parametrize(("insist", "code"), [(True, 1), (False, 0)])
def test_insisting_on_int8_where_none_holds_the_budget_is_exit_1(
    insist: bool, code: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float graph is written all the same, the best integer graph stands in the report."""
    monkeypatch.setattr(choose, "judged", lambda raced, found, trial: choose.replace(
        raced, drop=0.25, refused=f"{raced.name} loses 25 points"))  # fmt: skip
    found, out, err = quantize(capsys, tmp_path, "--json", *(["--allow-slower"] if insist else []))
    report = json.loads(out)
    assert found == code
    assert report["chosen"] == "float"
    assert next(c for c in report["candidates"] if c["name"] == "int8")["refused"] == "int8 loses 25 points"
    assert ("loses 25 points: kept float" in err) == insist
    assert "QuantizeLinear" not in {node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node}


def test_names_are_explained_beside_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("float", PLAIN, "int8", EXACT)
    found = tuple(Candidate(name, 1000, 1.0, kind="float" if name == "float" else "int8") for name in names)
    candidates(Page(sys.stdout), Decision("int8", "chose int8", found, None, 1))
    shown = " ".join(capsys.readouterr().out.split())
    (sentence,) = meanings(names)
    assert sentence in shown
    assert "only with slow, unsigned weights are in float" in sentence
