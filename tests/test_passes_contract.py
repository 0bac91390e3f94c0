"""What every file in exporters/passes and exporters/rewrites promises: pure, valid, idempotent, the same function.

A new file in one of those folders is enrolled by being there; its models stand in tests/pass_examples/NAME.py. Limit:
float32 of these sizes carries more than 110 dB; a pass that computes something else leaves less than 60.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterator

import onnx
import pytest

import exporters.passes
import exporters.rewrites
from edgecnn.float_passes import FLOAT_PASSES
from exporters import padding
from exporters.base import PassResult
from exporters.graph import ABSORBED_KEY, get_meta
from exporters.layerwise.partial import Parts
from pass_examples import build, draw, statistics
from runtimes import plugins
from runtimes.parity import compare
from runtimes.session import Session, open_session, random_feeds

SNR_LIMIT_DB = 100.0
OPEN_SIZE = 16
FOLDERS = (exporters.passes, exporters.rewrites)
NAMES = [name for folder in FOLDERS for name in plugins.names(folder)]

NOTHING_TO_DO = build(
    " done (float[N,16,9,9] x) => (float[N,16,8,8] y) { c = Conv (x, w) y = Relu (c) }", {"w": draw(16, 16, 2, 2)}
)


@functools.cache
def examples(name: str) -> dict[str, onnx.ModelProto]:
    return dict(importlib.import_module(f"pass_examples.{name}").EXAMPLES)


CASES = [(name, example) for name in NAMES for example in examples(name)]


def run(name: str, model: onnx.ModelProto) -> PassResult:
    """The pass or rewrite `name` on `model`, which must not feel it."""
    folder = next(folder for folder in FOLDERS if name in plugins.names(folder))
    before = model.SerializeToString(deterministic=True)
    result = plugins.load(folder, name, "pass").run(model)
    assert isinstance(result, PassResult)
    assert model.SerializeToString(deterministic=True) == before, "the argument is never edited"
    assert result.model is not model
    onnx.checker.check_model(result.model, full_check=True)
    return result


def feeds(session: Session) -> Iterator[dict]:
    """Seeded inputs: batches of 1 and 4 where the batch is free; every other open size is `OPEN_SIZE`."""
    free = any(info.shape and not isinstance(info.shape[0], int) for info in session.inputs)
    for batch in (1, 4) if free else (1,):
        shapes = {
            info.name: tuple(
                d if isinstance(d, int) else (batch if axis == 0 else OPEN_SIZE) for axis, d in enumerate(info.shape)
            )
            for info in session.inputs
        }
        yield random_feeds(session.inputs, seed=batch, sizes=shapes)


def check_same_function(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    sessions = [open_session(model, optimize=False, threads=1) for model in (before, after)]
    compare(*sessions, feeds(sessions[0])).require(snr_db=SNR_LIMIT_DB)


def test_a_name_is_one_pass_or_one_rewrite() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert set(FLOAT_PASSES) <= set(plugins.names(exporters.passes)), "the road's list names files of the folder"


@pytest.mark.parametrize("name", NAMES)
def test_signature_and_first_sentence(name: str) -> None:
    folder = next(folder for folder in FOLDERS if name in plugins.names(folder))
    module = plugins.load(folder, name, "pass")
    first, *others = inspect.signature(module.run).parameters.values()
    assert first.name == "model"
    assert all(p.kind == p.KEYWORD_ONLY and p.default is not p.empty for p in others), (
        "options are keywords with defaults"
    )
    assert module.__doc__
    assert f"Test: tests/test_{name}.py" in " ".join(module.__doc__.split())


@pytest.mark.parametrize(("name", "example"), CASES)
def test_contract(name: str, example: str) -> None:
    model = examples(name)[example]
    result = run(name, model)
    after = result.model
    assert result.modified, "an example gives the pass something to do"
    assert after != model
    assert list(after.graph.input) == list(model.graph.input)
    assert list(after.graph.output) == list(model.graph.output)
    assert list(after.opset_import) == list(model.opset_import)
    assert after.graph.name == model.graph.name
    padding.forget(after)  # which channels are the network's own is all that may be added
    assert get_meta(after) == get_meta(model)
    check_same_function(model, after)

    given = {node.name: node for node in model.graph.node}
    for node in after.graph.node:
        origin = given.get(node.name) or given.get(node.name.rpartition("/")[0])
        assert origin is not None, f"{node.name}: what stays keeps its name, what is new is called NAME/Something"
        added = {ABSORBED_KEY: text} if (text := get_meta(node).get(ABSORBED_KEY)) else {}
        assert get_meta(node) == {**get_meta(origin), **added}, "only what was absorbed is added"

    again = run(name, after)
    assert not again.modified, again.changes
    assert again.model == after


@pytest.mark.parametrize(("name", "example"), CASES)
def test_a_tensor_that_keeps_its_name_keeps_its_value(name: str, example: str) -> None:
    """What `edgecnn diff` stands on: two graphs may be compared at every tensor that both know."""
    model = examples(name)[example]
    after = run(name, model).model
    parts = [Parts(graph) for graph in (model, after)]
    shared = [tensor for tensor in parts[1].place if tensor in parts[0].place]
    assert set(parts[0].outputs) <= {*shared, *parts[1].weights}
    sessions = [each.open(shared, threads=1) for each in parts]
    compare(*sessions, feeds(open_session(model, optimize=False, threads=1))).require(snr_db=SNR_LIMIT_DB)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_do(name: str) -> None:
    result = run(name, NOTHING_TO_DO)
    assert not result.modified
    assert result.model == NOTHING_TO_DO


@pytest.mark.parametrize("name", NAMES)
def test_every_example_has_its_reason(name: str) -> None:
    assert examples(name), f"tests/pass_examples/{name}.py: at least one model on which it has something to do"


ROAD = """ plain (float[N,3,12,12] x) => (float[N,5] y, float[N,8,5,5] features) {
    c1 = Conv <strides: ints = [2, 2]> (x, w1)
    n1 = BatchNormalization (c1, s, h, m, v)
    r1 = Relu (n1)
    i1 = Identity (r1)
    c2 = Conv <group: int = 8, pads: ints = [1, 1, 1, 1]> (i1, w2, b2)
    features = BatchNormalization (c2, s, h, m, v)
    d = Dropout (features)
    p = ReduceMean <keepdims: int = 1> (d, axes)
    f = Flatten (p)
    y = Gemm <transB: int = 1> (f, w3, b3)
    dead = Exp (y)
}"""


def test_all_passes_one_after_the_other() -> None:
    """The road: nothing of what a deployed graph does not need is left."""
    weights = {"w1": draw(8, 3, 3, 3), "w2": draw(8, 1, 3, 3), "b2": draw(8), "w3": draw(5, 8), "b3": draw(5)}
    given = model = build(ROAD, {**weights, **statistics(8), "axes": [2, 3], "unused": draw(3)})
    for name in FLOAT_PASSES:
        model = run(name, model).model
    assert [n.op_type for n in model.graph.node] == ["Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    check_same_function(given, model)
