"""From a float graph to the candidates of the last race: search, accuracy passes, the way back to the budget."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import pytest

from edgecnn.choosing import contest, keeper
from edgecnn.choosing.contest import Contest, compete
from edgecnn.choosing.trial import Trial
from edgecnn.cli._tables import searched
from edgecnn.data.material import Material
from edgecnn.data.samples import Samples
from edgecnn.report import Page
from exporters.base import PassResult
from exporters.quantization.quantize import QuantRecipe
from exporters.rewrites import pad_outputs
from exporters.searching.search import Design, Found
from exporters.targets.cpu_target import this_cpu
from runtimes.base import BadInput
from runtimes.parity import compare
from runtimes.session import open_session
from small_nets import model
from test_sensitivity import net

SHAPE = (8, 8, 8)


def material(count: int = 8, size: tuple[int, ...] = SHAPE) -> Material:
    images = np.random.default_rng(1).normal(size=(count, *size)).astype(np.float32)
    samples = Samples("made", tuple(map(str, range(count))), lambda i: images[i], None, ())
    return Material("x", size, samples, samples)


def run(given: onnx.ModelProto, max_drop: float, seconds: float = 0.0, **options: object) -> Contest:
    data = material()
    trial = Trial(data.judged, "x", max_drop=max_drop, rounds=12, seconds=1.0, **options)
    return compete(given, QuantRecipe(), data, trial, seconds)


def test_the_budget_holds_for_what_is_chosen_or_it_is_float() -> None:
    """A network made to fail: ruined grids change many answers; what is shipped changes at most the share allowed."""
    for max_drop in (0.0, 0.2, 1.0):
        result = run(net(), max_drop)
        winner = next(c for c in result.decision.candidates if c.name == result.decision.winner)
        assert winner.kind == "float" or (winner.drop is not None and winner.drop <= max_drop)


def test_layers_go_back_to_float_until_the_budget_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without passes that help, the layer behind the ruined grid is the one that must go."""
    monkeypatch.setattr(keeper, "EXACT", ())
    monkeypatch.setattr(keeper, "FAST", ())
    monkeypatch.setattr(keeper, "SLOW", ())
    data = material()
    trial = Trial(data.judged, "x", max_drop=0.0, rounds=12, seconds=1.0, allow_slower=True)
    result = compete(net(), QuantRecipe(), data, trial, 0.0, portable=True)
    reasons = dict(result.quantized.float_nodes)
    back = {node for node, reason in reasons.items() if "for the accuracy budget: alone in int8 it leaves" in reason}
    assert back
    assert back <= {"Conv_a", "Conv_b"}, "the layers at the ruined grid"
    kinds = {c.name: c for c in result.decision.candidates}
    assert kinds["int8"].refused, "the full int8 graph is shown with what it costs"
    assert not kinds["mixed"].refused
    assert result.decision.chosen == "mixed"
    assert result.portable is not None, "what is refused is another graph"


def test_passes_that_cost_no_speed_come_before_layers_in_float() -> None:
    """Equalization undoes the factor of 4,096 exactly, so that nothing has to leave int8."""
    result = run(net(), 0.0, seconds=5.0, allow_slower=True)
    assert "equalize" in [e.name for e in result.effects if e.kept]
    assert not any("accuracy budget" in reason for _, reason in result.quantized.float_nodes)
    assert result.decision.chosen in ("int8", "mixed")


def test_all_int8_is_asked_of_the_search_and_raced_against_no_part_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def found(shop: object, time_left: object, whole: bool) -> Found:
        asked.append(whole)
        return Found(Design(), (), True)

    monkeypatch.setattr(contest, "search", found)
    result = run(net(), 1.0, all_int8=True)
    assert asked == [True]
    assert [c.name for c in result.decision.candidates] == ["float", "int8"], "no graph races against itself"
    assert result.decision.chosen == "int8"


def test_what_the_search_keeps_in_float_has_its_times_for_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "search", lambda shop, time_left, whole: Found(Design((), ("Conv_c",)), (), True))
    result = run(net(), 1.0)
    reasons = dict(result.quantized.float_nodes)
    assert "float" in reasons["Conv_c"]
    assert "us, float" in reasons["Conv_c"]
    layer = next(layer for layer in result.layers if layer.node == "Conv_c")
    assert (layer.kind, layer.why) == ("float", reasons["Conv_c"])
    assert [c.name for c in result.decision.candidates] == ["float", "plain int8", "mixed"]


def test_the_table_is_json_and_names_every_layer() -> None:
    result = run(net(), 1.0)
    table = json.loads(json.dumps(result.to_dict()))
    assert {layer["node"] for layer in table["layers"]} >= {"Conv_a", "Conv_b", "Conv_c", "Gemm_y"}
    assert table["complete"] is False, "no second was given"
    assert 0 <= table["seconds"] < 60
    assert table["design"] == result.found.design.to_dict()


def test_the_integer_graph_is_calibrated_on_all_images() -> None:
    result = run(net(), 1.0)
    assert (result.quantized.recipe.images, result.quantized.recipe.data) == (8, "made")
    feeds = material().calibration_feeds
    session = open_session(net())
    lows = min(float(feed["x"].min()) for feed in feeds)
    assert result.quantized.ranges["x"][0] == pytest.approx(lows)
    assert session is not None


def test_a_network_without_an_integer_layer_stays_float() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 18]>
    net (float[N,8,8,8] x) => (float[N,8,8,8] y) { y = Relu (x) }
    """
    result = run(model(text), 1.0)
    assert result.decision.chosen == "float"
    assert result.found == contest.NOTHING


@pytest.mark.parametrize(("target", "chosen"), [(this_cpu(), "int8"), ("arm", None)])
def test_transposed_convolutions_alone_are_int8_once_they_are_rewritten(target: str, chosen: str | None) -> None:
    """A generator: nothing in it has an int8 kernel until `transposed_conv` makes convolutions of it."""
    text = """
    <ir_version: 9, opset_import: ["" : 18]>
    net (float[N,8,8,8] x) => (float[N,4,16,16] y) {
        y = ConvTranspose <strides: ints = [2,2], pads: ints = [1,1,1,1]> (x, w)
    }
    """
    made = model(text, w=np.random.default_rng(0).normal(size=(8, 4, 4, 4)).astype(np.float32))
    data = material()
    trial = Trial(data.judged, "x", max_drop=1.0, rounds=12, seconds=1.0, allow_slower=True)
    result = compete(made, QuantRecipe(target=target), data, trial, 0.0, portable=True)
    if chosen is None:  # rewrites are not used for that CPU
        assert (result.decision.chosen, result.found) == ("float", contest.NOTHING)
        assert result.quantized.float_nodes == (
            ("ConvTranspose_y", "ConvTranspose has no int8 kernel in ONNX Runtime's CPU provider"),
        )
        return
    assert result.decision.chosen == chosen
    assert "transposed_conv" in result.found.design.rewrites
    assert result.portable is None
    assert result.unportable == "without rewrites no layer of this network can be int8"
    feeds = data.calibration_feeds
    wanted, found = (open_session(one) for one in (made, result.quantized.model))
    assert compare(wanted, found, feeds).worst_db > 30


def test_images_that_are_not_finite_are_refused_by_name() -> None:
    data = material()
    bad = Samples(
        "made",
        data.calibration.ids,
        lambda i: np.linspace(0, np.nan if i == 5 else 1.0, 512).astype(np.float32).reshape(SHAPE),
        None,
        (),
    )
    with pytest.raises(BadInput, match="5"):
        compete(net(), QuantRecipe(), Material("x", SHAPE, bad, bad), Trial(bad, "x", rounds=6), 0.0)


def test_a_rewrite_that_fails_is_told_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(given: onnx.ModelProto) -> PassResult:
        raise KeyError("x")

    monkeypatch.setattr(pad_outputs, "run", fails)
    result = run(net(), 1.0, seconds=1.0)
    reason = "KeyError: 'x'; a defect of edgecnn, please report it"
    assert result.refused == {"pad_outputs": reason}
    assert result.to_dict()["refused"] == {"pad_outputs": reason}
    assert result.quantized.int8_nodes
    searched(Page(sys.stdout), result)
    assert f"rewrite pad_outputs was not used: {reason}." in " ".join(capsys.readouterr().out.split())
