"""Models on which `hard_of_parts` has something to do."""

from __future__ import annotations

import re

import numpy as np
import onnx

from pass_examples import HEAD, build, draw

NUMBERS = {
    "three": np.float32(3), "half": np.float32([0.5]), "zero": np.float32(0), "six": np.float32(6),
    "one": np.float32(1), "sixth": np.full((1, 1, 1), 1 / 6, np.float32),
}  # fmt: skip


def swish(body: str, head: str = HEAD) -> onnx.ModelProto:
    """A Conv `c` and what stands behind it, which makes y."""
    text = f" g (float[N,3,8,8] x) => (float[N,4,6,6] y) {{ c = Conv (x, w) {body} }}"
    values = {
        "w": draw(4, 3, 3, 3),
        **{name: value for name, value in NUMBERS.items() if re.search(rf"\b{name}\b", body)},
    }
    return build(text, values, head)


CLIP = "a = Add (c, three) h = Clip (a, zero, six)"

EXAMPLES = {
    "hardswish, a product": swish(f"{CLIP} s = Mul (h, sixth) y = Mul (c, s)"),
    "hardswish, a quotient at the end": swish(f"{CLIP} s = Mul (h, c) y = Div (s, six)"),
    "hardswish, a quotient in front": swish(f"{CLIP} s = Div (c, six) y = Mul (s, h)"),
    "hardswish of sixths": swish("s = Div (c, six) a = Add (half, s) h = Clip (a, zero, one) y = Mul (h, c)"),
    "hardsigmoid": swish(f"{CLIP} y = Div (h, six)"),
    "hardsigmoid of sixths": swish("s = Mul (sixth, c) a = Add (s, half) y = Clip (a, zero, one)"),
    "hardswish before operator set 14": swish(f"{CLIP} s = Mul (sixth, h) y = Mul (s, c)", HEAD.replace("18", "13")),
    "hardsigmoid, ends as attributes": swish(
        "a = Add (three, c) h = Clip <min = 0.0, max = 6.0> (a) y = Mul (h, sixth)", HEAD.replace("18", "10")
    ),
}
