"""Models on which `depthwise_batchnorm` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build, draw

TEXT = """ g (float[N,4,8,8] x) => (float[N,5,8,8] y) {
    n = BatchNormalization <epsilon = 0.01> (x, s, b, m, v)
    r = Relu (n)
    y = Conv <pads: ints = [1,1,1,1]> (r, w)
}"""
VALUES = {
    "s": draw(4, seed=1), "b": draw(4, seed=2), "m": draw(4, seed=3), "v": np.abs(draw(4, seed=4)) + np.float32(0.1),
    "w": draw(5, 4, 3, 3),
}  # fmt: skip

EXAMPLES = {"before a padded convolution": build(TEXT, VALUES)}
