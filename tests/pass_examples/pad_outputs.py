"""Models on which `pad_outputs` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[N,4,6,6] x) => (float[N,O,P,Q] y) {
    c = Conv <pads: ints = [1,1,1,1]> (x, w, b)
    y = Relu (c)
}"""

EXAMPLES = {
    "few": build(TEXT, {"w": draw(6, 4, 3, 3), "b": draw(6)}),
    "no multiple of four": build(TEXT, {"w": draw(21, 4, 3, 3), "b": draw(21)}),
}
