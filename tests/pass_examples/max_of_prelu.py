"""Models on which `max_of_prelu` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build, draw

SLOPES = np.array([0.1, -0.5, 1.0, 0.25], np.float32).reshape(4, 1, 1)
TEXT = """ g (float[N,3,8,8] x) => (float[N,4,6,6] y) {
    c = Conv (x, w) below = Mul (c, s) r = Relu (c) above = Mul (r, t) y = Add (below, above)
}"""
VALUES = {"w": draw(4, 3, 3, 3), "s": SLOPES, "t": np.float32(1) - SLOPES}

EXAMPLES = {
    "slopes up to 1": build(TEXT, VALUES),
    "the other way round": build(TEXT.replace("Add (below, above)", "Add (above, below)"), VALUES),
}
