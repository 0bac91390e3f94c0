"""exporters/targets/target.py: the newest thing that a release loads; every conversion computes the same."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import helper

from exporters.graph import get_meta, opset
from exporters.isolation.sandbox import ChildFailed
from exporters.targets import target
from exporters.targets.target import RELEASES, Target, convert, parse_target, runnable
from pass_examples import build, draw
from runtimes.base import BadInput
from runtimes.session import open_session, random_feeds

NET = """ g (float[N,3,12,12] x) => (float[N,5] y) {
    c = Conv (x, w)
    r = Relu (c)
    m = ReduceMean <keepdims: int = 0> (r, axes)
    y = Gemm <transB: int = 1> (m, v)
}"""
MODEL = build(NET, {"w": draw(64, 3, 5, 5), "axes": [2, 3], "v": draw(5, 64)})
"""At operator set 18 the axes of ReduceMean became an input: converting down must turn it back."""


def test_the_table_only_ever_rises() -> None:
    rows = [RELEASES[key] for key in sorted(RELEASES)]
    assert rows == sorted(rows)
    assert all(a <= b for one, two in itertools.pairwise(rows) for a, b in zip(one, two, strict=True))


def test_no_row_promises_more_than_the_onnx_release_has() -> None:
    """Every pair is one that onnx's own version table knows, or an older IR under that operator set."""
    known = {row[2]: row[1] for row in helper.VERSION_TABLE}
    assert all(ir <= known[version] for version, ir in RELEASES.values())


def test_the_installed_runtime_loads_what_its_row_says() -> None:
    import onnxruntime

    wanted = parse_target(f"ort=={onnxruntime.__version__}")
    model = build(" g (float[1] x) => (float[1] y) { y = Relu (x) }")
    model.opset_import[0].version, model.ir_version = wanted.opset, wanted.ir_version
    assert open_session(model)({"x": np.ones(1, np.float32)})["y"] == 1


def test_releases_between_rows_have_the_row_before() -> None:
    assert parse_target("ort==1.19.2") == Target("ort==1.19.2", 21, 10)
    assert parse_target("onnxruntime==1.22") == Target("onnxruntime==1.22", 22, 10)
    assert parse_target("ort==99.0").opset == max(RELEASES.values())[0]


@pytest.mark.parametrize("text", ["ort", "ort==1", "ort>=1.17", "trt==8.6", "", "ort==1.17; rm", "ort==x.y"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"not a target; write the release of ONNX Runtime as ort==1\.17"):
        parse_target(text)


def test_before_the_first_release() -> None:
    with pytest.raises(BadInput, match="oldest known release"):
        parse_target("ort==0.5")


@pytest.mark.parametrize("release", ["ort==1.13", "ort==1.11"])
def test_converted_down_and_the_same_function(release: str) -> None:
    wanted, before = parse_target(release), MODEL.SerializeToString()
    made = convert(MODEL, wanted)
    assert MODEL.SerializeToString() == before
    onnx.checker.check_model(made, full_check=True)
    assert opset(made) <= wanted.opset
    assert made.ir_version <= wanted.ir_version
    (mean,) = (node for node in made.graph.node if node.op_type == "ReduceMean")
    assert len(mean.input) == 1
    given = {node.output[0]: node for node in MODEL.graph.node}
    for node in made.graph.node:
        assert (node.name, get_meta(node)) == (given[node.output[0]].name, get_meta(given[node.output[0]]))
    assert get_meta(made) == get_meta(MODEL)
    assert list(made.graph.input) == list(MODEL.graph.input)
    assert list(made.graph.output) == list(MODEL.graph.output)
    sessions = [open_session(model, optimize=False) for model in (MODEL, made)]
    feeds = random_feeds(sessions[0].inputs, batch=3)
    np.testing.assert_array_equal(sessions[0](feeds)["y"], sessions[1](feeds)["y"])


def test_an_attribute_that_only_says_the_default_is_no_reason() -> None:
    """torch writes `noop_with_empty_axes` = 0, the converter keeps it, and opset 17 does not know it."""
    text = NET.replace("keepdims: int = 0", "keepdims: int = 0, noop_with_empty_axes: int = 0")
    model = build(text, {"w": draw(64, 3, 5, 5), "axes": [2, 3], "v": draw(5, 64)})
    assert opset(convert(model, parse_target("ort==1.12"))) == 17


def test_what_is_old_enough_is_left_alone() -> None:
    assert convert(MODEL, parse_target("ort==1.20")) == MODEL


def test_only_the_ir_version_goes_down() -> None:
    model = build(" g (float[1] x) => (float[1] y) { y = Relu (x) }", head='<ir_version: 10, opset_import: ["" : 15]>')
    made = convert(model, parse_target("ort==1.9"))
    assert (made.ir_version, opset(made)) == (8, 15)


def test_an_operator_that_is_too_new_is_named() -> None:
    model = build(" g (float[N,4] x) => (float[N,4] y) { y = Mish (x) }")
    with pytest.raises(
        BadInput, match=r"net\.onnx: onnx cannot convert opset 18 to 15 for ort==1\.10 .*No Previous .* of Mish"
    ):
        convert(model, parse_target("ort==1.10"), "net.onnx")


def test_a_converter_that_crashes_is_not_our_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ChildFailed("its process was killed by SIGSEGV")

    monkeypatch.setattr(target, "run_in_child", crash)
    with pytest.raises(BadInput, match="SIGSEGV"):
        convert(MODEL, parse_target("ort==1.12"))


def test_what_the_installed_runtime_does_not_load_is_made_older() -> None:
    import onnxruntime

    newest = parse_target(f"ort=={onnxruntime.__version__}")
    model = build(" g (float[1] x) => (float[1] y) { y = Relu (x) }")
    assert runnable(model, newest) is model, "old enough"
    model.ir_version = newest.ir_version + 1
    made = runnable(model)
    assert (made.ir_version, model.ir_version) == (newest.ir_version, newest.ir_version + 1)
    if newest.opset < onnx.defs.onnx_opset_version():
        model.opset_import[0].version = newest.opset + 1
        assert opset(runnable(model)) == newest.opset + 1, "nobody asked for an older one"
        assert opset(runnable(model, newest)) == newest.opset
