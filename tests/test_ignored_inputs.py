"""exporters/ignored_inputs.py: what is fed and makes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper, parser

from exporters.ignored_inputs import ignored_inputs


@pytest.mark.parametrize(
    ("body", "ignored"),
    [
        ("y = Add (a, b)", []),
        ("y = Neg (a)", ["b"]),
        ("y = Neg (a) dead = Neg (b)", ["b"]),
        ("s = Shape (b) y = Reshape (a, s)", ["b"]),  # how large it is, and not what it holds
        ("n = Neg (b) y = If (k) <then_branch = t () => (float[4] u) { u = Add (a, n) }, "
         "else_branch = e () => (float[4] v) { v = Neg (a) }>", []),
    ],
)  # fmt: skip
def test_inputs_of_which_nothing_is_made(body: str, ignored: list[str]) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[4] a, float[4] b, bool k) => (float[4] y) '
    made = parser.parse_model(head + "{" + body + "}")
    assert [name for name in ignored_inputs(made) if name != "k"] == ignored
    made.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "b"))
    assert "b" not in ignored_inputs(made), "it has a default: nobody must feed it"
