"""Models on which `prelu_of_parts` has something to do."""

from __future__ import annotations

import numpy as np
import onnx

from pass_examples import build, draw

SLOPES = np.array([0.1, -0.5, 1.5, 0.25], np.float32)
PARTS = "p = Relu (c) n = Neg (c) q = Relu (n)"


def prelu(body: str, slopes: np.ndarray) -> onnx.ModelProto:
    """A Conv `c` and the parts of a PRelu of it, y, with the factors `s`."""
    text = f" g (float[N,3,8,8] x) => (float[N,4,6,6] y) {{ c = Conv (x, w) {body} }}"
    return build(text, {"w": draw(4, 3, 3, 3), "s": slopes})


EXAMPLES = {
    "a slope for each channel": prelu(f"{PARTS} m = Mul (s, q) y = Add (p, m)", -SLOPES.reshape(1, 4, 1, 1)),
    "a difference": prelu(f"{PARTS} m = Mul (q, s) y = Sub (p, m)", SLOPES.reshape(4, 1, 1)),
    "one slope, the other order": prelu(f"{PARTS} m = Mul (q, s) y = Add (m, p)", np.float32(-0.25)),
    "channels last": build(
        f" g (float[N,5,4] c) => (float[N,5,4] y) {{ {PARTS} m = Mul (q, s) y = Add (p, m) }}",
        {"s": -SLOPES},
    ),
}
