"""Models on which `fold_batchnorm` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build, draw, statistics

CHAIN = """ g (float[N,3,12,12] x) => (float[N,5] y, float[N,8,5,5] features) {
    c1 = Conv <strides: ints = [2, 2]> (x, w1)
    n1 = BatchNormalization (c1, s, h, m, v)
    r1 = Relu (n1)
    c2 = Conv <group: int = 8, pads: ints = [1, 1, 1, 1]> (r1, w2, b2)
    features = BatchNormalization (c2, s, h, m, v)
    p = GlobalAveragePool (features)
    f = Flatten (p)
    y = Gemm <transB: int = 1> (f, w3, b3)
}"""
WEIGHTS = {"w1": draw(8, 3, 3, 3), "w2": draw(8, 1, 3, 3), "b2": draw(8), "w3": draw(5, 8), "b3": draw(5)}

PREPROCESSED = """ g (float[N,3,12,12] x) => (float[N,8,10,10] y) {
    a = Div (x, k)
    b = Sub (a, mean)
    c = Conv (b, w)
    r = Relu (c)
    n = BatchNormalization (r, s, h, m, v)
    y = Conv (n, u)
}"""

SPELLED = """ g (float[N,3,12,12] x) => (float[N,8,14,14] y) {
    c = ConvTranspose (x, w)
    safe = Add (v, e)
    root = Sqrt (safe)
    d = Sub (c, m)
    q = Div (d, root)
    p = Mul (q, s)
    y = Add (p, h)
}"""

MATRICES = """ g (float[N,8] x) => (float[N,8] y, float[N,8] z) {
    n1 = BatchNormalization (x, s, h, m, v)
    p1 = MatMul (n1, w)
    a1 = Add (p1, b)
    n2 = BatchNormalization (a1, s, h, m, v)
    r = Relu (n2)
    y = Gemm (r, w)
    p2 = MatMul (r, w)
    z = BatchNormalization (p2, s, h, m, v)
}"""

BODY = """ g (float[2,8,6,6] x, bool way) => (float[2,8,4,4] y) {
    y = If (way) <then_branch = t () => (float[2,8,4,4] a) { c = Conv (x, w) a = BatchNormalization (c, s, h, m, v) },
                  else_branch = e () => (float[2,8,4,4] b) { b = Conv (x, w) }>
}"""


def wide(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As constants beside (N, C, H, W)."""
    return {name: value.reshape(-1, 1, 1) for name, value in parts.items()}


EXAMPLES = {
    "two convolutions": build(CHAIN, {**WEIGHTS, **statistics(8)}),
    "into the next convolution": build(
        PREPROCESSED,
        {"k": np.float32(255), "mean": draw(3, 1, 1), "w": draw(8, 3, 3, 3), "u": draw(8, 8, 1, 1), **statistics(8)},
    ),
    "in pieces": build(SPELLED, {"w": draw(3, 8, 3, 3), "e": np.float32(1e-3), **wide(statistics(8))}),
    "matrices": build(MATRICES, {"w": draw(8, 8), "b": draw(8), **statistics(8)}),
    "in a branch": build(BODY, {"w": draw(8, 8, 3, 3), **statistics(8)}),
}
