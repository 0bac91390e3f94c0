"""Models on which `merge_branches` has something to do."""

from __future__ import annotations

from pass_examples import build, draw, statistics

EXAMPLES = {
    "RepVGG": build(
        """g (float[N,6,9,9] x) => (float[N,6,9,9] y) {
            a = Conv <pads: ints = [1, 1, 1, 1]> (x, w3, b3)
            b = Conv (x, w1)
            c = BatchNormalization (x, s, h, m, v)
            d = Add (a, b)
            e = Add (c, d)
            y = Relu (e)
        }""",
        {"w3": draw(6, 6, 3, 3), "b3": draw(6), "w1": draw(6, 6, 1, 1), **statistics(6)},
    ),
    "MobileOne, depthwise at stride 2": build(
        """g (float[N,6,9,9] x) => (float[N,6,5,5] y) {
            a = Conv <pads: ints = [1, 1, 1, 1], strides: ints = [2, 2], group: int = 6> (x, w3)
            b = Conv <strides: ints = [2, 2], group: int = 6> (x, w1, b1)
            c = Conv <pads: ints = [1, 1, 1, 1], strides: ints = [2, 2], group: int = 6> (x, v3)
            d = Add (a, b)
            y = Add (d, c)
        }""",
        {"w3": draw(6, 1, 3, 3), "w1": draw(6, 1, 1, 1), "b1": draw(6), "v3": draw(6, 1, 3, 3, seed=1)},
    ),
}
