"""Models on which `cast_constants` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build

EXAMPLES = {
    "ends of a clip": build(
        """g (float[N,3,4,4] x) => (float[N,3,4,4] y) {
            a = CastLike (low, x) b = CastLike (high, x) y = Clip (x, a, b)
        }""",
        {"low": np.int64(-1), "high": np.int64(2)},
    )
}
