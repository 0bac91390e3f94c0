"""Which tensors' channels are tied to one another, where their parts end, and where a region cannot go."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from exporters.graph import Graph
from exporters.searching.tied import EVERYTHING, Region, bounds_of, follow, layout
from exporters.sizes import fixed_sizes
from pass_examples import build, draw

PAD = "pads: ints = [1,1,1,1]"


def model_of(body: str, outputs: str = "float[N,O,P,Q] y") -> onnx.ModelProto:
    """`body` between x (3 channels) and `outputs`; wOI are 1x1 weights, dC depthwise ones."""
    weights = {f"w{o}{i}": draw(o, i, 1, 1) for o, i in [(2, 3), (4, 3), (6, 3), (2, 6), (2, 4), (1, 6), (6, 6)]}
    weights |= {"d6": draw(6, 1, 3, 3), "d2": draw(2, 1, 3, 3), "two": np.float32(2), "three": draw(1, 3, 1, 1)}
    used = {name: value for name, value in weights.items() if name in body}
    return build(f" g (float[N,3,5,5] x) => ({outputs}) {{ {body} }}", used)


def region_of(body: str, tensor: str) -> Region | str:
    model = model_of(body)
    return follow(Graph(model), tensor, fixed_sizes(model))


@pytest.mark.parametrize(
    ("ends", "multiple", "places", "size"),
    [
        ([5], 4, [0, 1, 2, 3, 4], 8),
        ([4], 4, [0, 1, 2, 3], 4),
        ([2, 5], 4, [0, 1, 4, 5, 6], 8),
        ([5, 2], 4, [0, 1, 4, 5, 6], 8),
    ],
)
def test_parts_are_filled_up_one_by_one(ends: list[int], multiple: int, places: list[int], size: int) -> None:
    found = layout(ends, multiple)
    assert (found.places.tolist(), found.size) == (places, size)
    value = draw(3, max(ends))
    wide = found.spread(value, 1)
    assert wide.shape == (3, size)
    np.testing.assert_array_equal(wide[:, places], value)
    assert np.count_nonzero(wide) == value.size


def test_ends_of_pieces_travel_through_sums_and_depthwise_convolutions_to_all_that_is_tied() -> None:
    body = f"""a = Conv (x, w23) b = Conv (x, w43) j = Concat <axis = 1> (a, b)
        s = Conv (x, w63) z = Add (j, s) e = Conv <group = 6, {PAD}> (z, d6) y = Conv (e, w26)"""
    region = region_of(body, "e")
    assert isinstance(region, Region)
    assert region.ends == {"a": {2}, "b": {4}, "j": {2, 6}, "s": {2, 6}, "z": {2, 6}, "e": {2, 6}}
    assert (region.makers, region.readers, region.depthwise) == ({"a", "b", "s"}, {"y"}, {"e"})


def test_what_is_split_and_joined_otherwise_has_the_ends_of_both() -> None:
    body = """a = Conv (x, w63) p, q = Split <axis = 1, num_outputs = 2> (a)
        b = Conv (x, w23) c = Conv (x, w43) j = Concat <axis = 1> (b, c) z = Add (a, j)
        m = Conv (z, w26) pr = Relu (p) qr = Relu (q) k = Concat <axis = 1> (qr, pr) n = Conv (k, w26) y = Add (m, n)"""
    region = region_of(body, "a")
    assert isinstance(region, Region)
    assert region.ends["a"] == {2, 3, 6}
    assert region.ends["p"] == region.ends["pr"] == {2, 3}
    assert region.ends["k"] == {3, 5, 6}
    assert region.ends["c"] == {1, 4}
    assert region.splits == {"p"}


def test_a_map_of_one_channel_is_not_tied() -> None:
    region = region_of("a = Conv (x, w63) h = Conv (a, w16) m = Mul (h, a) y = Conv (m, w26)", "a")
    assert isinstance(region, Region)
    assert set(region.ends) == {"a", "m"}
    assert region.readers == {"h", "y"}


@pytest.mark.parametrize(
    ("body", "tensor", "reason"),
    [
        ("a = Relu (x) y = Conv (a, w23)", "a", "input or output of the model"),
        ("a = Conv (x, w63) y = Relu (a)", "a", "input or output of the model"),
        ("a = Conv (x, w63) s = Softmax <axis = 1> (a) y = Conv (s, w26)", "a", "net.s, a Softmax"),
        ("a = Conv (x, w63) r = Div (two, a) y = Conv (r, w26)", "a", "net.r, which divides"),
        ("a = Conv (x, w63) b = Conv (x, w63) r = Div (b, a) y = Conv (r, w26)", "b", "net.r, which divides"),
        ("a = Conv (x, w43) r = Concat <axis = 2> (a, a) y = Conv (r, w24)", "a", "net.r, a Concat"),
        ("a = Conv (x, w63) p, q = Split <axis = 2, num_outputs = 2> (a) y = Conv (p, w26)", "a", "net.p, a Split"),
        (
            "h = Conv (x, w63) a = Conv (h, w16) b = Relu (a) g = Add (a, b) y = Relu (g)",
            "a",
            "net.g, whose maps of one",
        ),
        ("h = Conv (x, w63) o = Conv (h, w16) g = Add (o, three) y = Relu (g)", "o", "net.g, a Add"),
    ],
)
def test_where_a_region_cannot_go(body: str, tensor: str, reason: str) -> None:
    found = region_of(body, tensor)
    assert isinstance(found, str)
    assert reason in found


def test_pieces_may_not_grow_too_much() -> None:
    region = region_of("a = Conv (x, w23) b = Conv (x, w43) j = Concat <axis = 1> (a, b) y = Conv (j, w26)", "a")
    assert isinstance(region, Region)
    assert region.layouts(8, 2.0) == "its channels are in small pieces: 12 of them would become 32"
    layouts = region.layouts(8, 3.0)
    assert not isinstance(layouts, str)
    assert {name: one.size for name, one in layouts.items()} == {"a": 8, "b": 8, "j": 16}


def test_channels_that_are_not_known_are_none_to_go_by() -> None:
    model = model_of("a = Conv (x, w63) b = Conv (x, w63) z = Add (a, b) y = Conv (z, w26)")
    known = {name: sizes for name, sizes in fixed_sizes(model).items() if name != "b"}
    for start in ("a", "b"):
        assert follow(Graph(model), start, known) == "its channels reach b, whose channels are not known"


@pytest.mark.parametrize(
    ("read", "bounds"),
    [
        ("one, five, axis", (1, 5, 0)),
        ("one, all, minus", (1, 6, 0)),
        ("back, five, axis, one", (2, 5, 0)),
        ("ones, ends, rows", (1, 5, 1)),
        ("one, five", None),  # of the batch
        ("one, five, axis, two", None),  # every second one
        ("one, five, rest", None),
        ("five, one, axis", None),  # nothing
        ("ones, cut, rows", None),  # rows as well
        ("one, e, axis", None),  # who knows
        ("one, five, , one", None),
    ],
)
def test_which_channels_a_slice_keeps(read: str, bounds: tuple[int, int, int] | None) -> None:
    numbers = {
        "one": [1], "two": [2], "five": [5], "back": [-4], "all": [EVERYTHING], "axis": [1], "minus": [-3], "rest": [2],
        "ones": [0, 1], "ends": [EVERYTHING, 5], "cut": [3, 5], "rows": [2, 1],
    }  # fmt: skip
    values = {name: np.array(value) for name, value in numbers.items() if name in read.replace(",", "").split()}
    model = build(f"g (float[6,6,5,5] x, int64[1] e) => (float[N,O,P,Q] y) {{ y = Slice (x, {read}) }}", values)
    assert bounds_of(Graph(model), model.graph.node[0], 6) == bounds


def test_a_piece_that_is_joined_twice_is_two_pieces() -> None:
    region = region_of("a = Conv (x, w23) b = Conv (x, w23) j = Concat <axis = 1> (a, b, a) y = Conv (j, w26)", "a")
    assert isinstance(region, Region)
    assert region.ends == {"a": {2}, "b": {2}, "j": {2, 4, 6}}


def test_pieces_of_a_tensor_that_is_joined_twice_have_the_ends_of_both_places() -> None:
    body = """a = Conv (x, w43) j = Concat <axis = 1> (a, a) p, q = Split <axis = 1> (j, sizes)
        b = Conv (p, w23) c = Conv (q, w26) y = Add (b, c)"""
    model = build(
        f" g (float[N,3,5,5] x) => (float[N,O,P,Q] y) {{ {body} }}",
        {"w43": draw(4, 3, 1, 1), "w23": draw(2, 3, 1, 1), "w26": draw(2, 5, 1, 1), "sizes": [3, 5]},
    )
    region = follow(Graph(model), "a", fixed_sizes(model))
    assert isinstance(region, Region)
    assert region.ends["a"] == {3, 4}
    assert region.ends["j"] == {3, 4, 7, 8}
