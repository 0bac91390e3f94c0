"""exporters/shape_inference.py against what onnx infers from the whole model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from exporters.shape_inference import infer, shape_of, static_shape, tensor_types
from runtimes.base import BadInput

TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,64,8,8] x) => (float[N,O] y) {
    c = Conv (x, w)  r = Reshape (c, to)  y = Identity (r)
}"""


def build() -> onnx.ModelProto:
    model = parser.parse_model(TEXT)
    weight = np.ones((64, 64, 3, 3), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 64 * 36]), "to"))
    return model


def test_large_weights_are_left_out_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    infer, seen = onnx.shape_inference.infer_shapes, []
    model = build()
    whole = {v.name: v.type.tensor_type for v in infer(model).graph.value_info}
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", lambda m, **k: seen.append(m.ByteSize()) or infer(m, **k))
    types = tensor_types(model)
    assert seen[0] < 1000
    assert {name: types[name] for name in whole} == whole
    assert {name: shape_of(kind) for name, kind in types.items()} == {
        "x": (None, 64, 8, 8), "c": (None, 64, 6, 6), "r": (None, 2304), "y": (None, 2304),
        "w": (64, 64, 3, 3), "to": (2,),
    }  # fmt: skip
    assert static_shape(types["w"]) == (64, 64, 3, 3)
    assert static_shape(types["x"]) is None
    assert static_shape(None) is None


def test_values_are_not_followed_where_a_row_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnx would keep a record of each of its numbers: two gigabytes for a file of 69 bytes."""
    plain, asked = onnx.shape_inference.infer_shapes, []
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", lambda m, **k: asked.append(k["data_prop"]) or plain(m))
    for length in (8, 1 << 16, (1 << 16) + 1, 2**62):
        cast = f"g (int64[{length}] x) => (int32[M] y) {{ y = Cast <to = 6> (x) }}"
        infer(parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {cast}'))
    assert asked == [True, True, False, False]


def test_what_cannot_be_inferred_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", fail)
    with pytest.raises(BadInput, match=r"model: its shapes cannot be inferred \(no\)"):
        tensor_types(build())
