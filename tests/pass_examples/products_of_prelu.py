"""Models on which `products_of_prelu` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build, draw

SLOPES = np.array([0.1, -0.5, 1.5, 0.25], np.float32).reshape(4, 1, 1)
TEXT = " g (float[N,3,8,8] x) => (float[N,4,6,6] y) { c = Conv (x, w) [act] y = PRelu (c, s) }"

EXAMPLES = {
    "a slope for each channel": build(TEXT, {"w": draw(4, 3, 3, 3), "s": SLOPES}),
    "one slope": build(TEXT, {"w": draw(4, 3, 3, 3), "s": np.float32([0.25])}),
    "sound": build(" g (float[N,4,9] x) => (float[N,4,9] y) { y = PRelu (x, s) }", {"s": SLOPES[..., 0]}),
}
