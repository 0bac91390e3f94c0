"""A BatchNormalization that no layer took becomes a depthwise 1x1 convolution, which has an integer kernel.

    BN(x)  =  g x + (shift - g mean),  g = scale / sqrt(variance + epsilon)       one filter of one weight a channel

It is left where a ReLU, a sum, a Concat or a padded convolution stands between it and the layers: in networks that
normalize first (pre-activation ResNets, DenseNets, face networks). In float it lies between two grids, and costs a
Dequantize, its own kernel and a Quantize. One weight a channel is the end of that channel's grid, and so exact.
Acts on float32 images at rest with constant parameters. Refused: training mode, parameters that are not constant, other
numbers of dimensions. Bound: 4 u of |g x| and of what is added up to the shift (Higham 2002, section 2.2).
Source: Ioffe and Szegedy 2015, "Batch Normalization". Test: tests/test_depthwise_batchnorm.py.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from exporters.base import Change, Kept, PassResult
from exporters.fold.recognize import KeepIt, batchnorm_of
from exporters.fold.scope import Scope
from exporters.graph import Graph, label
from exporters.searching.blocks import Chain, Conv, nodes_of
from exporters.shape_inference import Types, shape_of, tensor_types

BOUND = 4 * float(np.finfo(np.float32).eps) / 2


def run(model: onnx.ModelProto) -> PassResult:
    """Replace every BatchNormalization of images; the others are in `kept` with the reason."""
    graph = Graph(model)
    norms = nodes_of(graph, "BatchNormalization")
    types = tensor_types(model) if norms else {}
    changes: list[Change] = []
    kept: list[Kept] = []
    for name in norms:
        node = graph.producer[name]
        try:
            conv = _as_conv(model, node, types)
        except KeepIt as reason:
            kept.append(Kept(label(node), str(reason)))
            continue
        chain = Chain(graph, node)
        chain.conv(node.input[0], conv, name)
        chain.write([node])
        changes.append(Change(label(node), f"a depthwise convolution of {conv.outputs} channels", BOUND))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _as_conv(model: onnx.ModelProto, node: onnx.NodeProto, types: Types) -> Conv:
    """The convolution that does what the BatchNormalization `node` does; raises `KeepIt` where there is none."""
    affine = batchnorm_of(Scope(model, model.graph), node)
    kind = types.get(node.input[0])
    shape = shape_of(kind)
    if kind is None or shape is None or len(shape) != 4 or kind.elem_type != TensorProto.FLOAT:
        raise KeepIt("it does not (or is not known to) normalize 2-D float32 images")
    slope, shift = (part.value.astype(np.float32) for part in (affine.slope, affine.shift))
    return Conv(slope.reshape(-1, 1, 1, 1), shift, group=affine.channels)
