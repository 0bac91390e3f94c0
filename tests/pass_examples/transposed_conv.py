"""Models on which `transposed_conv` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[N,3,5,4] x) => (float[N,2,P,Q] y) {
    c = ConvTranspose <strides: ints = [2,2], ATTRIBUTES> (x, w, b)
    y = Relu (c)
}"""

EXAMPLES = {
    "kernel is stride": build(TEXT.replace(", ATTRIBUTES", ""), {"w": draw(3, 2, 2, 2), "b": draw(2)}),
    "overlapping": build(TEXT.replace("ATTRIBUTES", "pads: ints = [1,1,1,1]"), {"w": draw(3, 2, 4, 4), "b": draw(2)}),
    "cropped": build(TEXT.replace("ATTRIBUTES", "pads: ints = [1,1,1,1]"), {"w": draw(3, 2, 3, 3), "b": draw(2)}),
}
