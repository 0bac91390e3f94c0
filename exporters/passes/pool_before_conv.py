"""An average behind a 1x1 convolution goes in front of it, where the convolution has fewer positions to work at.

    mean over a window of (W x + b)   =   W (mean over the window of x) + b        what is linear commutes with a mean

The convolution then does 1 / (stride^2) of its multiply-adds: a quarter in the transitions of DenseNet, and next to
nothing before a GlobalAveragePool. b is kept where the weights of the mean add up to one, and that they do unless zeros
of the padding are counted. Acts when the pool alone reads an ungrouped or grouped 1x1 convolution without stride or
padding, makes fewer positions than it reads, and the convolution is wide enough to be worth more than the wider pool.
Bound: the same products in another order, 2 (C k - 1) u of their mean magnitude for C channels and k positions (Higham
2002, section 4.2). Source: Huang et al. 2017, section 3 (the transition layer). Test: tests/test_pool_before_conv.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, is_standard, label
from runtimes.base import Array

POOLS = ("AveragePool", "GlobalAveragePool")
WIDE = 16
"""Outputs of a group from which on the saved products are worth more than averages of more channels than before: an
addition of ONNX Runtime's pool takes about as long as 8 multiply-adds of its convolution."""


def run(model: onnx.ModelProto) -> PassResult:
    """Swap every 1x1 convolution and the average behind it; the others are in `kept` with the reason."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for output in [n.output[0] for n in graph.proto.node if any(is_standard(n, op) for op in POOLS)]:
        pool = graph.producer[output]
        conv = graph.producer.get(pool.input[0])
        weight = None if conv is None or not is_standard(conv, "Conv") else graph.constant(conv.input[1])
        if conv is None or weight is None or any(size != 1 for size in weight.shape[2:]):
            continue
        reason = _why_not(graph, conv, pool, weight)
        if reason:
            kept.append(Kept(label(pool), reason))
        else:
            graph.swap(conv, pool, f"{conv.input[0]}.pooled")
            changes.append(Change(label(pool), f"in front of {label(conv)}", _bound(pool, weight)))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _why_not(graph: Graph, conv: onnx.NodeProto, pool: onnx.NodeProto, weight: Array) -> str:
    if graph.only_consumer(conv.output[0]) is None:
        return f"Conv {label(conv)} {graph.why_not_only(conv.output[0])}"
    a = attributes(conv)
    if any(step != 1 for step in a.get("strides", ())) or any(a.get("pads", ())):
        return f"Conv {label(conv)} has a stride or a padding"
    of = attributes(pool)
    if pool.op_type == "AveragePool" and math.prod(of.get("strides", ())) == 1:
        return "it makes as many positions as it reads"
    if len(conv.input) > 2 and conv.input[2] and _counts_zeros(of):
        return f"it counts zeros of its padding, which have no bias of Conv {label(conv)}"
    outputs, inputs = weight.shape[0], weight.shape[1] * int(a.get("group", 1))
    if outputs < inputs and outputs // int(a.get("group", 1)) < WIDE:
        return f"Conv {label(conv)} makes {outputs} channels of {inputs}: pooling before it would be more work"
    return ""


def _counts_zeros(of: dict[str, Any]) -> bool:
    """Whether some window may average zeros of a padding, or positions that `ceil_mode` adds behind the end."""
    padded = any(of.get("pads", ())) or of.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    return bool(of.get("count_include_pad", 0)) and bool(padded or of.get("ceil_mode", 0))


def _bound(pool: onnx.NodeProto, weight: Array) -> float:
    """2 (n - 1) u; infinite for a GlobalAveragePool, whose number of positions is not in the node."""
    size = attributes(pool).get("kernel_shape")
    return math.inf if size is None else float((weight[0].size * math.prod(size) - 1) * np.finfo(np.float32).eps)
