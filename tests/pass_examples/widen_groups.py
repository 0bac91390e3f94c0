"""Models on which `widen_groups` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = " g (float[N,16,H,7] x) => (float[N,O,P,Q] y) { y = Conv <group = %d, pads: ints = [1, 1, 1, 1]> (x, w, b) }"

EXAMPLES = {
    "four groups of four": build(TEXT % 4, {"w": draw(16, 4, 3, 3), "b": draw(16)}),
    "more outputs than inputs": build(TEXT % 8, {"w": draw(32, 2, 3, 3), "b": draw(32)}),
}
