"""Models on which `fold_batchnorm` has something to do."""

from __future__ import annotations

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

EXAMPLES = {"two convolutions": build(CHAIN, {**WEIGHTS, **statistics(8)})}
