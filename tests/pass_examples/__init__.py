"""One file a pass (or rewrite): `EXAMPLES`, name -> a model on which it has something to do.

`tests/test_passes_contract.py` runs the pass of the same name on each of them. A model of open sizes must run with 16
for all of them but the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from exporters.graph import MODULE_KEY, set_meta

HEAD = '<ir_version: 9, opset_import: ["" : 18]>'


def build(text: str, values: Mapping[str, Any] | None = None, head: str = HEAD) -> onnx.ModelProto:
    """The graph `text` (onnx.parser, without its head) with initializers; its nodes have names and modules."""
    model = parser.parse_model(head + text)
    tensors = {name: np.asarray(value) for name, value in (values or {}).items()}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
    for node in model.graph.node:
        node.name = f"net.{node.output[0]}"
        set_meta(node, {MODULE_KEY: f"module.{node.output[0]}"})
    set_meta(model, {"edgecnn.stages": "[]"})
    onnx.checker.check_model(model, full_check=True)
    return model


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded normal float32 numbers."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def statistics(channels: int) -> dict[str, np.ndarray]:
    """Four parameters of a BatchNormalization: s(cale), h (shift), m(ean), v(ariance)."""
    parts = {k: draw(channels, seed=i) for i, k in enumerate("shm")}
    return {**parts, "v": np.abs(draw(channels, seed=9)) + np.float32(0.1)}
