"""The last layers are those behind which no other comes; they are excluded by their exact names."""

from __future__ import annotations

import numpy as np

from accuracy_nets import chain, images, work_on
from exporters.accuracy import float_last
from exporters.graph import Graph
from exporters.quantization.placement import plan
from exporters.quantization.work import layers
from graphs import parse


def test_the_last_of_a_chain_stays_float() -> None:
    outcome = float_last.run(work_on(chain(), images(3)), seconds=1.0)
    assert outcome.work.recipe.exclude == ("y",)
    assert ("y", "excluded by y") in outcome.work.quantized().float_nodes
    kept = [n for n in outcome.work.quantized().model.graph.node if n.op_type == "Gemm"]
    assert [n.input[1] for n in kept] == ["w4"]


def test_every_head_of_a_network_with_several_is_a_last_layer() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] y, float[N,2,8,8] z) {
        a = Conv <pads: ints = [1,1,1,1]> (x, w)
        r = Relu(a)
        y = Conv <pads: ints = [1,1,1,1]> (r, v)
        s = Conv <pads: ints = [1,1,1,1]> (r, u)
        z = Sigmoid(s)
    }"""
    graph = Graph(parse(text, w=(6, 3, 3, 3), v=(4, 6, 3, 3), u=(2, 6, 3, 3)))
    last = float_last.last_layers(graph, layers(graph, plan(graph.model)))
    assert [node.output[0] for node in last] == ["y", "s"]


def test_a_name_with_pattern_characters_means_itself() -> None:
    model = chain()
    model.graph.node[-1].name = "head[0]*"
    outcome = float_last.run(work_on(model, images(3)), seconds=1.0)
    floats = dict(outcome.work.quantized().float_nodes)
    assert "head[0]*" in floats
    assert not {"a", "b", "c"} & set(floats)


def test_without_a_name_it_is_called_by_what_it_makes() -> None:
    model = chain()
    model.graph.node[-1].name = ""
    outcome = float_last.run(work_on(model, images(3)), seconds=1.0)
    assert [change.node for change in outcome.changes] == [model.graph.node[-1].output[0]]
    floats = dict(outcome.work.quantized().float_nodes)
    assert model.graph.node[-1].output[0] in floats
    assert not {"a", "b", "c"} & set(floats)


def test_a_net_of_one_layer_is_not_turned_to_float() -> None:
    model = parse("g (float[N,6] x) => (float[N,4] y) { y = Gemm(x, w) }", w=(6, 4))
    feeds = [{"x": np.ones((1, 6), np.float32)}]
    assert float_last.run(work_on(model, feeds), seconds=1.0).changes == ()
