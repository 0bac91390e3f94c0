"""Models on which `fold_pixels` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[N,4,HEIGHT,8] x) => (float[N,3,P,Q] y) {
    c = Conv (x, w, b)
    y = Sigmoid (c)
}"""

EXAMPLES = {
    "eight pixels": build(TEXT.replace("HEIGHT", "8"), {"w": draw(3, 4, 1, 1), "b": draw(3)}),
    "across rows": build(TEXT.replace("HEIGHT,8", "5,6"), {"w": draw(3, 4, 1, 1), "b": draw(3)}),
    "one output": build(
        TEXT.replace("float[N,3", "float[N,1").replace("HEIGHT", "8"), {"w": draw(1, 4, 1, 1), "b": draw(1)}
    ),
}
