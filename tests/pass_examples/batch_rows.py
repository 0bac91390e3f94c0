"""Models on which `batch_rows` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[BATCH,4,3,3] x) => (float[BATCH,6,3,3] y) {
    c = Conv (x, w, b)
    y = Relu (c)
}"""

EXAMPLES = {
    "open batch": build(TEXT.replace("BATCH", "N"), {"w": draw(6, 4, 1, 1), "b": draw(6)}),
    "batch of five": build(TEXT.replace("BATCH", "5"), {"w": draw(6, 4, 1, 1), "b": draw(6)}),
}
