"""exporters/graph.py: the index says the truth, before and after every edit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper, parser

from exporters.graph import (
    Graph,
    attributes,
    captured_names,
    constant_value,
    get_meta,
    is_standard,
    label,
    nodes_within,
    op_counts,
    opset,
    set_meta,
)

BODY = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,4] x, bool k) => (float[N,4] y, float[N,4] z) {
    a = Add (x, w)
    b = Relu (a)
    z = If (k) <then_branch = t () => (float[N,4] p) { p = Mul (b, inside) },
                else_branch = e () => (float[N,4] q) { q = Add (b, w) }>
    c = Neg (a)
    y = Mul (c, w)
    dead = Abs (c)
}
"""


def build(text: str = BODY, **values: object) -> onnx.ModelProto:
    model = parser.parse_model(text)
    values = values or {"w": np.ones(4, np.float32), "inside": np.ones(4, np.float32), "unused": np.ones(4, np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in values.items())
    return model


def consistent(graph: Graph) -> None:
    """Every index equals what a fresh look at the proto finds."""
    fresh = Graph(graph.model)
    assert graph.inputs == fresh.inputs
    assert graph.outputs == fresh.outputs
    assert graph.captured == fresh.captured
    assert graph.initializers == fresh.initializers
    assert graph.producer == fresh.producer
    assert {k: v for k, v in graph.consumers.items() if v} == {k: v for k, v in fresh.consumers.items() if v}


# --------------------------------------------------------------------------------------------------------- questions
def test_the_argument_is_copied() -> None:
    model = build()
    before = model.SerializeToString()
    graph = Graph(model)
    graph.add_constant(np.zeros(3), "new")
    graph.prune()
    assert model.SerializeToString() == before


def test_index() -> None:
    graph = Graph(build())
    assert graph.producer["b"].op_type == "Relu"
    assert [n.op_type for n in graph.consumers["w"]] == ["Add", "Mul"]
    assert {"b", "w", "inside"} <= graph.captured
    consistent(graph)


def test_only_consumer_and_why_not() -> None:
    graph = Graph(build())
    assert graph.only_consumer("x") is graph.producer["a"]
    assert graph.why_not_only("x") == ""
    for name, why in {
        "a": "is read 2 times",
        "b": "inside a body",
        "y": "output of the model",
        "dead": "read 0 times",
    }.items():
        assert graph.only_consumer(name) is None
        assert why in graph.why_not_only(name)


def test_constants() -> None:
    model = build(
        """<ir_version: 8, opset_import: ["" : 17, "own" : 1]> g (float[1] x, float[1] d) => (float[1] y) {
        c = Constant <value = float[2] {1.0, 2.0}> ()
        i = Identity (c)  j = Identity (i)
        n = Constant <value_int: int = 3> ()  f = Constant <value_floats: floats = [1.5, 2.5]> ()
        o = own.Constant <value_int: int = 3> ()
        y = Add (x, d) }""",
        d=np.float32([7]),
        w=np.float32([5]),
    )
    graph = Graph(model)
    found = {name: graph.constant(name) for name in ("c", "j", "n", "f", "o", "d", "w", "x", "y", "nowhere")}
    lists = {name: None if value is None else value.tolist() for name, value in found.items()}
    known = {"c": [1, 2], "j": [1, 2], "n": 3, "f": [1.5, 2.5], "w": [5]}
    assert lists == {name: known.get(name) for name in lists}
    assert found["n"] is not None
    assert found["n"].dtype == np.int64


def test_constant_forms_that_are_not_dense_are_unknown() -> None:
    assert constant_value(helper.make_node("Constant", [], ["c"], value_string="text")) is None


def test_words() -> None:
    model = build()
    assert op_counts(model) == {"Mul": 1, "Add": 1, "Relu": 1, "If": 1, "Neg": 1, "Abs": 1}
    assert opset(model) == 17
    node = model.graph.node[0]
    assert label(node) == "a"
    node.name = "net.add"
    assert label(node) == "net.add"
    assert is_standard(node, "Add")
    node.domain = "own"
    assert not is_standard(node, "Add")
    assert attributes(helper.make_node("Conv", ["x"], ["y"], group=2, pads=[1, 1])) == {"group": 2, "pads": [1, 1]}


def test_bodies_are_seen() -> None:
    model = build()
    found = [n.op_type for n in nodes_within(model.graph.node)]
    assert found == ["Add", "Relu", "If", "Mul", "Add", "Neg", "Mul", "Abs"]
    assert captured_names(model.graph.node[2]) >= {"b", "inside", "w"}


def test_metadata_is_sorted_and_merged() -> None:
    node = onnx.NodeProto()
    set_meta(node, {"b": "1", "a": "2"})
    set_meta(node, {"c": "3", "b": "4"})
    assert get_meta(node) == {"a": "2", "b": "4", "c": "3"}
    assert [p.key for p in node.metadata_props] == ["a", "b", "c"]


# ------------------------------------------------------------------------------------------------------------- edits
def test_fresh_names_are_nobodys() -> None:
    graph = Graph(build())
    for taken in ("x", "w", "b", "y", "inside"):
        assert graph.fresh(taken) != taken
    assert graph.fresh("new") == "new"


def test_replace_and_redirect() -> None:
    graph = Graph(build())
    graph.replace([graph.producer["b"]], [helper.make_node("Abs", ["a"], ["m"]), helper.make_node("Neg", ["m"], ["b"])])
    assert [n.op_type for n in graph.proto.node][:4] == ["Add", "Abs", "Neg", "If"]
    graph.redirect("a", "x")
    assert graph.producer["c"].input[0] == "x"
    consistent(graph)
    onnx.checker.check_model(graph.model, full_check=True)


def test_set_constant_edits_in_place_only_what_nobody_else_reads() -> None:
    graph = Graph(build("""<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y, float[4] z)
        { a = Add (x, own) b = Add (a, shared) y = Add (b, shared) z = Add (y, behind) behind = Identity (far) }"""
        .replace("z = Add (y, behind) behind = Identity (far)", "behind = Identity (far) z = Add (y, behind)"),
        own=np.ones(4, np.float32), shared=np.ones(4, np.float32), far=np.ones(4, np.float32)))  # fmt: skip
    two = np.full(4, 2, np.float32)
    graph.set_constant(graph.producer["a"], 1, two, "hint")
    graph.set_constant(graph.producer["b"], 1, two, "hint")
    graph.set_constant(graph.producer["z"], 1, two, "hint")
    consistent(graph)
    values = {t.name: numpy_helper.to_array(t)[0] for t in graph.proto.initializer}
    assert values == {"own": 2, "shared": 1, "hint": 2, "hint_1": 2}, "far went with the Identity that alone read it"
    assert [list(n.input) for n in graph.proto.node] == [["x", "own"], ["a", "hint"], ["b", "shared"], ["y", "hint_1"]]
    onnx.checker.check_model(graph.model, full_check=True)


def test_what_reads_what_is_known_after_set_constant_without_looking_at_all_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = Graph(build())
    nodes = [*graph.proto.node]  # kept, so that they stay the same objects
    with monkeypatch.context() as patch:
        patch.setattr(Graph, "reindex", None)
        graph.set_constant(graph.producer["a"], 1, np.ones(4, np.float32), "one")
        graph.set_constant(graph.producer["y"], 1, np.ones(4, np.float32), "two")
        graph.set_constant(graph.producer["b"], 1, np.ones(4, np.float32), "three")
    found = {name: [*map(id, readers)] for name, readers in graph.consumers.items()}
    graph.reindex()
    assert found == {name: [*map(id, readers)] for name, readers in graph.consumers.items()}
    assert len(nodes) == len(graph.proto.node)


def test_many_replacements_are_those_one_by_one() -> None:
    """New nodes stand where the last of the old ones stood."""
    graphs = Graph(build()), Graph(build())
    for k, graph in enumerate(graphs):
        pairs = []
        for names in (("a", "c"), ("y",)):
            old = [graph.producer[name] for name in names]
            pairs.append((old, [helper.make_node("Neg", ["x"], [name], f"new_{name}") for name in names]))
        if k:
            graph.replace_all(pairs)
        else:
            for names, (_, new) in zip((("a", "c"), ("y",)), pairs, strict=True):
                graph.replace([graph.producer[name] for name in names], new)
    assert graphs[0].model == graphs[1].model
    assert [node.output[0] for node in graphs[1].proto.node][-4:] == ["a", "c", "y", "dead"]


def test_set_constant_adds_an_optional_input() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y) { y = Clip (x) }'
    graph = Graph(build(text, w=np.float32(0)))
    graph.set_constant(graph.producer["y"], 2, np.asarray(6, np.float32), "high")
    assert list(graph.producer["y"].input) == ["x", "", "high"]
    consistent(graph)
    onnx.checker.check_model(graph.model, full_check=True)


def test_prune_drops_what_nobody_needs_and_nothing_else() -> None:
    graph = Graph(build())
    graph.proto.value_info.append(helper.make_tensor_value_info("dead", 1, ["N", 4]))
    assert graph.prune() == 1
    assert "Abs" not in op_counts(graph.model)
    assert {t.name for t in graph.proto.initializer} == {"w", "inside"}, "what only a body reads stays"
    assert not graph.proto.value_info
    consistent(graph)
    assert graph.prune() == 0


def test_prune_of_a_dead_body_takes_what_only_it_read() -> None:
    text = BODY.replace(", float[N,4] z)", ")")
    graph = Graph(build(text))
    assert graph.prune() == 3
    assert op_counts(graph.model) == {"Add": 1, "Neg": 1, "Mul": 1}
    assert {t.name for t in graph.proto.initializer} == {"w"}
    consistent(graph)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12), st.integers(0, 30))
def test_prune_keeps_exactly_the_ancestors(edges: list[tuple[int, int]], output: int) -> None:
    """Oracle: reachability by walking back from the output, on random graphs of Add nodes."""
    names = ["x"]
    nodes = []
    for i, (a, b) in enumerate(edges):
        nodes.append(helper.make_node("Add", [names[a % len(names)], names[b % len(names)]], [f"t{i}"]))
        names.append(f"t{i}")
    target = names[1 + output % len(edges)]
    value = helper.make_tensor_value_info
    model = helper.make_model(helper.make_graph(nodes, "g", [value("x", 1, [2])], [value(target, 1, [2])]))
    makers = {n.output[0]: n for n in nodes}
    needed, todo = set(), [target]
    while todo:
        name = todo.pop()
        if name in makers and name not in needed:
            needed.add(name)
            todo.extend(makers[name].input)
    graph = Graph(model)
    assert graph.prune() == len(nodes) - len(needed)
    assert [n.output[0] for n in graph.proto.node] == [n.output[0] for n in nodes if n.output[0] in needed]


@pytest.mark.parametrize("name", ["x", "w"])
def test_inputs_and_their_defaults_survive_pruning(name: str) -> None:
    model = build()
    model.graph.input.append(helper.make_tensor_value_info("unused", 1, [4]))
    graph = Graph(model)
    graph.prune()
    assert name in graph.inputs | set(graph.initializers)
    assert "unused" in graph.initializers


def test_drop_unread_leaves_what_somebody_reads() -> None:
    graph = Graph(build())
    graph.drop_unread(["inside", "w", "x", "y", "nowhere", "", "unused"])
    assert {t.name for t in graph.proto.initializer} == {"w", "inside"}
    consistent(graph)
