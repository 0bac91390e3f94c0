"""Models on which `nearest_resize` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build

TEXT = """ g (float[N,3,5,4] x) => (float[N,3,P,Q] y) {
    r = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , s)
    y = Relu (r)
}"""

EXAMPLES = {
    "twice": build(TEXT, {"s": np.float32([1, 1, 2, 2])}),
    "rows only": build(TEXT, {"s": np.float32([1, 1, 3, 1])}),
}
