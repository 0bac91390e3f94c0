"""Models on which `norm_of_parts` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build, draw, statistics

TEXT = """ g (float[N,6,6,6] x) => (float[N,9,P,Q] y) {
    p, q = Split <axis = 1> (x, sizes)
    a = Conv <group = 4, pads: ints = [1,1,1,1]> (p, w1)
    b = Conv <pads: ints = [2,2,2,2]> (q, w2, b2)
    c = Concat <axis = 1> (a, b)
    n = BatchNormalization (c, s, h, m, v)
    y = Relu (n)
}"""
WEIGHTS = {"w1": draw(4, 1, 3, 3), "w2": draw(5, 2, 5, 5), "b2": draw(5), "sizes": np.asarray([4, 2])}

EXAMPLES = {"two kernels": build(TEXT, {**WEIGHTS, **statistics(9)})}
