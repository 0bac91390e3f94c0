"""exporters/fix_shapes.py: symbols become the sizes asked for, everywhere, or nothing is done and the line says why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from exporters.fix_shapes import fix_shapes
from runtimes.base import BadInput
from runtimes.session import open_session, random_feeds

TWO = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,H,W] x, float[N,2] z) => (float[N,A,B] y, float[N,2] other) <float[N,4,"H / 2",C] c> {
    c = MaxPool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (x)
    y = Reshape (c, to)
    other = Neg (z)
}"""


def build(text: str = TWO) -> onnx.ModelProto:
    model = parser.parse_model(text.replace('"H / 2"', "Hhalf"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 3, -1]), "to"))
    return model


def shapes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    return {
        value.name: [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }


def test_symbols_become_numbers_everywhere() -> None:
    model = build()
    before = model.SerializeToString()
    fixed = fix_shapes(model, {"x": (2, 3, 8, 6)})
    assert model.SerializeToString() == before
    onnx.checker.check_model(fixed, full_check=True)
    assert shapes(fixed) == {"x": [2, 3, 8, 6], "z": [2, 2], "y": [2, 3, 12], "other": [2, 2]}
    session = open_session(fixed, optimize=False)
    feeds = random_feeds(session.inputs)
    truth = open_session(model, optimize=False)(feeds)
    for name, value in session(feeds).items():
        np.testing.assert_array_equal(value, truth[name])
    assert fix_shapes(fixed, {"x": (2, 3, 8, 6)}) == fixed, "what is fixed may be said again"


def test_only_what_was_asked_for_is_fixed() -> None:
    assert shapes(fix_shapes(build(), {"z": (5, 2)})) == {
        "x": [5, 3, "H", "W"], "z": [5, 2], "y": [5, 3, "B"], "other": [5, 2],
    }  # fmt: skip


WRONG = {
    "a size that is fixed": (
        {"x": (1, 4, 8, 8)},
        r"net\.onnx: input x wants \[N, 3, H, W\], the shape given is \[1, 4",
    ),
    "another rank": ({"x": (1, 3, 8)}, r"input x wants \[N, 3, H, W\]"),
    "two sizes for one symbol": ({"x": (1, 3, 8, 8), "z": (2, 2)}, r"N cannot be 1 and 2 at once.*shape of z"),
}


@pytest.mark.parametrize(("sizes", "said"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said(sizes: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        fix_shapes(build(), sizes, "net.onnx")
