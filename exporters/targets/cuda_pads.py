"""Convolutions that are padded alike on both sides, as cuDNN's kernels want them: zeros in the kernel make up for it.

    y[i] = sum_u w[u] x[s i + d u - p]   =   sum_u w'[u] x[s i + d u - p - d n],   w' = w with n zeros in front

Padding p in front and q > p behind becomes q and q with n = (q - p) / d zeros in front of the kernel, and p > q so with
zeros behind it: the same products, the same sizes, more of them zero. ONNX Runtime gives cuDNN the pads as they
are, which answers "No valid engine configs" where no kernel takes them: TensorFlow's strided convolutions, and the
first convolution on blocks (`space_to_depth`). Acts on fixed weights and written pads; others stay.
Source: NVIDIA cuDNN documentation, support surfaces of convolution; ONNX Runtime, issue 26274 and `conv.cc`.
Test: tests/test_cuda_pads.py.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from exporters.graph import Graph, attributes, is_standard
from runtimes.base import Array


def even_pads(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which every Conv that can be is padded alike on both sides; the same function, exactly."""
    graph = Graph(model)
    for node in graph.proto.node:
        if is_standard(node, "Conv"):
            _even(graph, node)
    return graph.model


def _even(graph: Graph, node: onnx.NodeProto) -> None:
    given, weight = attributes(node), graph.constant(node.input[1])
    pads = list(given.get("pads", ()))
    axes = len(pads) // 2
    sides = list(zip(pads[:axes], pads[axes:], given.get("dilations", [1] * axes), strict=True))
    if weight is None or given.get("auto_pad", b"NOTSET") != b"NOTSET" or any((q - p) % d for p, q, d in sides):
        return
    if all(p == q for p, q, _ in sides):
        return
    more = [(max(q - p, 0) // d, max(p - q, 0) // d) for p, q, d in sides]
    larger: Array = np.pad(weight, [(0, 0), (0, 0), *more])
    graph.set_constant(node, 1, larger, f"{node.input[1]}_even")
    written = {"pads": [max(p, q) for p, q, _ in sides] * 2, "kernel_shape": larger.shape[2:]}
    kept = [a for a in node.attribute if a.name not in written]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in written.items())])
