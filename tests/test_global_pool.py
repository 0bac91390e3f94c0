"""exporters/passes/global_pool.py against ONNX Runtime's own ReduceMean.

Limit: two orders of adding n numbers differ by at most 2 (n - 1) u of their mean magnitude; for n = 42 that is 114 dB
below values of one size, and 100 dB leaves room for values that nearly cancel.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from exporters.graph import MODULE_KEY, get_meta, op_counts, set_meta
from exporters.passes import global_pool
from runtimes.parity import compare
from runtimes.session import open_session, random_feeds

SNR_LIMIT_DB = 100.0


def build(
    node: str, shape: str = "N,3,6,7", out: str = "N,3,1,1", opset: int = 18, **axes: list[int]
) -> onnx.ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[{shape}] x) => (float[{out}] y)'
    model = parser.parse_model(f"{head} {{ r = Relu (x) y = {node} }}")
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in axes.items())
    for n in model.graph.node:
        n.name = f"net.{n.op_type}"
        set_meta(n, {MODULE_KEY: "net.pool"})
    onnx.checker.check_model(model, full_check=True)
    return model


def snr_db(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    a, b = open_session(before, optimize=False), open_session(after, optimize=False)
    return compare(a, b, [random_feeds(a.inputs, batch=2, seed=3)]).snr_db


SAME = {  # everything that is a global pool
    "both axes": build("ReduceMean <keepdims: int = 1> (r, a)", a=[2, 3]),
    "keepdims left out": build("ReduceMean (r, a)", a=[2, 3]),
    "negative, in another order": build("ReduceMean (r, a)", a=[-1, -2]),
    "axes as an attribute": build("ReduceMean <axes: ints = [2, 3]> (r)", opset=13),
    "one position axis": build("ReduceMean (r, a)", "N,3,9", "N,3,1", a=[2]),
    "three position axes": build("ReduceMean (r, a)", "N,3,2,3,4", "N,3,1,1,1", a=[2, 3, 4]),
    "without keepdims": build("ReduceMean <keepdims: int = 0> (r, a)", out="N,3", a=[-2, -1]),
}


@pytest.mark.parametrize("model", SAME.values(), ids=SAME)
def test_every_way_to_say_it(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    result = global_pool.run(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result.model, full_check=True)
    counts = op_counts(result.model)
    assert "ReduceMean" not in counts
    assert counts["GlobalAveragePool"] == 1
    assert snr_db(model, result.model) >= SNR_LIMIT_DB
    assert [get_meta(n) for n in result.model.graph.node] == [{MODULE_KEY: "net.pool"}] * len(result.model.graph.node)
    assert result.model.graph.node[1].name == "net.ReduceMean"
    assert not result.model.graph.initializer, "the axes are not needed any more"
    assert not global_pool.run(result.model).modified


def test_bound_is_higham_s() -> None:
    assert global_pool.run(SAME["both axes"]).changes[0].bound == 41 * 2.0**-23
    assert global_pool.run(build("ReduceMean (r, a)", "N,3,H,7", a=[2, 3])).changes[0].bound == math.inf


def test_bound_holds_for_the_worst_data() -> None:
    """Equal magnitudes with alternating signs: nothing but rounding is left of the sum."""
    model = SAME["both axes"]
    result = global_pool.run(model)
    x = np.abs(np.random.default_rng(1).normal(size=(1, 3, 6, 7)).astype(np.float32)) * 1e3
    truth = x.astype(np.float64).mean((2, 3), keepdims=True)
    found = open_session(result.model, optimize=False)({"x": x})["y"]
    assert (np.abs(found - truth) <= result.changes[0].bound * np.abs(x).mean((2, 3), keepdims=True)).all()


OTHER = {  # what looks like one and is not
    "channels too": (build("ReduceMean (r, a)", out="N,1,1,1", a=[1, 2, 3]), "not all positions"),
    "one of two axes": (build("ReduceMean (r, a)", out="N,3,6,1", a=[3]), "not all positions"),
    "channels and one position axis": (build("ReduceMean (r, a)", out="N,1,1,7", a=[1, 2]), "not all positions"),
    "everything": (build("ReduceMean (r)", out="1,1,1,1"), "reduces all of them"),
    "nothing": (build("ReduceMean <noop_with_empty_axes: int = 1> (r)", out="N,3,6,7"), "reduces all of them"),
    "rank 2": (build("ReduceMean (r, a)", "N,3", "N,1", a=[1]), "not all positions"),
}


@pytest.mark.parametrize(("model", "reason"), OTHER.values(), ids=OTHER)
def test_what_is_no_global_pool_stays(model: onnx.ModelProto, reason: str) -> None:
    result = global_pool.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_axes_shared_with_another_node_stay() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[N,3,6,7] x) => (float[N,3,1,1] y, float[N,3,1,1] z)
        { y = ReduceMean (x, a) z = ReduceMax (x, a) }"""
    model = parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "a"))
    result = global_pool.run(model)
    assert op_counts(result.model) == {"GlobalAveragePool": 1, "ReduceMax": 1}
    assert snr_db(model, result.model) >= SNR_LIMIT_DB


def test_other_types_and_unknown_ranks_stay() -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> g (KIND x, int64[2] a) => (KIND2 y) { y = ReduceMean (x, a) }'
    double = parser.parse_model(text.replace("KIND2", "double[N,3,1,1]").replace("KIND", "double[N,3,6,7]"))
    assert "reads double" in global_pool.run(double).kept[0].reason
    model = parser.parse_model(text.replace("KIND2", "float[N,3,1,1]").replace("KIND", "float[N,3,6,7]"))
    assert "not constant" in global_pool.run(model).kept[0].reason
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert "rank" in global_pool.run(model).kept[0].reason
