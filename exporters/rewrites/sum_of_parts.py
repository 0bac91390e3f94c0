"""A sum over a short axis that stands beside the channels becomes sums of images, for which there are integer kernels.

    ReduceSum(reshape(x), axis 1)        =   x_1 + ... + x_r              x (N, r C, H, W), reshaped to (N, r, C, H, W)
    ReduceSum(reshape(x) * a, axis 1)    =   x_1 a_1 + ... + x_r a_r      a (N, r, C, 1, 1)      x_i: C channels of x

Split attention (ResNeSt) adds up its branches so. ReduceSum has no integer kernel, its input is an image no longer, and
it takes a multiple of the additions' time: ResNeSt-14 in int8 is 1.32x as fast without. Acts on axis 1 of size 2 to 4
of five axes, of sizes that are fixed but for the batch, on a float32 Reshape of an image or its product with another
tensor of five axes. Bound: r products in the order of their index, 2 (r - 1) u (Higham 2002, section 4.2).
Source: Zhang et al. 2020, "ResNeSt: Split-Attention Networks". Test: tests/test_sum_of_parts.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, copy_model, is_standard, label
from exporters.searching.blocks import Chain, nodes_of
from exporters.shape_inference import tensor_types
from exporters.sizes import Sizes, fixed_sizes

MOST_PARTS = 4
AXIS, RANK = 1, 5
_UNIT = float(np.finfo(np.float32).eps)


def run(model: onnx.ModelProto) -> PassResult:
    """Write every short sum as additions; those that stay are in `kept` with the reason."""
    graph = Graph(model)
    names = nodes_of(graph, "ReduceSum")
    sizes = fixed_sizes(model) if names else {}
    types = tensor_types(model) if names else {}
    changes: list[Change] = []
    kept: list[Kept] = []
    for name in names:
        node = graph.producer[name]
        given = sizes.get(node.input[0], ())
        if len(given) != RANK or not 2 <= (given[AXIS] or 0) <= MOST_PARTS:
            continue
        kind = types.get(node.input[0])
        reason = _why_not(graph, node, given)
        if kind is None or kind.elem_type != TensorProto.FLOAT:
            reason = "it does not add up float32"
        parts = _Parts(graph, Chain(graph, node), sizes, given)
        made = parts.of(node.input[0]) if not reason else None
        if made is None:
            kept.append(Kept(label(node), reason or "what it adds up is no image in parts"))
            continue
        parts.write(node, made)
        changes.append(Change(label(node), f"a sum of {len(made)} images", (len(made) - 1) * _UNIT))
    if not changes:
        return PassResult(copy_model(model), (), tuple(kept))
    graph.prune()
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _why_not(graph: Graph, node: onnx.NodeProto, given: Sizes) -> str:
    axes = graph.constant(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    if axes is None or axes.tolist() not in ([AXIS], [AXIS - RANK]) or attributes(node).get("keepdims", 1):
        return "it adds up other axes, or keeps them"
    return "its sizes are not fixed" if None in given[1:] else ""


class _Parts:
    """The images that a tensor (N, r, C, H, W) consists of, made by `chain`."""

    def __init__(self, graph: Graph, chain: Chain, sizes: Mapping[str, Sizes], given: Sizes) -> None:
        self.graph, self.chain, self.sizes, self.given = graph, chain, sizes, given

    def of(self, name: str) -> list[str] | None:
        """The r parts of tensor `name`; None where it is neither an image's Reshape nor a product with one."""
        maker = self.graph.producer.get(name)
        if maker is None or self.sizes.get(name, ())[1:2] != self.given[1:2]:
            return None
        if is_standard(maker, "Reshape"):
            return self._split(maker.input[0], name)
        if not is_standard(maker, "Mul") or any(len(self.sizes.get(n, ())) != RANK for n in maker.input):
            return None
        sides = [self.of(factor) for factor in maker.input]
        if sides[0] is None or sides[1] is None:
            return None
        return [self.chain.node("Mul", [a, b]) for a, b in zip(*sides, strict=True)]

    def _split(self, image: str, name: str) -> list[str] | None:
        """The parts of a Reshape of `image` to `name`."""
        r, channels, *rest = self.given_of(name)
        before = self.sizes.get(image, ())
        if before[1:] != (r * channels, *rest) or len(before) != RANK - 1:
            return self._apart(image, r, channels, rest)
        return self._parts(image, r, channels)

    def given_of(self, name: str) -> list[int]:
        return [size or 0 for size in self.sizes[name][1:]]

    def _apart(self, source: str, r: int, channels: int, rest: list[int]) -> list[str] | None:
        """What has no positions, such as weights of the parts, is a small image for the asking."""
        if rest != [1, 1] or 0 in (r, channels):
            return None
        return self._parts(self.chain.reshape(source, [-1, r * channels, 1, 1]), r, channels)

    def _parts(self, image: str, r: int, channels: int) -> list[str]:
        sizes = self.chain.constant(np.full(r, channels, np.int64), "sizes")
        names = [self.graph.fresh(f"{image}.part") for _ in range(r)]
        self.chain.node("Split", [image, sizes], names[0], axis=AXIS)
        self.chain.nodes[-1].output.extend(names[1:])
        return names

    def write(self, node: onnx.NodeProto, made: list[str]) -> None:
        total = made[0]
        for part in made[1:-1]:
            total = self.chain.node("Add", [total, part])
        self.chain.node("Add", [total, made[-1]], node.output[0])
        self.chain.write([node])
