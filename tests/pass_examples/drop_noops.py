"""Models on which `drop_noops` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build, draw

EXAMPLES = {
    "identity, dropout, dead ends": build(
        """ g (float[N,3,6,6] x) => (float[N,4,4,4] y, float[N,3,6,6] z) {
            i = Identity (x)
            c = Conv (i, w)
            d = Dropout (c)
            y = Relu (d)
            e = Exp (x)
            z = Identity (e)
            dead = Neg (y)
        }""",
        {"w": draw(4, 3, 3, 3), "unused": draw(3)},
    ),
    "one of each": build(
        """ g (float[N,3,6,6] x) => (float[N,3,6,6] y) {
            a = Cast <to: int = 1> (x)
            b = Concat <axis: int = 1> (a)
            c = Slice (b, start, end)
            d = Add (c, nought)
            e = Mul (once, d)
            r = Relu (e)
            f = Pad (r, pads)
            h = Resize <mode: string = "nearest"> (f, , scales)
            i = Transpose <perm: ints = [0, 1, 2, 3]> (h)
            j = Reshape (i, same)
            k = Expand (j, ones)
            l = Tile (k, ones)
            y = Abs (l)
        }""",
        {
            "start": [0, 0],
            "end": [2**31 - 1, 3],
            "nought": np.zeros((3, 1, 1), np.float32),
            "once": np.float32(1),
            "pads": [0] * 8,
            "scales": np.ones(4, np.float32),
            "same": [0, 3, 6, 6],
            "ones": [1, 1, 1, 1],
        },
    ),
}
