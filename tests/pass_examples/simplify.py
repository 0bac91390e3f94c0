"""Models on which `simplify` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build, draw, statistics

EXAMPLES = {
    "shape arithmetic": build(
        """ g (float[N,3,8,8] x) => (float[N,144] y) {
            c = Conv (x, w)
            n = BatchNormalization (c, s, h, m, v)
            i = Identity (n)
            shape = Shape (i)
            first = Gather <axis: int = 0> (shape, zero)
            target = Concat <axis: int = 0> (first, rest)
            y = Reshape (i, target)
        }""",
        {"w": draw(4, 3, 3, 3), **statistics(4), "zero": [0], "rest": [144]},
    ),
    "constants": build(
        " g (float[2,4] x) => (float[2,4] y) { k = Add (a, b) i = Exp (k) y = Mul (x, i) }",
        {"a": np.float32([1, 2, 3, 4]), "b": draw(4)},
    ),
}
