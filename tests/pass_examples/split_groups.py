"""Models on which `split_groups` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = " g (float[N,8,H,7] x) => (float[N,O,P,Q] y) { c = Conv <group = 2, pads: ints = [1, 1, 1, 1]> (x, w, b) %s }"

EXAMPLES = {
    "two groups, a ReLU behind": build(TEXT % "y = Relu (c)", {"w": draw(32, 4, 3, 3), "b": draw(32)}),
    "nothing behind that belongs to it": build(TEXT % "y = Softmax (c)", {"w": draw(40, 4, 3, 3), "b": draw(40)}),
}
