"""exporters/passes/simplify.py: less nodes, the same function, names and metadata kept, and no trust in onnxsim.

What onnxsim might do wrong is done here on purpose, by putting a wrong simplifier in its place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from exporters.base import PassResult
from exporters.graph import MODULE_KEY, copy_model, get_meta, op_counts, set_meta
from exporters.isolation.apart import apart
from exporters.isolation.sandbox import ChildFailed
from exporters.passes import simplify
from runtimes.base import Array, BadInput
from runtimes.parity import compare
from runtimes.session import open_session, random_feeds

TIMEOUT_S = 60.0
"""One run takes a second; a minute is for a machine that does ten other things."""

FLATTEN = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[N,3,8,8] x) => (float[N,144] y) {
    c = Conv (x, w)
    n = BatchNormalization (c, s, h, m, v)
    i = Identity (n)
    r = Relu (i)
    shape = Shape (r)
    zero = Constant <value = int64[1] {0}> ()
    first = Gather <axis: int = 0> (shape, zero)
    rest = Constant <value = int64[1] {144}> ()
    target = Concat <axis: int = 0> (first, rest)
    y = Reshape (r, target)
}
"""


def draw(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).uniform(0.2, 1, shape).astype(np.float32)


WEIGHTS = {"w": draw(4, 3, 3, 3), "s": draw(4), "h": draw(4), "m": draw(4), "v": draw(4)}


def build(text: str = FLATTEN, **values: Array) -> onnx.ModelProto:
    model = parser.parse_model(text)
    values = values or WEIGHTS
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in values.items())
    for node in model.graph.node:
        node.name = f"net.{node.output[0]}"
        set_meta(node, {MODULE_KEY: f"module.{node.output[0]}", "other": "note"})
    set_meta(model, {"edgecnn.stages": "[]"})
    return model


def snr_db(before: onnx.ModelProto, after: onnx.ModelProto, batch: int = 2) -> float:
    sessions = [open_session(model, optimize=False) for model in (before, after)]
    return compare(*sessions, [random_feeds(sessions[0].inputs, batch=batch, seed=9)]).snr_db


def run(model: onnx.ModelProto, **options: object) -> PassResult:
    """The pass, held to what every result must be."""
    before = model.SerializeToString()
    result = simplify.run(model, timeout_s=TIMEOUT_S, **options)  # type: ignore[arg-type]
    assert model.SerializeToString() == before
    onnx.checker.check_model(result.model, full_check=True)
    assert [v.name for v in result.model.graph.input] == [v.name for v in model.graph.input]
    assert list(result.model.graph.output) == list(model.graph.output)
    return result


# ---------------------------------------------------------------------------------------------------- the real onnxsim
@pytest.fixture(scope="module")
def simplified() -> PassResult:
    return run(build())


def test_shape_arithmetic_goes_and_batchnorm_stays(simplified: PassResult) -> None:
    """The fold is ours: whoever lets onnxsim do it makes `fold_batchnorm` dead code."""
    assert op_counts(simplified.model) == {"Conv": 1, "BatchNormalization": 1, "Relu": 1, "Reshape": 1}
    assert simplified.modified
    assert not simplified.kept
    removed = {change.node for change in simplified.changes if "removed" in change.what}
    assert {"net.i", "net.shape", "net.first", "net.target"} <= removed


def test_symbolic_batch_stays(simplified: PassResult) -> None:
    assert simplified.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    for batch in (1, 5):
        assert snr_db(build(), simplified.model, batch) == float("inf"), "the same kernels on the same numbers"


def test_names_and_metadata_come_back(simplified: PassResult) -> None:
    for node in simplified.model.graph.node:
        assert node.name == f"net.{node.output[0]}"
        assert get_meta(node) == {MODULE_KEY: f"module.{node.output[0]}", "other": "note"}
    assert get_meta(simplified.model) == {"edgecnn.stages": "[]"}, "onnxsim's own notes are not ours"


def test_same_bytes_every_time(simplified: PassResult) -> None:
    assert run(build()).model.SerializeToString() == simplified.model.SerializeToString()


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    run(build())
    assert capfd.readouterr() == ("", "")


def test_torch_is_not_imported_by_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """702 MB of address space without torch; with it the child would not start within 600."""
    run_in_child, seen = simplify.run_in_child, []

    def spy(target: str, data: bytes, options: object, *, timeout_s: float, memory_mb: int) -> object:
        seen.append(target)
        return run_in_child(
            "test_simplify:modules_of_the_child", data, options, timeout_s=timeout_s, memory_mb=memory_mb
        )

    monkeypatch.setattr(simplify, "run_in_child", spy)
    with pytest.raises(BadInput, match="onnxsim is there, torch is not"):
        simplify.run(build(), timeout_s=TIMEOUT_S)
    assert seen == ["exporters.passes.simplify:child"]


def modules_of_the_child(data: bytes, **options: object) -> None:
    import sys

    simplify.child(data, **options)  # type: ignore[arg-type]
    there = [name for name in ("onnxsim", "torch") if sys.modules.get(name) is not None]
    raise BadInput("onnxsim is there, torch is not" if there == ["onnxsim"] else f"modules: {there}")


@pytest.mark.parametrize("ir_version", [3, 8])
def test_weights_that_a_caller_may_override_stay_overridable(ir_version: int) -> None:
    text = f"""<ir_version: {ir_version}, opset_import: ["" : 9]> g (float[2,3,8,8] x) => (float[2,4,6,6] y)
        {{ u = Add (w, k)  t = Identity (u)  y = Conv (x, t) }}"""
    values = {"w": WEIGHTS["w"], "k": np.float32(1)}
    model = build(text, **values)
    for name in values if ir_version == 3 else ["w"]:
        model.graph.input.append(helper.make_tensor_value_info(name, 1, values[name].shape))
    result = run(model)
    assert result.model.ir_version == max(ir_version, 4)
    assert op_counts(result.model) == {"Add": 1, "Conv": 1}
    assert {t.name for t in result.model.graph.initializer} == {"w", "k"}
    feeds = {"x": draw(2, 3, 8, 8), "w": 3 * values["w"]}
    truth = open_session(model, optimize=False)({"x": feeds["x"]})["y"]
    session = open_session(result.model, optimize=False)
    np.testing.assert_array_equal(session({"x": feeds["x"]})["y"], truth)
    assert not np.array_equal(session(feeds)["y"], truth), "overriding the weight still does something"


def test_open_sizes_need_a_shape_and_stay_open() -> None:
    text = FLATTEN.replace("[N,3,8,8]", "[N,3,H,W]").replace("{144}", "{-1}").replace("[N,144]", "[N,D]")
    with pytest.raises(BadInput, match=r"net\.onnx: .*--input-shape"):
        simplify.run(build(text), timeout_s=TIMEOUT_S, name="net.onnx")
    result = run(build(text), input_shapes={"x": (1, 3, 9, 7)})
    assert "Identity" not in op_counts(result.model)
    assert [d.dim_param for d in result.model.graph.input[0].type.tensor_type.shape.dim] == ["N", "", "H", "W"]


def test_nothing_to_do_changes_nothing(simplified: PassResult) -> None:
    again = run(simplified.model)
    assert not again.modified
    assert again.model == simplified.model
    assert again.model is not simplified.model


def test_model_that_cannot_run_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[N] y)
        { c = ConstantOfShape (n) y = Add (x, c) }"""
    with pytest.raises(BadInput, match=r"^bomb\.onnx: "):
        simplify.run(build(text, n=np.array([2**34])), timeout_s=TIMEOUT_S, name="bomb.onnx")


# ------------------------------------------------------------------------------------- onnxsim that does wrong things
def same(model: onnx.ModelProto) -> onnx.ModelProto:
    return copy_model(model)


def other_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """One weight off by one part in a thousand."""
    wrong = copy_model(model)
    weight = numpy_helper.to_array(wrong.graph.initializer[0]) * np.float32(1.001)
    wrong.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    return wrong


def batch_of_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """What a simplifier does that runs the model with batch 1 and believes the sizes that it sees."""
    wrong = copy_model(model)
    wrong.graph.node[9].input[1] = "target_of_1"
    wrong.graph.initializer.append(numpy_helper.from_array(np.array([1, 144]), "target_of_1"))
    return wrong


def first_image_twice(model: onnx.ModelProto) -> onnx.ModelProto:
    """Right for the first image of a batch only."""
    wrong = copy_model(model)
    slice_ = [helper.make_node("Slice", ["x", "zero", "one", "zero"], ["x0"])]
    slice_.append(helper.make_node("Expand", ["x0", "size"], ["xs"]))
    slice_.insert(0, helper.make_node("Shape", ["x"], ["size"]))
    wrong.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    nodes = [wrong.graph.node[5], *slice_, *[n for i, n in enumerate(wrong.graph.node) if i != 5]]
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    nodes[4].input[0] = "xs"
    del wrong.graph.node[:]
    wrong.graph.node.extend(nodes)
    return wrong


def renamed_output(model: onnx.ModelProto) -> onnx.ModelProto:
    wrong = copy_model(model)
    wrong.graph.node[-1].output[0] = wrong.graph.output[0].name = "z"
    return wrong


def other_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    wrong = copy_model(model)
    wrong.opset_import[0].version = 18
    return wrong


def invalid(model: onnx.ModelProto) -> onnx.ModelProto:
    wrong = copy_model(model)
    wrong.graph.node[0].input[1] = "ghost"
    return wrong


def bloated(model: onnx.ModelProto) -> onnx.ModelProto:
    wrong = copy_model(model)
    wrong.graph.initializer.append(numpy_helper.from_array(np.zeros(5000, np.float32), "ballast"))
    return wrong


def nothing(model: onnx.ModelProto) -> onnx.ModelProto:
    wrong = copy_model(model)
    del wrong.graph.node[:]
    return wrong


def raises(model: onnx.ModelProto) -> onnx.ModelProto:
    raise simplify._Worse("onnxsim failed: boom")


WRONG = {
    "other weights": (other_weights, "dB, it needs"),
    "batch size baked in": (batch_of_one, "cannot be compared"),
    "first image only": (first_image_twice, "dB, it needs"),
    "renamed output": (renamed_output, "changed the outputs"),
    "other operator set": (other_opset, "operator set from 17 to 18"),
    "invalid graph": (invalid, "not valid"),
    "three times larger": (bloated, "bytes of"),
    "no nodes": (nothing, "nothing but constants"),
    "error": (raises, "boom"),
}


def child(model: onnx.ModelProto) -> dict[str, object]:
    with apart(model, "model") as (folder, size):
        return simplify.child(b"", str(folder), size, {}, seed=0)[1]


@pytest.mark.parametrize(("wrong", "reason"), WRONG.values(), ids=WRONG)
def test_wrong_results_are_thrown_away(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[onnx.ModelProto], onnx.ModelProto], reason: str
) -> None:
    monkeypatch.setattr(simplify, "_onnxsim", same)
    assert child(build()) == {}, "the control: a right result passes"
    monkeypatch.setattr(simplify, "_onnxsim", wrong)
    worse = child(build())["worse"]
    assert reason in str(worse)


def test_reason_and_given_graph_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ChildFailed("its process was killed by SIGSEGV")

    monkeypatch.setattr(simplify, "run_in_child", crash)
    result = run(build())
    assert result.model == build()
    assert not result.modified
    assert result.kept[0].reason == "onnxsim failed: its process was killed by SIGSEGV"


NO_PROOF = {
    "noise": ("g (float[N,4] x) => (float[N,4] y) { r = RandomNormalLike (x) y = Add (x, r) }", "two runs"),
    "NaN": ("g (float[N,4] x) => (float[N,4] y) { l = Log (x) y = Relu (l) }", "NaN or Inf"),
}


@pytest.mark.parametrize(("text", "reason"), NO_PROOF.values(), ids=NO_PROOF)
def test_what_cannot_be_proven_is_not_done(monkeypatch: pytest.MonkeyPatch, text: str, reason: str) -> None:
    monkeypatch.setattr(simplify, "_onnxsim", same)
    model = build('<ir_version: 8, opset_import: ["" : 17]>' + text, unused=np.zeros(1))
    assert reason in str(child(model)["worse"])


def test_chaotic_network_is_held_to_its_own_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amplified a thousand times, one rounding is -80 dB: asking 90 dB of another summation order would be unfair."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y)
        { a = Mul (x, k) t = Sin (a) y = Add (t, e) }"""

    def later(model: onnx.ModelProto) -> onnx.ModelProto:
        other = copy_model(model)
        other.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.float32(shift), "e"))
        return other

    monkeypatch.setattr(simplify, "_onnxsim", later)
    model = build(text, k=np.float32(1000), e=np.float32(0))
    shift = 5e-5  # 83 dB below the sine: within the noise
    assert child(model) == {}
    shift = 5e-2  # 23 dB: below the floor
    assert "it needs" in str(child(model)["worse"])
    wild = build(text, k=np.float32(1e6), e=np.float32(0))
    shift = 2e-2  # 31 dB, and the network's own noise is larger still: nothing below 40 dB is believed
    assert "it needs 40.0 dB" in str(child(wild)["worse"])
    calm = build(text, k=np.float32(1), e=np.float32(0))
    shift = 5e-5
    assert "it needs 90.0 dB" in str(child(calm)["worse"])
