"""Models on which `gemm_of_parts` has something to do."""

from __future__ import annotations

from pass_examples import HEAD, build, draw

TEXT = " g (float[N,12] x) => (float[N,5] y) { m = MatMul (x, w) y = Add (m, b) }"

EXAMPLES = {
    "a layer": build(TEXT, {"w": draw(12, 5), "b": draw(5)}),
    "a bias in front, as a row": build(TEXT.replace("(m, b)", "(b, m)"), {"w": draw(12, 5), "b": draw(1, 5)}),
    "one number for all outputs": build(TEXT, {"w": draw(12, 5), "b": draw()}),
    "two layers of one bias, an old operator set": build(
        """ g (float[N,12] x) => (float[N,5] y) { m = MatMul (x, w) a = Add (m, b) r = Relu (a)
            n = MatMul (r, v) y = Add (n, b) }""",
        {"w": draw(12, 5), "v": draw(5, 5), "b": draw(1, 5)},
        HEAD.replace("18", "7"),
    ),
    "behind a Flatten": build(
        " g (float[N,3,2,2] x) => (float[N,5] y) { f = Flatten (x) m = MatMul (f, w) y = Add (m, b) }",
        {"w": draw(12, 5), "b": draw(1)},
    ),
}
