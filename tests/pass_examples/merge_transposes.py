"""Models on which `merge_transposes` has something to do."""

from __future__ import annotations

from pass_examples import build

EXAMPLES = {
    "cancel": build(
        """ g (float[N,3,4,5] x) => (float[N,3,4,5] y) {
            a = Transpose <perm: ints = [0, 2, 3, 1]> (x)
            b = Transpose <perm: ints = [0, 3, 1, 2]> (a)
            y = Relu (b)
        }"""
    ),
    "merge": build(
        """ g (float[N,3,4,5] x) => (float[N,3,5,4] y) {
            r = Relu (x)
            a = Transpose <perm: ints = [0, 2, 3, 1]> (r)
            y = Transpose <perm: ints = [0, 3, 2, 1]> (a)
        }"""
    ),
}
