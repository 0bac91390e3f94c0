"""Grids around integers that are only moved: which one they are on, and which node a diff names for a wrong one."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.diff import find
from edgecnn.checking.divergence import Divergence
from edgecnn.checking.sides import graph_side
from exporters.graph import Graph, copy_model
from exporters.layerwise.agreed_grids import agreed
from exporters.layerwise.integer_ops import with_floats
from exporters.quantization.quantize import QuantRecipe, quantize_model
from foreign_int8 import images, quantized
from runtimes.session import open_session
from small_nets import model

NET = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 12, 12] x) => (float[N, 10] y) {
    c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    r = Relu (c)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    k = Conv <pads = [1, 1, 1, 1]> (p, w2, b2)
    t = Transpose <perm = [0, 2, 3, 1]> (k)
    f = Flatten (t)
    y = Gemm <transB = 1> (f, v, d)
}
"""
JOIN = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[1, 4] x) => (float[1, 8] y) {
    a = Neg (x)
    aq = QuantizeLinear (a, a_s, z)
    b = Abs (x)
    bq = QuantizeLinear (b, b_s, z)
    cq = Concat <axis = 1> (aq, bq)
    c = DequantizeLinear (cq, c_s, z)
    y = Neg (c)
}
"""
JOIN_FLOAT = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[1, 4] x) => (float[1, 8] y) { a = Neg (x) b = Abs (x) c = Concat <axis = 1> (a, b) y = Neg (c) }
"""


@functools.cache
def net() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "v": (10, 288), "d": (10,)}
    return model(NET, **{name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()})


@functools.cache
def ours() -> onnx.ModelProto:
    """r is rounded, pooled and read: Relu, Q, MaxPool, DQ; k is rounded, turned, laid flat and read."""
    return quantize_model(net(), images(), QuantRecipe(), threads=1).model


@functools.cache
def theirs() -> onnx.ModelProto:
    """By ONNX Runtime's quantizer: a pair of Q and DQ behind each node, whose float tensor has kept its name."""
    return quantized(net(), "QDQ")


def planted(made: onnx.ModelProto, nodes: list[str], edit: Callable, place: int = 1) -> onnx.ModelProto:
    """`made` with input `place` of each of `nodes` edited: 1 is the scale, 2 the zero point."""
    copy = copy_model(made)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in copy.graph.initializer}
    for node in (node for node in copy.graph.node if node.name in nodes):
        value = np.asarray(edit(values[node.input[place]]), values[node.input[place]].dtype)
        node.input[place] = f"{node.name}:planted"
        copy.graph.initializer.append(numpy_helper.from_array(value, node.input[place]))
    return copy


def named(candidate: onnx.ModelProto, reference: onnx.ModelProto | None = None) -> Divergence | None:
    sides = [graph_side(m, name, threads=1) for m, name in ((reference or net(), "good"), (candidate, "bad"))]
    feeds = images(2, seed=5) if reference is None else [{"x": np.float32([[1, -2, 3, -4]])}]
    return find(compare_sides(*sides, feeds)).first


def triple(step: float) -> float:
    return 3 * step


def third(step: float) -> float:
    return step / 3


ROUNDS, READS = "QuantizeLinear", "DequantizeLinear"
WRONG = [
    ([f"r/{ROUNDS}"], triple, "Relu_r"),  # the bias of Conv_k tells which of the two steps is right
    ([f"r/{ROUNDS}"], third, "Relu_r"),
    ([f"p/{READS}"], triple, "MaxPool_p"),
    ([f"p/{READS}"], third, "MaxPool_p"),
    ([f"r/{ROUNDS}", f"p/{READS}"], third, "Relu_r"),  # they agree on a grid that cuts off
    ([f"k/{ROUNDS}"], third, "Conv_k"),
    ([f"f/{READS}"], triple, "Flatten_f"),
]


@pytest.mark.parametrize(("nodes", "edit", "wrong"), WRONG)
def test_a_wrong_grid_around_integers_that_move_is_named_where_it_is(
    nodes: list[str], edit: Callable, wrong: str
) -> None:
    first = named(planted(ours(), nodes, edit))
    assert first is not None
    assert (first.node, first.nodes, first.at_fault) == (wrong, 1, True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("which", [(ROUNDS,), (READS,), (ROUNDS, READS)])
@pytest.mark.parametrize(("tensor", "wrong"), [("r", "Conv_c"), ("p", "MaxPool_p"), ("k", "Conv_k")])
def test_the_grid_behind_a_tensor_that_has_kept_its_name_is_its_own(
    tensor: str, wrong: str, which: tuple[str, ...]
) -> None:
    first = named(planted(theirs(), [f"{tensor}_{op}" for op in which], third))
    assert first is not None
    assert (first.node, first.at_fault) == (wrong, True)


def test_a_grid_that_nobody_can_tell_to_be_wrong_leaves_a_region() -> None:
    """Q and DQ have another zero point, of which no bias knows."""
    first = named(planted(ours(), [f"p/{READS}"], lambda zero: zero + 40, place=2))
    assert first is not None
    assert (first.node, first.begins, first.nodes) == ("MaxPool_p", "Relu_r", 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("made", [ours, theirs])
def test_a_healthy_graph_blames_nobody_and_gives_what_it_gave(made: Callable[[], onnx.ModelProto]) -> None:
    assert named(made()) is None
    for feed in images(2, seed=3):
        plain, walked = (open_session(m, threads=1, optimize=False)(feed) for m in (made(), with_floats(made())))
        np.testing.assert_array_equal(plain["y"], walked["y"])


def joined(**steps: float) -> onnx.ModelProto:
    scales = {f"{name}_s": np.float32(steps.get(name, 0.05)) for name in "abc"}
    return model(JOIN, z=np.uint8(128), **scales)


@pytest.mark.parametrize(("name", "wrong"), [("a", "Neg_a"), ("b", "Abs_b"), ("c", "Concat_c")])
def test_of_several_grids_the_one_that_is_outvoted_is_wrong(name: str, wrong: str) -> None:
    first = named(joined(**{name: 0.1}), model(JOIN_FLOAT))
    assert first is not None
    assert (first.node.replace("cq", "c"), first.nodes, first.at_fault) == (wrong, 1, True)
    assert named(joined(), model(JOIN_FLOAT)) is None


def test_votes() -> None:
    """Of Q and DQ, and none of integers that nobody moves, nor of what a Clip cuts: its grid is that of its result."""
    assert agreed(Graph(joined(a=0.1))) == {"aq": ("c_s", "z"), "bq": ("c_s", "z")}
    assert agreed(Graph(joined(a=0.1, b=0.2))) == {"aq": None, "bq": None}
    text = NET.split("g (")[0] + "g (float[4] x) => (float[4] y) { q = QuantizeLinear (x, s, z) "
    last = "y = DequantizeLinear (m, s, z) }"
    for way, moved in (("m = Min (q, e)", False), ("m = Identity (q)", False), ("m = Reshape (q, i)", True)):
        used = {"e": np.uint8(9)} if "Min" in way else {"i": np.int64([4])} if moved else {}
        made = model(f"{text}{way} {last}", s=np.float32(0.1), z=np.uint8(0), **used)
        assert agreed(Graph(made)) == ({"q": ("s", "z")} if moved else {})
        assert (with_floats(made) is made) is not moved
    both = model(
        f"{text}m = Reshape (q, i) c = Min (q, e) d = DequantizeLinear (c, s, z) n = DequantizeLinear (m, s, z) "
        "y = Add (d, n) }", s=np.float32(0.1), z=np.uint8(0), e=np.uint8(9), i=np.int64([4]),
    )  # fmt: skip
    assert with_floats(both) is both, "the grid of what is cut may be that of the result"
