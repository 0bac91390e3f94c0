"""Which points lie behind which, through nodes that are no points."""

from __future__ import annotations

from exporters.layerwise.partial import Parts
from exporters.layerwise.points import chain, graph_points, members, with_parents, without
from small_nets import model

DIAMOND = """<ir_version: 9, opset_import: ["" : 20]> g (float[2] x) => (float[2] d) {
    a = Relu (x)  b0 = Neg (a)  b = Abs (b0)  c = Exp (a)  d = Add (b, c)
}"""


def test_a_diamond() -> None:
    points = graph_points(Parts(model(DIAMOND)), ["d", "a", "c", "b"])
    assert points.names == ("a", "b", "c", "d")
    assert points.parents == ((), (0,), (0,), (1, 2))
    assert list(members(points.before[3])) == [0, 1, 2]
    assert list(members(points.front(0b0111))) == [1, 2], "a shows in both"
    assert list(members(points.front(points.all))) == [3]


def test_a_chain_is_one_behind_the_other() -> None:
    points = chain(["p", "q", "r"])
    assert points.parents == ((), (0,), (1,))
    assert points.front(0b011) == 0b010


def test_a_point_that_goes_leaves_its_parents_to_its_children() -> None:
    points = with_parents("xabd", [(), (0,), (0,), (1, 2)])
    left = without(points, 1)
    assert left == with_parents("xbd", [(), (0,), (0, 1)])
    assert without(points, 3) == with_parents("xab", [(), (0,), (0,)])
