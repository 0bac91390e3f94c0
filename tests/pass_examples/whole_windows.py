"""Models on which `whole_windows` has something to do."""

from __future__ import annotations

from pass_examples import build

POOL = "<kernel_shape: ints = [3,3], strides: ints = [2,2], ceil_mode: int = 1>"

EXAMPLES = {
    "an average": build(f" g (float[N,4,7,9] x) => (float[N,4,P,Q] y) {{ a = AveragePool {POOL} (x) y = Relu (a) }}"),
    "a maximum": build(f" g (float[N,4,7,9] x) => (float[N,4,P,Q] y) {{ y = MaxPool {POOL} (x) }}"),
}
