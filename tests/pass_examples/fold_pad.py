"""Models on which `fold_pad` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build, draw

EXAMPLES = {
    "convolution": build(
        """ g (float[N,3,9,9] x) => (float[N,4,5,7] y) {
            r = Relu (x)
            p = Pad (r, pads, nought)
            y = Conv <strides: ints = [2, 1], pads: ints = [1, 0, 0, 1]> (p, w)
        }""",
        {"pads": [0, 0, 0, 0, 0, 0, 1, 0], "nought": np.float32(0), "w": draw(4, 3, 3, 4)},
    ),
    "average pool, older operator set": build(
        """ g (float[N,3,8,8] x) => (float[N,3,9,9] y) {
            p = Pad <pads: ints = [0, 0, 1, 1, 0, 0, 1, 1]> (x)
            y = AveragePool <kernel_shape: ints = [2, 2]> (p)
        }""",
        head='<ir_version: 7, opset_import: ["" : 10]>',
    ),
}
