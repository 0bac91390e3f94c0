"""Models on which `clip_of_bounds` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build

EXAMPLES = {
    "clamp": build(
        "g (float[N,3,4,4] x) => (float[N,3,4,4] y) { a = Max (x, low) b = Min (a, high) y = Neg (b) }",
        {"low": np.float32(-0.5), "high": np.float32(0.5)},
    ),
    "one end": build("g (float[N,3] x) => (float[N,3] y) { a = Max (zero, x) y = Neg (a) }", {"zero": np.float32(0)}),
}
