"""An AveragePool becomes the depthwise convolution that it is, for which there is a fast integer kernel.

    mean over a kh x kw window   =   sum over the window of x / (kh kw)         one filter a channel, all weights equal

ONNX Runtime's integer AveragePool takes 14 times as long as the one in float (DenseNet's transitions, AVX2, 1 thread);
its depthwise convolution does not. All weights are one number, so that their grid is exact.
Acts on 2-D float32 pools with a known number of channels whose every window divides by kh kw. Refused: padding that is
not counted, `ceil_mode`, automatic padding, unknown channels. Bound: u for the weight and 2 (n - 1) u for the order of
the sum (Higham 2002, section 4.2). Source: ONNX operator specification, AveragePool. Test:
tests/test_depthwise_average.py.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, label
from exporters.searching.blocks import Chain, Conv, nodes_of
from exporters.shape_inference import shape_of, tensor_types


def run(model: onnx.ModelProto) -> PassResult:
    """Replace every AveragePool of images; the others are in `kept` with the reason."""
    graph = Graph(model)
    pools = nodes_of(graph, "AveragePool")
    types = tensor_types(model) if pools else {}
    changes: list[Change] = []
    kept: list[Kept] = []
    for name in pools:
        node = graph.producer[name]
        conv = _as_conv(node, types.get(node.input[0]))
        if isinstance(conv, str):
            kept.append(Kept(label(node), conv))
        else:
            chain = Chain(graph, node)
            chain.conv(node.input[0], conv, node.output[0])
            chain.write([node])
            size = "x".join(map(str, conv.kernel))
            changes.append(Change(label(node), f"a depthwise {size} convolution", conv.bound + _UNIT))
    return PassResult(graph.model, tuple(changes), tuple(kept))


_UNIT = float(np.finfo(np.float32).eps) / 2


def _as_conv(node: onnx.NodeProto, kind: onnx.TypeProto.Tensor | None) -> Conv | str:
    """The convolution with the pool's window, or the reason why there is none."""
    shape = shape_of(kind)
    if kind is None or shape is None or shape[1] is None:
        return "its number of channels is not known"
    if len(shape) != 4 or kind.elem_type != TensorProto.FLOAT:
        return f"it pools {len(shape) - 2}-D {TensorProto.DataType.Name(kind.elem_type).lower()}, not 2-D float32"
    a = attributes(node)
    pads = tuple(a.get("pads", [0] * 4))
    if a.get("ceil_mode", 0):
        return "its last window may be cut off (ceil_mode)"
    if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return "its padding is automatic"
    if any(pads) and not a.get("count_include_pad", 0):
        return "its windows at the edge divide by fewer pixels: zeros of the padding are not counted"
    kernel = tuple(a["kernel_shape"])
    weight = np.full((shape[1], 1, *kernel), 1.0 / math.prod(kernel), np.float32)
    strides, dilations = tuple(a.get("strides", [1, 1])), tuple(a.get("dilations", [1, 1]))
    return Conv(weight, None, strides, pads, dilations, shape[1])
