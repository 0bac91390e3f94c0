"""Float beginnings: where a network may be cut, and that the int8 graph has one boundary there."""

from __future__ import annotations

from exporters.quantization.placement import plan
from exporters.searching.prefixes import prefixes
from graphs import parse

CHAIN = """g (float[N,3,8,8] x) => (float[N,2,8,8] y) {
    a = Conv <pads: ints = [1,1,1,1]> (x, w)
    r = Relu(a)
    b = Conv <pads: ints = [1,1,1,1]> (r, v)
    s = Add(b, r)
    h = HardSwish(s)
    y = Conv(h, u)
}"""
WEIGHTS = {"w": (4, 3, 3, 3), "v": (4, 4, 3, 3), "u": (2, 4, 1, 1)}


def test_cuts_are_behind_activations_and_joins() -> None:
    assert prefixes(parse(CHAIN, **WEIGHTS)) == (("a", "r"), ("a", "r", "b", "s", "h"))


def test_at_most_so_many_compute_nodes() -> None:
    assert prefixes(parse(CHAIN, **WEIGHTS), most=1) == (("a", "r"),)


def test_a_prefix_is_float_and_the_rest_is_int8() -> None:
    model = parse(CHAIN, **WEIGHTS)
    found = plan(model, exclude=prefixes(model)[0])
    assert found.int8 == {"b", "s", "y"}
    assert "x" not in found.grids


def test_an_image_that_is_read_again_is_no_cut() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv(x, w) b = Conv(x, w) c = Add(a, b) y = Conv(c, v)
    }"""
    assert prefixes(parse(text, w=(4, 3, 1, 1), v=(4, 4, 1, 1))) == (("a", "b", "c"),)


def test_an_output_on_the_way_ends_the_beginnings() -> None:
    text = "g (float[N,3,8,8] x) => (float[N,4,8,8] a, float[N,4,8,8] y) { a = Conv(x, w) y = Conv(a, v) }"
    assert prefixes(parse(text, w=(4, 3, 1, 1), v=(4, 4, 1, 1))) == ()


def test_names_are_needed_and_are_taken_as_they_are() -> None:
    model = parse(CHAIN, **WEIGHTS)
    model.graph.node[0].name = "a[0]*"
    assert prefixes(model)[0][0] == "a[[]0][*]"
    assert plan(model, exclude=prefixes(model)[0]).int8 == {"b", "s", "y"}
    model.graph.node[0].name = ""
    assert prefixes(model) == ()
