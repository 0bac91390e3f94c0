"""Models on which `sum_of_parts` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build, draw

ATTENTION = """ g (float[N,6,4,5] x) => (float[N,2,4,5] y) {
    c = Conv (x, w)
    p = Reshape (c, five)
    s = ReduceSum <keepdims = 0> (p, axis)
    g = GlobalAveragePool (s)
    k = Conv (g, wk)
    a = Reshape (k, weights)
    f = Softmax <axis = 1> (a)
    h = Reshape (f, heights)
    m = Mul (p, h)
    y = ReduceSum <keepdims = 0> (m, axis)
}"""
VALUES = {
    "w": draw(6, 6, 1, 1), "wk": draw(6, 2, 1, 1), "axis": np.asarray([1]), "five": np.asarray([-1, 3, 2, 4, 5]),
    "weights": np.asarray([-1, 3, 2]), "heights": np.asarray([-1, 3, 2, 1, 1]),
}  # fmt: skip

EXAMPLES = {"split attention": build(ATTENTION, VALUES)}
