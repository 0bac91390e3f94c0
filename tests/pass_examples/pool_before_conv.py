"""Models on which `pool_before_conv` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[N,8,6,7] x) => (float[N,16,P,Q] y) {
    r = Relu (x)
    c = Conv (r, w, b)
    y = POOL (c)
}"""

VALUES = {"w": draw(16, 8, 1, 1), "b": draw(16)}
EXAMPLES = {
    "a transition": build(
        TEXT.replace("POOL", "AveragePool <kernel_shape: ints = [2,2], strides: ints = [2,2]>"), VALUES
    ),
    "the whole image": build(TEXT.replace("POOL", "GlobalAveragePool"), VALUES),
}
