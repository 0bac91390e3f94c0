"""Files whose input is uint8 or float16 and cast at once: what is behind the cast is quantized, the input stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn import api
from edgecnn.choosing.quantizing import quantize
from exporters.half_input import narrowed, widened
from graphs import parse
from runtimes.base import BadInput
from runtimes.bundle import open_bundle
from runtimes.session import open_session

PICTURES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)


def tf_like(kind: str) -> onnx.ModelProto:
    """As TensorFlow writes it: channels last, cast in front."""
    text = f"""g ({kind}[N,16,16,3] x) => (float[N,8] y) {{
        f = Cast <to = 1> (x)
        k = Constant <value_float = 0.01> () s = Mul (f, k) t = Transpose <perm = [0,3,1,2]> (s)
        c = Conv (t, w1) r = Relu (c) d = Conv (r, w2) p = GlobalAveragePool (d) y = Flatten (p)
    }}"""
    return parse(text, w1=(16, 3, 3, 3), w2=(8, 16, 3, 3))


def floats() -> np.ndarray:
    return (PICTURES.astype(np.float32) / 127.5 - 1).astype(np.float32)


def test_a_float16_input_is_wide_inside_and_the_same_to_the_bit() -> None:
    model = tf_like("float16")
    wide = widened(model)
    back = narrowed(wide, model)
    assert [m.graph.input[0].type.tensor_type.elem_type for m in (wide, back)] == [1, 10]
    image = floats()[:1]
    want = open_session(model)({"x": image.astype(np.float16)})["y"]
    np.testing.assert_array_equal(open_session(wide)({"x": image})["y"], want)
    np.testing.assert_array_equal(open_session(back)({"x": image.astype(np.float16)})["y"], want)
    assert model.graph.input[0].type.tensor_type.elem_type == 10, "the argument was edited"


def test_other_inputs_stay() -> None:
    for text in (
        "g (float16[N,4] x) => (float16[N,4] y) { y = Relu (x) }",
        "g (float16[N,4] x) => (float[N,4] y, float16[N,4] z) { y = Cast <to = 1> (x) z = Relu (x) }",
        "g (float[N,4] x) => (float[N,4] y) { y = Relu (x) }",
        "g (float16[N,4] x) => (double[N,4] y) { y = Cast <to = 11> (x) }",
        "g (float16[N,4] x, float[N,4] z) => (float[N,4] y) { y = Relu (z) }",
        "g (float16[N,4] x) => (float[N,4] y, float16[N,4] x) { y = Cast <to = 1> (x) }",
        """g (float16[4] x, bool c) => (float[4] y, float16[4] z) {
            y = Cast <to = 1> (x)
            z = If (c) <then_branch = t () => (float16[4] r) { r = Relu(x) },
                        else_branch = e () => (float16[4] s) { s = Neg(x) }>
        }""",
    ):
        model = parse(text)
        assert widened(model) is model
        assert narrowed(model, model) is model


@pytest.mark.parametrize(("kind", "code", "dtype"), [("uint8", 2, np.uint8), ("float16", 10, np.float16)])
def test_what_is_behind_the_cast_is_quantized_and_the_input_stays(
    tmp_path: Path, kind: str, code: int, dtype: type
) -> None:
    model = tf_like(kind)
    onnx.save(model, tmp_path / "net.onnx")
    data = PICTURES if kind == "uint8" else floats()
    options = {"max_drop": 1.0, "search_budget": 0.0, "all_int8": True}
    report = quantize(tmp_path / "net.onnx", tmp_path / "q.onnx", data, **options)
    assert report.chosen == "int8"
    made = onnx.load(tmp_path / "q.onnx")
    assert made.graph.input[0].type.tensor_type.elem_type == code
    image = {"x": data[:1].astype(dtype)}
    want, got = (open_session(m)(image)["y"] for m in (model, made))
    np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())  # int8's own noise
    quantize(tmp_path / "net.onnx", tmp_path / "q.edge", data, **options)
    assert api.verify(tmp_path / "q.edge").failure is None
    assert open_bundle(tmp_path / "q.edge").session().inputs[0].dtype == ("uint8" if kind == "uint8" else "float32")


def test_pixels_are_not_asked_for_twice(tmp_path: Path) -> None:
    onnx.save(tf_like("uint8"), tmp_path / "net.onnx")
    with pytest.raises(BadInput, match="--input uint8: the model takes uint8-nhwc pixels already; leave it out"):
        quantize(tmp_path / "net.onnx", tmp_path / "q.onnx", PICTURES, input="uint8")
