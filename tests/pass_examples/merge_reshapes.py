"""Models on which `merge_reshapes` has something to do."""

from __future__ import annotations

from pass_examples import build

EXAMPLES = {
    "three in a row": build(
        """ g (float[N,12,1,1] x) => (float[N,2,6] y) {
            r = Relu (x)
            s = Squeeze (r, axes)
            u = Unsqueeze (s, one)
            y = Reshape (u, to)
        }""",
        {"axes": [2, 3], "one": [1], "to": [0, 2, 6]},
    ),
    "there and back": build(
        """ g (float[N,4,3,3] x) => (float[N,4,3,3] y) {
            f = Flatten (x)
            b = Reshape (f, to)
            y = Relu (b)
        }""",
        {"to": [-1, 4, 3, 3]},
    ),
}
