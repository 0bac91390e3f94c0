"""Models on which `scatter_to_concat` has something to do."""

from __future__ import annotations

import numpy as np

from pass_examples import build

TURN = "Transpose <perm: ints = [1, 0, 2, 3]>"
EVERY_ROW = "s = Shape (x) n = Gather (s, zero) r = Range (zero, n, one) i = Unsqueeze (r, last)"
NUMBERS = {"zero": np.int64(0), "one": np.int64(1), "last": [-1]}


def rows(start: int, stop: int) -> np.ndarray:
    """int64 (n, 1), as ScatterND wants to see the rows `start` to `stop`."""
    return np.arange(start, stop)[:, None]


EXAMPLES = {
    "all rows of an open batch": build(
        f"""g (float[N,3,4,4] x) => (float[N,3,4,4] y) {{
            {EVERY_ROW} u = Relu (x) w = ScatterND (x, i, u) y = Neg (w)
        }}""",
        NUMBERS,
    ),
    "channels in the middle": build(
        f"""g (float[N,6,4,4] x, float[N,2,4,4] u) => (float[N,6,4,4] y) {{
            a = {TURN} (x) b = {TURN} (u) w = ScatterND (a, i, b) t = {TURN} (w) y = Relu (t)
        }}""",
        {"i": rows(1, 3)},
    ),
    "its own rows": build(
        f"""g (float[N,6,4,4] x) => (float[N,6,4,4] y) {{
            p = Slice (x, from, to, axis) a = {TURN} (x) b = {TURN} (p)
            w = ScatterND (a, i, b) t = {TURN} (w) y = Relu (t)
        }}""",
        {"i": rows(1, 3), "from": [1], "to": [3], "axis": [1]},
    ),
}
