"""What the tests of the rewrites share: convolutions as graphs, runs without optimization, int8 beside plain int8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from exporters.base import PassResult
from pass_examples import build, draw
from runtimes.base import Tensors
from runtimes.parity import ParityReport, compare
from runtimes.session import open_session, random_feeds

FLOAT_DB = 100.0
"""float32 sums of these lengths carry more than 110 dB; another function leaves less than 60."""


def ints(*values: int) -> str:
    return f"[{','.join(map(str, values))}]"


def attributes_of(**settings: Any) -> str:
    """`<name: ints = [..], name = 1>` of ONNX's text format."""
    parts = [
        f"{name} = {value}" if isinstance(value, (int, str)) else f"{name}: ints = {ints(*value)}"
        for name, value in settings.items()
    ]
    return f"<{', '.join(parts)}>" if parts else ""


def conv_model(
    image: tuple[int, int, int],
    weight: tuple[int, ...],
    *,
    op: str = "Conv",
    act: str = "",
    bias: bool = True,
    batch: int | str = "N",
    **settings: Any,
) -> onnx.ModelProto:
    """One Conv or ConvTranspose `c` on an image (C, H, W), with an activation `y` behind it if asked."""
    outputs = weight[1] * settings.get("group", 1) if op == "ConvTranspose" else weight[0]
    values = {"w": draw(*weight), **({"b": draw(outputs)} if bias else {})}
    sizes = ",".join(map(str, image))
    body = f"c = {op} {attributes_of(**settings)} ({'x, w, b' if bias else 'x, w'})"
    tail = f"y = {act}" if act else "y = Identity (c)"
    text = f" g (float[{batch},{sizes}] x) => (float[{batch},O,P,Q] y) {{ {body} {tail} }}"
    return build(text, values)


def same(before: onnx.ModelProto, after: onnx.ModelProto, batches: Sequence[int] = (1, 3)) -> ParityReport:
    """Both as they are in the file on seeded inputs; a fixed batch is run as it is."""
    onnx.checker.check_model(after, full_check=True)
    sessions = [open_session(model, optimize=False, threads=1) for model in (before, after)]
    free = any(isinstance(info.shape[0], str) for info in sessions[0].inputs)
    feeds = [
        random_feeds(sessions[0].inputs, batch=b, seed=b) if free else random_feeds(sessions[0].inputs, seed=b)
        for b in batches
    ]
    return compare(*sessions, feeds)


def reference(model: onnx.ModelProto, feeds: Tensors) -> Tensors:
    """What onnx.reference makes of `model`: an oracle that shares no code with ONNX Runtime."""
    evaluator = ReferenceEvaluator(model)
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))


def check(result: PassResult, before: onnx.ModelProto, *, acts: bool) -> None:
    """The rewrite acted as expected, and what it made is the same function; an unchanged model is equal."""
    assert bool(result.changes) == acts, (result.changes, result.kept)
    if acts:
        same(before, result.model).require(snr_db=FLOAT_DB)
    else:
        assert result.model == before


def against_reference(before: onnx.ModelProto, after: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    feeds = {"x": draw(*shape, seed=3)}
    want, got = reference(before, feeds), open_session(after, optimize=False, threads=1)(feeds)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=2e-5 * np.abs(value).max())
