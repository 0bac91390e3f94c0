"""Models on which `merge_add` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[N,8,6,6] x) => (float[N,4,3,3] y) {
    u = Conv <strides: ints = [2,2], pads: ints = [1,1,1,1]> (x, w0)
    p = Conv (u, w1, b1)
    q = Conv <strides: ints = [2,2]> (x, w2)
    s = Add (p, q)
    y = Relu (s)
}"""

EXAMPLES = {
    "residual block": build(
        TEXT, {"w0": draw(8, 8, 3, 3), "w1": draw(4, 8, 1, 1), "b1": draw(4), "w2": draw(4, 8, 1, 1)}
    ),
}
