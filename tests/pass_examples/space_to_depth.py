"""Models on which `space_to_depth` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[N,3,SIZE,16] x) => (float[N,8,P,Q] y) {
    c = Conv <strides: ints = [2,2], pads: ints = [3,3,3,3]> (x, w, b)
    y = Relu (c)
}"""

EXAMPLES = {
    "even": build(TEXT.replace("SIZE", "16"), {"w": draw(8, 3, 7, 7), "b": draw(8)}),
    "odd": build(TEXT.replace("SIZE", "17"), {"w": draw(8, 3, 7, 7), "b": draw(8)}),
}
