"""Models on which `unroll_columns` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[N,4,6,8] x) => (float[N,6,6,8] y) {
    c = Conv <pads: ints = [1,1,1,1]> (x, w, b)
    y = Relu (c)
}"""

EXAMPLES = {"3x3": build(TEXT, {"w": draw(6, 4, 3, 3), "b": draw(6)})}
