"""Designs made and raced on a small network: names of what goes to float, refusal of wrong rewrites, real ratios."""

from __future__ import annotations

import types
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporters.base import Change, PassResult
from exporters.graph import MODULE_KEY, copy_model, set_meta
from exporters.quantization.quantize import QuantRecipe
from exporters.searching import workshop
from exporters.searching.search import Design, search
from exporters.searching.workshop import Workshop, prefixes
from runtimes import plugins
from runtimes.base import BadInput
from small_nets import model

NET = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N,8,24,24] x) => (float[N,4] y) {
    c = Conv <pads = [1, 1, 1, 1]> (x, w1)
    r = Relu (c)
    d = Conv <pads = [1, 1, 1, 1]> (r, w2)
    e = Conv (d, w3)
    p = GlobalAveragePool (e)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, v)
}
"""


def net() -> onnx.ModelProto:
    draw = np.random.default_rng(0).normal
    shapes = {"w1": (8, 8, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 8, 1, 1), "v": (4, 8)}
    made = model(NET, **{name: draw(size=shape).astype(np.float32) for name, shape in shapes.items()})
    for node in made.graph.node:
        set_meta(node, {MODULE_KEY: f"body.{node.output[0]}"})
    return made


@pytest.fixture
def shop() -> Workshop:
    feeds = [{"x": np.random.default_rng(s).normal(size=(1, 8, 24, 24)).astype(np.float32)} for s in (1, 2)]
    return Workshop(net(), feeds, QuantRecipe(), seconds=0.1)


Run = Callable[[onnx.ModelProto], PassResult]


def stand_in(monkeypatch: pytest.MonkeyPatch, **runs: Run) -> None:
    """These are all the rewrites and forms that there are."""
    load = plugins.load

    def found(folder: types.ModuleType, name: str, kind: str) -> object:
        return types.SimpleNamespace(run=runs[name]) if name in runs else load(folder, name, kind)

    monkeypatch.setattr(workshop, "ALL", tuple(runs))
    monkeypatch.setattr(plugins, "load", found)


def scaled(factor: float) -> Run:
    """A rewrite that multiplies the first weights by `factor`: right for 1, wrong for all else."""

    def run(given: onnx.ModelProto) -> PassResult:
        if any(n.name == "marked" for n in given.graph.node):
            return PassResult(copy_model(given))
        made = copy_model(given)
        tensor = next(t for t in made.graph.initializer if t.name == "w1")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), "w1"))
        made.graph.node[0].name = "marked"
        return PassResult(made, (Change("c", "marked"),))

    return run


def raising(given: onnx.ModelProto) -> PassResult:
    raise ValueError("zip() argument 2 is shorter\nthan argument 1")


def spoiling(given: onnx.ModelProto) -> PassResult:
    """Joins what cannot be joined: the result does not open."""
    made = copy_model(given)
    made.graph.node.add(op_type="Concat", input=["c", "w1"], output=["nothing"]).attribute.add(
        name="axis", i=1, type=onnx.AttributeProto.INT
    )
    return PassResult(made, (Change("c", "spoilt"),))


@pytest.fixture(params=[1.0, 1.01])
def factor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    stand_in(monkeypatch, marking=scaled(request.param))
    return request.param


DEFECT = "a defect of edgecnn, please report it"


@pytest.mark.parametrize(
    ("broken", "reason"), [(raising, "ValueError: zip() argument 2 is shorter; "), (spoiling, "BadInput: ")]
)
def test_a_broken_rewrite_is_named_and_the_search_goes_on(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, broken: Run, reason: str
) -> None:
    stand_in(monkeypatch, broken=broken, marking=scaled(1.0))
    found = search(shop, lambda: 1.0)
    assert found.complete
    assert "broken" not in found.design.rewrites
    assert list(shop.refused) == ["broken"]
    assert shop.refused["broken"].startswith(reason)
    assert shop.refused["broken"].endswith(DEFECT)
    assert "\n" not in shop.refused["broken"]
    assert shop.rewrites()[0] == ("marking",)


def test_a_rewrite_that_breaks_behind_others_alone_is_left_out_of_the_design(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_once_marked(given: onnx.ModelProto) -> PassResult:
        return raising(given) if given.graph.node[0].name == "marked" else scaled(1.0)(given)

    stand_in(monkeypatch, marking=scaled(1.0), other=fails_once_marked)
    assert shop.identity(Design(("marking", "other"))) == shop.identity(Design(("marking",)))
    assert list(shop.refused) == ["other"]


def test_rewrites_that_give_no_graph_together_are_no_design(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, marking=scaled(1.0), spoiling=spoiling)
    assert shop.identity(Design(("marking", "spoiling"))) is None
    assert shop.refused["marking with spoiling"].endswith(DEFECT)


def test_what_the_network_itself_does_not_take_is_no_defect_of_a_rewrite() -> None:
    feeds = [{"x": np.full((1, 8, 24, 24), np.nan, np.float32)}]
    with pytest.raises(BadInput, match="NaN"):
        Workshop(net(), feeds, QuantRecipe()).identity(Design())


def test_memory_that_ran_out_is_not_put_on_a_rewrite(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(given: onnx.ModelProto) -> PassResult:
        raise MemoryError

    stand_in(monkeypatch, greedy=greedy)
    with pytest.raises(MemoryError):
        shop.rewrites()


TWICE = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N,3,16,16] x) => (float[N,4] y) {
    a = Conv (x, w1) r = Relu (a) j = Concat <axis = 1> (r, r) c = Conv (j, w2)
    u = GlobalAveragePool (c) p = Conv (u, w3) q = Conv (c, w3) s = Add (p, q) d = GlobalAveragePool (s) y = Flatten (d)
}
"""


def test_a_tensor_joined_twice_and_a_sum_that_broadcasts_are_searched_to_the_end() -> None:
    """No rewrite fails on them, and the channels that are joined twice are filled up."""
    shapes = {"w1": (18, 3, 3, 3), "w2": (16, 36, 1, 1), "w3": (4, 16, 1, 1)}
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    feeds = [{"x": rng.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(2)]
    shop = Workshop(model(TWICE, **weights), feeds, QuantRecipe(), seconds=0.05)
    together, others = shop.rewrites()
    assert "pad_channels" in together
    assert "merge_add" not in (*together, *others)
    assert not shop.refused
    assert shop.built(Design(tuple(together))) is not None


def test_a_rewrite_that_changes_the_function_is_refused(shop: Workshop, factor: float) -> None:
    """One per cent more in one layer is 40 dB; a right rewrite leaves 100."""
    together, rest = shop.rewrites()
    others = list(rest)
    assert (together, list(others)) == ((("marking",), []) if factor == 1.0 else ((), []))
    assert ("marking" in shop.refused) == (factor != 1.0)


NOISY = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N,16,24,24] x) => (float[N,16,22,22] y) { y = Conv (x, w1) }
"""


@pytest.mark.parametrize(("factor", "taken"), [(1.001, True), (1.05, False)], indirect=["factor"])
def test_a_network_that_float_itself_leaves_noise_in_is_held_to_that_noise(factor: float, taken: bool) -> None:
    """Filters that sum to zero over pixels that are 10000 and a little: what is left of the products is their rounding.

    A thousandth (60 dB) would be refused elsewhere; here two orders of summation are as far from one another.
    """
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(16, 16, 3, 3))
    weights -= weights.mean(axis=(1, 2, 3), keepdims=True)
    feeds = [{"x": (10_000 + rng.normal(size=(1, 16, 24, 24))).astype(np.float32)} for _ in range(2)]
    shop = Workshop(model(NOISY, w1=weights.astype(np.float32)), feeds, QuantRecipe(), seconds=0.1)
    together, _ = shop.rewrites()
    assert (together == ("marking",)) == taken
    assert bool(shop.refused) != taken


def test_what_a_design_keeps_in_float_is_float_and_nothing_else(shop: Workshop) -> None:
    built = shop.built(Design(kept_float=("Conv_d",)))
    assert built is not None
    reasons = dict(built.quantized.float_nodes)
    assert "Conv_d" in reasons
    assert not {"Conv_c", "Conv_e", "Gemm_y"} & set(reasons)


def test_a_node_that_only_a_rewrite_made_needs_no_pattern_without_it(shop: Workshop) -> None:
    """A region may hold nodes that a rewrite made; when the rewrite is taken back they are gone."""
    assert shop.recipe_of(Design((), ("Conv_of_no_graph",))).exclude == shop.recipe.exclude


def test_names_with_wild_cards_are_meant_literally(shop: Workshop) -> None:
    for node in shop.model.graph.node:
        node.name = f"[{node.output[0]}]"
    built = shop.built(Design(kept_float=("[c]",)))
    assert built is not None
    assert "[c]" in dict(built.quantized.float_nodes)
    assert "[d]" not in dict(built.quantized.float_nodes)


def test_a_design_without_int8_is_no_design(shop: Workshop) -> None:
    everything = Design(kept_float=tuple(n.name for n in shop.model.graph.node))
    assert shop.built(everything) is None
    assert shop.identity(everything) is None


def test_designs_of_one_graph_have_one_identity(shop: Workshop) -> None:
    assert shop.identity(Design(kept_float=("no such node",))) == shop.identity(Design())
    assert shop.identity(Design(kept_float=("Conv_d",))) != shop.identity(Design())


def test_ratios_are_of_real_runs(shop: Workshop) -> None:
    ratio = shop.race(Design(kept_float=("Conv_d",)), Design())
    assert 0 < ratio.low <= ratio.ratio <= ratio.high
    assert (ratio.a, ratio.b) == ("a", "b")


def test_regions_are_nodes_of_the_graph_and_lose_time(shop: Workshop) -> None:
    names = {n.name for n in shop.model.graph.node}
    for region in shop.regions(Design(kept_float=("Conv_e",))):
        assert set(region.nodes) <= names
        assert region.loss_us > 0
        assert set(region.nodes) != {"Conv_e"}


def test_a_whole_search_ends_and_its_design_can_be_made(shop: Workshop) -> None:
    found = search(shop, lambda: 1.0)
    assert found.complete
    assert shop.built(found.design) is not None
    assert len({(step.what, step.design) for step in found.steps}) >= len(found.steps) / 2


def test_prefixes_end_where_the_sum_grew() -> None:
    assert prefixes(["a", "b", "c", "d"], [-1, 2, 0, -5]) == [prefixes(["a", "b"], [-1, 2])[0]]
    assert prefixes(["a"], [-1]) == []
