"""Models on which `fold_columns` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[N,3,16,16] x) => (float[N,8,P,Q] y) {
    c = Conv <strides: ints = [STRIDE,STRIDE], pads: ints = [PAD,PAD,PAD,PAD]> (x, w, b)
    y = Relu (c)
}"""


def _text(stride: int, pad: int) -> str:
    return TEXT.replace("STRIDE", str(stride)).replace("PAD", str(pad))


EXAMPLES = {
    "7x7 stride 2": build(_text(2, 3), {"w": draw(8, 3, 7, 7), "b": draw(8)}),
    "no padding": build(_text(2, 0), {"w": draw(8, 3, 3, 3), "b": draw(8)}),
    "odd": build(_text(2, 1).replace("16,16", "16,15"), {"w": draw(8, 3, 3, 3), "b": draw(8)}),
    "3x3 stride 1": build(_text(1, 1), {"w": draw(8, 3, 3, 3), "b": draw(8)}),
}
