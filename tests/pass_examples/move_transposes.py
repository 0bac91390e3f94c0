"""Models on which `move_transposes` has something to do."""

from __future__ import annotations

import re

import numpy as np
import onnx

from pass_examples import HEAD, build, draw

LAST, FIRST = "Transpose <perm: ints = [0, 2, 3, 1]>", "Transpose <perm: ints = [0, 3, 1, 2]>"


def between(body: str, head: str = HEAD, outs: str = "float[N,O,P,Q] y", **values: object) -> onnx.ModelProto:
    """Channels-last tensors `a` (N, 6, 7, 4) and, if it is read, `b` (N, 1, 1, 4) of convolutions, and `body`,
    which makes z; y is z with its channels first, and once more convolved.
    """
    pooled = f"e = GlobalMaxPool (x) d = Conv (e, w) b = {LAST} (d)" if re.search(r"\bb\b", body) else ""
    text = f""" g (float[N,3,6,7] x) => ({outs}) {{
        c = Conv (x, w) a = {LAST} (c) {pooled} {body}
        f = {FIRST} (z) y = Conv (f, v) }}"""
    weights = {"w": draw(4, 3, 1, 1), "v": draw(5, 4, 1, 1)}
    return build(text, {**weights, **values}, head)


CHANNELS = draw(4)
EXAMPLES = {
    "batchnorm and activation": between(
        "m = Mul (a, s) n = Add (t, m) r = Relu (n) z = Mul (r, b)", s=CHANNELS, t=CHANNELS.reshape(1, 1, 4)
    ),
    "squeeze and excite": between(
        "r = Relu (a) m = ReduceMean (r, axes) t = Add (m, b) g = Sigmoid (t) z = Mul (g, r)", axes=[1, 2]
    ),
    "axes as attributes": between(
        "m = ReduceMean <axes = [-3, 2]> (a) z = Add (m, a)", HEAD.replace("18", "12")
    ),
    "sizes dropped": between(
        "m = ReduceMax <axes = [1, 2], keepdims = 0> (a) u = Unsqueeze <axes = [1, 2]> (m) z = Add (u, a)",
        HEAD.replace("18", "11"),
    ),
    "padded": between("p = Pad (a, pads) z = Relu (p)", pads=[0, 1, 0, 0, 0, 2, 1, 0]),
    "padded on two axes": between("p = Pad (a, pads, , axes) z = Relu (p)", pads=[1, 0, 2, 1], axes=[1, -2]),
    "joined and cut": between(
        "n = Neg (a) r = Concat <axis = -1> (a, n) z = Slice (r, starts, ends, axes)",
        starts=[1, 2], ends=[5, 6], axes=[3, 1],
    ),
    "cut without axes, split": between(
        "r = Slice (a, starts, ends) k, l = Split <axis = 2, num_outputs = 2> (r) z = Add (k, l)",
        starts=[0, 1, 1], ends=[9, 6, 7],
    ),
    "slopes and numbers": between(
        "p = PRelu (a, s) q = Max (p, k) z = Where (cond, q, a)",
        s=CHANNELS, k=np.float32(-0.25), cond=CHANNELS.reshape(1, 1, 1, 4) > 0,
    ),
    "an output in the middle": between(
        "r = Relu (a) z = Mul (r, s)", outs="float[N,O,P,Q] y, float[N,6,7,4] r", s=CHANNELS
    ),
    "a constant that others read": between(
        "m = Mul (a, s) r = Relu (m) z = Mul (r, b) o = Mul (s, s)", outs="float[N,O,P,Q] y, float[4] o", s=CHANNELS
    ),
    "at the input": build(
        f" g (float[N,6,7,3] x) => (float[N,4,6,7] y) {{ m = Mul (x, s) f = {FIRST} (m) y = Conv (f, w) }}",
        {"s": draw(3), "w": draw(4, 3, 1, 1)},
    ),
    "at the output": build(
        f" g (float[N,3,6,7] x) => (float[N,6,7,4] y) {{ c = Conv (x, w) a = {LAST} (c) y = Add (a, s) }}",
        {"s": draw(4), "w": draw(4, 3, 1, 1)},
    ),
    "a pool and a reshape": build(
        f""" g (float[N,6,7,3] x) => (float[N,5] y) {{ f = {FIRST} (x) c = Conv (f, w) p = GlobalAveragePool (c)
            a = {LAST} (p) r = Relu (a) k = Reshape (r, sizes) y = MatMul (k, v) }}""",
        {"w": draw(4, 3, 1, 1), "v": draw(4, 5), "sizes": [0, -1]},
    ),
    "the moved tensor is an output": build(
        f""" g (float[N,3,6,7] x) => (float[N,3,6,7] y) {{
            e = Relu (x) a = {LAST} (e) r = Add (a, s) y = {FIRST} (r) }}""",
        {"s": draw(3)},
    ),
    "quantized": build(
        f""" g (float[N,3,6,7] x) => (float[N,3,6,7] y) {{
            e = Relu (x) a = {LAST} (e) q = QuantizeLinear <axis = 3> (a, s, o) d = DequantizeLinear (q, u, p)
            f = {FIRST} (d) y = Relu (f) }}""",
        {"s": np.float32([0.01, 0.02, 0.03]), "o": np.uint8([0, 1, 2]), "u": np.float32(0.02), "p": np.uint8(3)},
        HEAD.replace("18", "19"),
    ),
    "sound": build(
        """ g (float[N,3,9] x) => (float[N,3,9] y) { a = Transpose <perm = [0, 2, 1]> (x) r = Add (a, s)
            b = Transpose <perm = [0, 2, 1]> (r) y = Relu (b) }""",
        {"s": draw(3)},
    ),
    "all axes turned round": build(
        """ g (float[N,3,9] x) => (float[N,3,9] y) { a = Transpose (x) r = Mul (a, s) b = Transpose (r)
            y = Relu (b) }""",
        {"s": draw(9, 3, 1)},
    ),
}  # fmt: skip
