"""Models on which `drop_noops` has something to do."""

from __future__ import annotations

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
}
