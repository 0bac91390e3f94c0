"""Models on which `pad_depthwise` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build, draw

TEXT = """ g (float[N,4,6,6] x) => (float[N,4,6,6] y) {
    a = Conv (x, w1, b1)
    b = HardSwish (a)
    c = Conv <group = 10, pads: ints = [1,1,1,1]> (b, w2, b2)
    d = Clip (c, lo, hi)
    g = GlobalAveragePool (d)
    e = Conv (g, we)
    h = Sigmoid (e)
    m = Mul (d, h)
    z = Conv (m, w3)
    y = Add (z, x)
}"""
WEIGHTS = {"w1": draw(10, 4, 1, 1), "b1": draw(10), "w2": draw(10, 1, 3, 3), "b2": draw(10)}
ENDS = {"lo": np.float32(0), "hi": np.float32(6)}

HALVES = """ g (float[N,3,6,6] x) => (float[N,4,6,6] y) {
    a = Conv (x, w1)
    b = Conv <group = 10, pads: ints = [1,1,1,1]> (a, w2, b2)
    c = Concat <axis = 1> (a, b)
    s = Conv (x, w3)
    z = Add (c, s)
    y = Conv (z, w4)
}"""
HALVES_WEIGHTS = {"w1": draw(10, 3, 1, 1), "w2": draw(10, 1, 3, 3), "b2": draw(10), "w3": draw(20, 3, 1, 1)}

EXAMPLES = {
    "squeeze and excite": build(TEXT, {**WEIGHTS, **ENDS, "we": draw(10, 10, 1, 1), "w3": draw(4, 10, 1, 1)}),
    "halves": build(HALVES, {**HALVES_WEIGHTS, "w4": draw(4, 20, 1, 1)}),
}
