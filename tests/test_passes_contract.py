"""What every file in exporters/passes promises: pure, valid, idempotent, the same function, names kept.

A new file in that folder is enrolled by being there. Limit: float32 of these sizes carries more than 110 dB; a pass
that computes something else leaves less than 60.
"""

from __future__ import annotations

import inspect

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import exporters.passes
from exporters.base import PassResult
from exporters.graph import MODULE_KEY, get_meta, set_meta
from runtimes import plugins
from runtimes.parity import compare
from runtimes.session import open_session, random_feeds

SNR_LIMIT_DB = 100.0

PLAIN = """
<ir_version: 9, opset_import: ["" : 18]>
plain (float[N,3,12,12] x) => (float[N,5] y, float[N,8,5,5] features) {
    c1 = Conv <strides: ints = [2, 2]> (x, w1)
    n1 = BatchNormalization (c1, s1, h1, m1, v1)
    r1 = Relu (n1)
    i1 = Identity (r1)
    c2 = Conv <group: int = 8, pads: ints = [1, 1, 1, 1]> (i1, w2, b2)
    features = BatchNormalization (c2, s1, h1, m1, v1)
    d = Dropout (features)
    p = ReduceMean <keepdims: int = 1> (d, axes)
    f = Flatten (p)
    y = Gemm <transB: int = 1> (f, w3, b3)
    dead = Exp (y)
}
"""

NOTHING_TO_DO = """
<ir_version: 9, opset_import: ["" : 18]>
done (float[N,3,4,4] x) => (float[N,2,4,4] y) { c = Conv (x, w) y = Relu (c) }
"""


def build(text: str, **values: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
    for node in model.graph.node:
        node.name = f"net.{node.output[0]}"
        set_meta(node, {MODULE_KEY: f"net.{node.output[0]}"})
    onnx.checker.check_model(model, full_check=True)
    return model


def models() -> dict[str, onnx.ModelProto]:
    r = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return r.normal(size=shape).astype(np.float32)

    weights = {"w1": draw(8, 3, 3, 3), "w2": draw(8, 1, 3, 3), "w3": draw(5, 8), "b2": draw(8), "b3": draw(5)}
    stats = {"s1": draw(8), "h1": draw(8), "m1": draw(8), "v1": np.abs(draw(8)) + np.float32(0.1)}
    plain = build(PLAIN, **weights, **stats, axes=np.array([2, 3]), unused=draw(3))
    return {"plain": plain, "nothing to do": build(NOTHING_TO_DO, w=draw(2, 3, 1, 1))}


MODELS = models()
PASSES = plugins.names(exporters.passes)


def run(name: str, model: onnx.ModelProto) -> PassResult:
    result = plugins.load(exporters.passes, name, "pass").run(model)
    assert isinstance(result, PassResult)
    return result


def test_the_folder_is_the_registry() -> None:
    assert PASSES == ["drop_noops", "fold_batchnorm", "global_pool", "simplify"]


@pytest.mark.parametrize("name", PASSES)
def test_signature_and_first_sentence(name: str) -> None:
    module = plugins.load(exporters.passes, name, "pass")
    first, *others = inspect.signature(module.run).parameters.values()
    assert first.name == "model"
    assert all(p.kind == p.KEYWORD_ONLY and p.default is not p.empty for p in others), (
        "options are keywords with defaults"
    )
    assert module.__doc__
    assert f"Test: tests/test_{name}.py" in " ".join(module.__doc__.split())


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", PASSES)
def test_contract(name: str, kind: str) -> None:
    model = MODELS[kind]
    before = model.SerializeToString()
    result = run(name, model)
    assert model.SerializeToString() == before, "the argument is never edited"
    assert result.model is not model
    onnx.checker.check_model(result.model, full_check=True)
    assert result.modified == (kind == "plain")
    assert result.modified or result.model == model
    assert [v.name for v in result.model.graph.input] == [v.name for v in model.graph.input]
    assert list(result.model.graph.output) == list(model.graph.output)

    sessions = [open_session(m, optimize=False) for m in (model, result.model)]
    for batch in (1, 4):
        compare(*sessions, [random_feeds(sessions[0].inputs, batch=batch, seed=2)]).require(snr_db=SNR_LIMIT_DB)

    given = {node.name: node for node in model.graph.node}
    for node in result.model.graph.node:
        assert node.name.removesuffix("/Flatten") in given, "what stays keeps its name"
        assert get_meta(node) == get_meta(given[node.name.removesuffix("/Flatten")])

    again = run(name, result.model)
    assert not again.modified, again.changes
    assert again.model == result.model


def test_all_passes_one_after_the_other() -> None:
    """The road: nothing of what a deployed graph does not need is left."""
    model = MODELS["plain"]
    for name in ("simplify", "fold_batchnorm", "global_pool", "drop_noops"):
        model = run(name, model).model
    assert [n.op_type for n in model.graph.node] == ["Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    sessions = [open_session(m, optimize=False) for m in (MODELS["plain"], model)]
    compare(*sessions, [random_feeds(sessions[0].inputs, batch=3, seed=4)]).require(snr_db=SNR_LIMIT_DB)
