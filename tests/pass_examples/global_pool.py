"""Models on which `global_pool` has something to do."""

from __future__ import annotations

from pass_examples import build

MEAN = """ g (float[N,3,6,7] x) => (float[N,3] y) {
    r = Relu (x)
    p = ReduceMean <keepdims: int = KEEP> (r, axes)
    y = Flatten (p)
}"""

EXAMPLES = {
    "sizes of one kept": build(MEAN.replace("KEEP", "1"), {"axes": [2, 3]}),
    "sizes of one dropped": build(MEAN.replace("KEEP", "0"), {"axes": [-1, -2]}),
}
