"""Models on which `move_squeezes` has something to do."""

from __future__ import annotations

import onnx

from pass_examples import HEAD, build, draw, statistics


def row(body: str, head: str = HEAD, outs: str = "float[N,O,P,Q] y", **values: object) -> onnx.ModelProto:
    """A signal `a` (N, 4, 9) of a Conv of one row, and `body`, which makes z; y is z as an image, convolved."""
    old = "<axes = [2]>" if head != HEAD else ""
    axes = "" if old else ", axis"
    text = f""" g (float[N,3,1,9] x) => ({outs}) {{
        c = Conv (x, w) a = Squeeze {old} (c{axes})
        {body}
        f = Unsqueeze {old} (z{axes}) y = Conv (f, v) }}"""
    weights = {"w": draw(4, 3, 1, 1), "v": draw(5, 4, 1, 1), **({} if old else {"axis": [2]})}
    return build(text, {**weights, **values}, head)


SHIFT = draw(1, 4, 1)
EXAMPLES = {
    "batchnorm and activation": row("m = Mul (a, s) n = Add (m, t) z = Relu (n)", s=draw(4, 1), t=SHIFT),
    "axes as attributes": row("m = Mul (a, s) z = Relu (m)", HEAD.replace("18", "12"), s=SHIFT),
    "padded": row("p = Pad (a, pads) z = Relu (p)", pads=[0, 0, 4, 0, 0, 0]),
    "pooled": row(
        "p = MaxPool <kernel_shape = [3], strides = [2], pads = [1, 0]> (a) z = AveragePool <kernel_shape = [2]> (p)"
    ),
    "a norm as one node": row("z = BatchNormalization (a, s, h, m, v1)", **{
        name if name != "v" else "v1": value for name, value in statistics(4).items()
    }),
    "joined, and an output in the middle": row(
        "r = Relu (a) k = Concat <axis = 1> (r, a) z = Slice (k, from, to, which)",
        outs="float[N,O,P,Q] y, float[N,4,9] r", **{"from": [2], "to": [6], "which": [1]},
    ),
    "sizes for each place": row("z = Add (a, s)", s=draw(4, 9)),
    "at the end": build(
        """ g (float[N,3,1,9] x) => (float[N,4] y) { c = Conv (x, w) a = Squeeze (c, axis) m = Mul (a, s) r = Relu (m)
            p = GlobalAveragePool (r) y = Squeeze (p, axis) }""",
        {"w": draw(4, 3, 1, 1), "s": SHIFT, "axis": [2]},
    ),
}  # fmt: skip
