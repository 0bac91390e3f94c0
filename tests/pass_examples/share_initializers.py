"""Models on which `share_initializers` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

EXAMPLES = {
    "the same weight twice": build(
        """ g (float[N,3,6,6] x) => (float[N,3,6,6] y) {
            a = Conv <pads: ints = [1, 1, 1, 1]> (x, w1, b1)
            r = Relu (a)
            y = Conv <pads: ints = [1, 1, 1, 1]> (r, w2, b2)
        }""",
        {"w1": draw(3, 3, 3, 3), "b1": draw(3), "w2": draw(3, 3, 3, 3), "b2": draw(3, seed=2)},
    ),
}
