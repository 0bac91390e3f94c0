"""A pool that rounds its size up where there is nothing to round is a pool that does not.

    (size + pads - reach) % stride == 0   on every axis:   ceil = floor       reach = dilation (kernel - 1) + 1

`ceil_mode` is how some networks were written down (ResNeSt, SqueezeNet, Res2Net), for pictures of any size; at the size
that they run at the last window mostly ends at the edge. What moves a ReLU or a convolution past a pool, makes an
average a depthwise convolution or takes a Pad in must leave alone a pool whose last window may be cut off: ONNX
Runtime's integer AveragePool takes 5 times as long as the one in float, which `depthwise_average` mends.
Acts on AveragePool, MaxPool and LpPool of fixed sizes without automatic padding. Bit-exact.
Source: ONNX operator specification. Test: tests/test_whole_windows.py.
"""

from __future__ import annotations

from typing import Any

import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, is_standard, label
from exporters.sizes import Sizes, fixed_sizes

POOLS = ("AveragePool", "MaxPool", "LpPool")


def run(model: onnx.ModelProto) -> PassResult:
    """Take `ceil_mode` from every pool that it changes nothing for; the others are in `kept` with the reason."""
    graph = Graph(model)
    pools = [n for n in graph.proto.node if any(is_standard(n, op) for op in POOLS) and attributes(n).get("ceil_mode")]
    sizes = fixed_sizes(model) if pools else {}
    changes: list[Change] = []
    kept: list[Kept] = []
    for node in pools:
        reason = _why_not(attributes(node), sizes.get(node.input[0], ()))
        if reason:
            kept.append(Kept(label(node), reason))
            continue
        rest = [a for a in node.attribute if a.name != "ceil_mode"]
        del node.attribute[:]
        node.attribute.extend(rest)
        changes.append(Change(label(node), "its size needs no rounding up"))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _why_not(a: dict[str, Any], sizes: Sizes) -> str:
    """Why the pool with attributes `a` of an image (N, C, ...) may round its size up."""
    kernel = a["kernel_shape"]
    if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return "its padding is automatic"
    image = sizes[2:]
    if len(image) != len(kernel) or None in image:
        return "the size of its image is not fixed"
    ones, pads = [1] * len(kernel), a.get("pads", [0] * 2 * len(kernel))
    axes = zip(image, kernel, a.get("strides", ones), a.get("dilations", ones), pads, pads[len(kernel) :], strict=False)
    left = [((size or 0) + b + e - d * (k - 1) - 1) % stride for size, k, stride, d, b, e in axes]
    return f"its last window is cut off by {max(left)}" if any(left) else ""
