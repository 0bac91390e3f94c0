"""Models on which `relu_before_pool` has something to do."""

from __future__ import annotations

from pass_examples import build, draw

TEXT = """ g (float[N,3,8,8] x) => (float[N,4,P,Q] y) {
    c = Conv (x, w)
    p = MaxPool <kernel_shape: ints = [3,3], strides: ints = [2,2], pads: ints = [1,1,1,1]> (c)
    y = Relu (p)
}"""

EXAMPLES = {"overlapping windows": build(TEXT, {"w": draw(4, 3, 3, 3)})}
