"""A convolution read off the graph, and chains of new nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exporters.graph import Graph, get_meta
from exporters.searching.blocks import Chain, Conv, activation_behind, nodes_of, read_conv
from pass_examples import build, draw
from rewrite_tools import conv_model


def test_a_convolution_is_read_with_its_defaults() -> None:
    graph = Graph(conv_model((4, 8, 8), (6, 2, 3, 3), group=2, strides=(2, 1)))
    conv = read_conv(graph, graph.producer["c"])
    assert isinstance(conv, Conv)
    assert (conv.inputs, conv.outputs, conv.kernel, conv.group) == (4, 6, (3, 3), 2)
    assert (conv.strides, conv.pads, conv.dilations) == ((2, 1), (0, 0, 0, 0), (1, 1))
    assert not conv.pointwise
    assert not conv.depthwise


@pytest.mark.parametrize(
    ("weight", "settings", "pointwise", "depthwise"),
    [
        ((6, 4, 1, 1), {}, True, False),
        ((6, 4, 1, 1), {"pads": (1, 0, 0, 0)}, False, False),
        ((4, 1, 1, 1), {"group": 4}, False, True),
        ((8, 1, 3, 3), {"group": 4}, False, False),
        ((4, 2, 1, 1), {"group": 2}, False, False),
    ],
)
def test_kinds(weight: tuple[int, ...], settings: dict[str, Any], pointwise: bool, depthwise: bool) -> None:
    graph = Graph(conv_model((4, 8, 8), weight, **settings))
    conv = read_conv(graph, graph.producer["c"])
    assert isinstance(conv, Conv)
    assert (conv.pointwise, conv.depthwise) == (pointwise, depthwise)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("c = Conv (x, k)", "not constant"),
        ("c = Conv (x, w, k)", "not constant"),
        ('c = Conv <auto_pad = "SAME_LOWER"> (x, w)', "automatic"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, reason: str) -> None:
    rank = "float[4]" if ", k)" in text and "w" in text else "float[4,3,1,1]"
    model = build(f" g (float[N,3,8,8] x, {rank} k) => (float[N,4,8,8] c) {{ {text} }}", {"w": draw(4, 3, 1, 1)})
    graph = Graph(model)
    assert reason in str(read_conv(graph, graph.producer["c"]))


def test_valid_padding_is_no_padding() -> None:
    graph = Graph(conv_model((3, 8, 8), (4, 3, 3, 3), auto_pad='"VALID"'))
    conv = read_conv(graph, graph.producer["c"])
    assert isinstance(conv, Conv)
    assert conv.pads == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ("Relu (c)", True),
        ("Clip (c, lo, hi)", True),
        ("Clip (c, lo, open)", False),
        ("Clip (open, c)", False),
        ("Neg (c)", False),
    ],
)
def test_an_activation_has_one_reader_and_constant_ends(node: str, found: bool) -> None:
    source = "float[1] s, float open"
    text = f" g ({source}) => (float[M] y) <float lo = {{0.0}}, float hi = {{6.0}}> {{ c = Neg (s) y = {node} }}"
    if "open, c" in node:
        text = text.replace("float[1] s", "float s").replace("float[M] y", "float y")
    graph = Graph(build(text))
    assert (activation_behind(graph, "c") is not None) is found


def test_a_chain_is_named_after_what_it_replaces() -> None:
    graph = Graph(conv_model((3, 8, 8), (4, 3, 1, 1), act="Relu (c)"))
    node = graph.producer["c"]
    conv = read_conv(graph, node)
    assert isinstance(conv, Conv)
    chain = Chain(graph, node)
    x = chain.nchw(chain.reshape(chain.nhwc("x"), [0, 8, 8, 3]))
    chain.conv(x, conv, "c")
    chain.write([node])
    assert [n.name for n in graph.proto.node] == [
        "net.c/Transpose",
        "net.c/Reshape",
        "net.c/Transpose_1",
        "net.c",
        "net.y",
    ]
    assert {get_meta(n)["edgecnn.module"] for n in graph.proto.node[:4]} == {"module.c"}
    assert "w" not in graph.initializers, "weights that nobody reads go"
    assert nodes_of(graph, "Conv", "Relu") == ["c", "y"]
    np.testing.assert_array_equal(graph.constant(graph.producer["c"].input[1]), conv.weight)
