"""Models on which `rows_in_order` has something to do."""

from __future__ import annotations

import onnx

from pass_examples import build, draw

LAST = "Transpose <perm: ints = [0, 2, 3, 1]>"


def rows(body: str, outs: str = "float[N,5] y", **values: object) -> onnx.ModelProto:
    """An image of 3 channels of 4 x 2, channels last, `a`, and `body`, which makes y."""
    text = f" g (float[N,3,4,2] x) => ({outs}) {{ r = Relu (x) a = {LAST} (r) {body} }}"
    return build(text, {"w": draw(24, 5), **values})


EXAMPLES = {
    "flattened": rows("f = Flatten (a) y = MatMul (f, w)"),
    "reshaped": rows("f = Reshape (a, k) y = Gemm <transB = 1> (f, v, b)", k=[-1, 24], v=draw(5, 24), b=draw(5)),
    "two layers, and weights that others read": rows(
        "f = Reshape (a, k) y = MatMul (f, w) z = Gemm (f, w) o = Exp (w)",
        "float[N,5] y, float[N,5] z, float[24,5] o", k=[0, -1],
    ),
}  # fmt: skip
