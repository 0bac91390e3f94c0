"""A constant that is cast to the type of another tensor is a constant of that type.

    CastLike(5, x)  =  5.0      where x is known to be float32

PyTorch writes the ends of `hardtanh` and the numbers of other operators so. A Clip whose ends are computed is neither
merged with the convolution in front of it nor moved to integers.
Source: ONNX operator specification, CastLike. Test: tests/test_cast_constants.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from exporters.base import Change, PassResult
from exporters.graph import Graph, is_standard, label
from exporters.shape_inference import tensor_types
from runtimes.base import Array

KINDS = "biuf"
"""Types that numpy and ONNX cast alike: truth values, whole numbers, floating point numbers."""


def run(model: onnx.ModelProto) -> PassResult:
    """Replace every CastLike of a constant; readers of what it gave read the new constant."""
    graph = Graph(model)
    names = [node.output[0] for node in graph.proto.node if is_standard(node, "CastLike")]
    types = tensor_types(model) if names else {}
    changes: list[Change] = []
    for name in names:
        node = graph.producer[name]
        value, kind = graph.constant(node.input[0]), types.get(node.input[1])
        if value is None or kind is None or not kind.elem_type or name in graph.outputs or name in graph.captured:
            continue
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if value.dtype.kind not in KINDS or dtype.kind not in KINDS or not _fits(value, dtype):
            continue
        behind = list(node.input)
        graph.redirect(name, graph.add_constant(value.astype(dtype), f"{name}_value"))
        graph.replace([graph.producer[name]], [])
        graph.forget(name)
        graph.drop_unread(behind)
        changes.append(Change(label(node), f"a constant {dtype}"))
    return PassResult(graph.model, tuple(changes))


def _fits(value: Array, dtype: np.dtype[Any]) -> bool:
    """Whether the type can hold the numbers; what is too large becomes a whole number nobody promised."""
    if dtype.kind not in "iu" or value.dtype.kind == "b":
        return True
    ends = np.iinfo(dtype)
    return bool(np.isfinite(value).all() and (value >= ends.min).all() and (value <= ends.max).all())
