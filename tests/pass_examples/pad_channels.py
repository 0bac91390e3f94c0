"""Models on which `pad_channels` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[N,3,6,6] x) => (float[N,2,6,6] y) {
    a = Conv (x, w1, b1)
    b = Relu (a)
    y = Conv <pads: ints = [1,1,1,1]> (b, w2)
}"""

EXAMPLES = {"two": build(TEXT, {"w1": draw(5, 3, 1, 1), "b1": draw(5), "w2": draw(2, 5, 3, 3)})}
