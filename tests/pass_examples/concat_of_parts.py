"""Models on which `concat_of_parts` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

BLOCK = """ g (float[N,6,4,4] x) => (float[N,2,4,4] y) {
    a, b = Split <axis = 1> (x, sizes)
    n = Neg (b)
    c = Concat <axis = 1> (a, b, n)
    y = Conv (c, w)
}"""

EXAMPLES = {"split, work on one half, join": build(BLOCK, {"sizes": [3, 3], "w": draw(2, 9, 1, 1)})}
