"""Designs made and raced on a small network: names of what goes to float, refusal of wrong rewrites, real ratios."""

from __future__ import annotations

import types

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


def scaled(factor: float) -> types.SimpleNamespace:
    """A rewrite that multiplies the first weights by `factor`: right for 1, wrong for all else."""

    def run(given: onnx.ModelProto) -> PassResult:
        if any(n.name == "marked" for n in given.graph.node):
            return PassResult(copy_model(given))
        made = copy_model(given)
        tensor = next(t for t in made.graph.initializer if t.name == "w1")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), "w1"))
        made.graph.node[0].name = "marked"
        return PassResult(made, (Change("c", "marked"),))

    return types.SimpleNamespace(run=run)


@pytest.fixture(params=[1.0, 1.01])
def factor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(workshop, "ALL", ("marking",))
    monkeypatch.setattr(workshop.plugins, "load", lambda folder, name, kind: _load(folder, name, kind, request.param))
    return request.param


_real_load = workshop.plugins.load


def _load(folder: types.ModuleType, name: str, kind: str, factor: float) -> object:
    return scaled(factor) if name == "marking" else _real_load(folder, name, kind)


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
