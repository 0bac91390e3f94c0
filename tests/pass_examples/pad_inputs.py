"""Models on which `pad_inputs` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = " g (float[N,3,H,7] x) => (float[N,2,P,Q] y) { y = Conv (x, w, b) }"

EXAMPLES = {"open height": build(TEXT, {"w": draw(2, 3, 3, 3), "b": draw(2)})}
