"""exporters/isolation/apart.py: weights that no simplifier needs lie beside the graph, and come back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from exporters.external import is_external
from exporters.graph import copy_model
from exporters.isolation import apart
from exporters.passes import simplify
from runtimes.base import BadInput
from runtimes.session import open_session, random_feeds

BIG = np.random.default_rng(0).normal(size=(64, 64, 3, 3)).astype(np.float32)


def build(body: str, outs: str = "float[N,64,6,6] y", **values: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,64,8,8] x) => ({outs}) {{{body}}}')
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
    onnx.checker.check_model(model, full_check=True)
    return model


CONV = build("c = Conv (x, w) y = Relu (c)", w=BIG, unused=BIG)

SEEN = {  # a tool that folds constants must see these
    "small": build("y = Conv (x, w)", w=BIG[:60, :, :1, :1], outs="float[N,60,8,8] y"),
    "transposed before use": build("t = Identity (w) y = Conv (x, t)", w=BIG),
    "read by something else too": build(
        "y = Conv (x, w) z = Abs (w)", "float[N,64,6,6] y, float[64,64,3,3] z", w=BIG
    ),
    "beside a constant": build(
        "c = Conv (k, w) p = Add (c, c) t = ReduceMean (p) z = Conv (x, w2) y = Add (z, t)",
        k=BIG, w=BIG, w2=BIG[:1, :, :1, :1],
        outs="float[N,1,8,8] y",
    ),
    "read inside a body": build(
        """k = Constant <value = bool {1}> ()
        y = If (k) <then_branch = t () => (float[N,64,6,6] a) { a = Conv (x, w) },
                    else_branch = e () => (float[N,64,6,6] b) { b = Conv (x, w) }>""",
        w=BIG,
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", SEEN.values(), ids=SEEN)
def test_what_a_simplifier_may_want_to_see_stays(model: onnx.ModelProto) -> None:
    assert apart.hideable(model) == set()


def test_weights_that_a_caller_may_override_stay() -> None:
    model = copy_model(CONV)
    model.graph.input.append(helper.make_tensor_value_info("w", 1, BIG.shape))
    assert "w" not in apart.hideable(model)


def test_a_weight_that_is_an_output_stays() -> None:
    model = build("c = Conv (x, w) y = Relu (c)", "float[N,64,6,6] y, float[64,64,3,3] w", w=BIG)
    assert apart.hideable(model) == set()


def test_there_and_back(tmp_path: Path) -> None:
    before = CONV.SerializeToString()
    assert "w" in apart.hideable(CONV)
    with apart.apart(CONV, "net.onnx") as (folder, size):
        graph = apart.read_graph(folder)
        sessions = [open_session(model, optimize=False) for model in (CONV, folder / apart.GRAPH)]
        assert size == sum(path.stat().st_size for path in folder.iterdir())
    assert not folder.exists()
    assert CONV.SerializeToString() == before
    assert len(graph.SerializeToString()) < 1000 + BIG.nbytes * 0.01 + len(before) - 2 * BIG.nbytes
    feeds = random_feeds(sessions[0].inputs, seed=3)
    np.testing.assert_array_equal(sessions[0](feeds)["y"], sessions[1](feeds)["y"])

    shown = copy_model(graph)
    hidden = apart.as_inputs(shown)
    assert [t.name for t in hidden] == ["w", "unused"]
    assert [v.name for v in shown.graph.input] == ["x", "w", "unused"]
    onnx.checker.check_model(shown, full_check=True)

    apart.attach(graph, CONV.graph.initializer)
    assert graph == CONV
    assert not any(is_external(t) for t in graph.graph.initializer)


def test_the_simplifier_never_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(simplify, "_onnxsim", lambda model: seen.append(model.ByteSize()) or copy_model(model))
    with apart.apart(CONV, "net.onnx") as (folder, size):
        data, notes = simplify.child(b"", str(folder), size, {}, 0)
    assert notes == {}
    assert seen[0] < 1000 < BIG.nbytes
    made = onnx.ModelProto.FromString(data).graph
    assert [t.name for t in made.initializer] == ["w"]
    assert [v.name for v in made.input] == ["x"], "a weight that was hidden is no input of the result"


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(apart, "split", full)
    with pytest.raises(BadInput, match=r"No space left on device.*set TMPDIR"), apart.apart(CONV, "net.onnx"):
        pass
