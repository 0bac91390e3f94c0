"""Convolutions of one tensor whose results are added up are one convolution; so is a BatchNormalization beside them.

    W1 * x + b1 + W2 * x + b2 + (s x + t)   =   (W1 + W2 + s I) * x + (b1 + b2 + t)

Smaller kernels are put into the largest where their padding says that they lie; I is the kernel that hands x on.
RepVGG, MobileOne and their kin are trained so, and are slow until it is done.
Acts on an Add (or a tree of them) of at least two such branches that nothing else reads, where one kernel covers all
others. Refused: other strides, groups or dilations than the first's, and constants that are none. Bound: sums of n
products in another order. Source: Ding et al. 2021, "RepVGG: Making VGG-style ConvNets Great Again".
Test: tests/test_merge_branches.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, is_standard, label
from exporters.searching.blocks import Chain, Conv, nodes_of, read_conv
from runtimes.base import Array

EPSILON = 1e-5
"""Of a BatchNormalization that names none."""


def merged(branches: Sequence[Conv]) -> Conv | str:
    """The one convolution that gives the sum of `branches`, or the reason why there is none."""
    first = branches[0]
    for what in ("strides", "group", "outputs", "inputs"):
        if any(getattr(branch, what) != getattr(first, what) for branch in branches):
            return f"its branches differ in {what}"
    if any(branch.dilations != (1, 1) for branch in branches):
        return "a branch is dilated"
    ahead = [max(branch.pads[axis] for branch in branches) for axis in (0, 1)]
    size = [ahead[a] + max(branch.kernel[a] - branch.pads[a] for branch in branches) for a in (0, 1)]
    cover = next((branch for branch in branches if list(branch.kernel) == size), None)
    if cover is None or any(_growth(branch) != _growth(cover) for branch in branches):
        return "no kernel of its branches covers all others"
    weight = np.zeros((*first.weight.shape[:2], *size))
    for branch in branches:
        top, left = ahead[0] - branch.pads[0], ahead[1] - branch.pads[1]
        weight[:, :, top : top + branch.kernel[0], left : left + branch.kernel[1]] += branch.weight
    biases = [branch.bias.astype(np.float64) for branch in branches if branch.bias is not None]
    bias = np.sum(biases, axis=0).astype(np.float32) if biases else None
    return replace(cover, weight=weight.astype(np.float32), bias=bias)


def _growth(conv: Conv) -> tuple[int, int]:
    """By how much its output is larger than its input, at stride 1."""
    top, left, bottom, right = conv.pads
    return top + bottom - conv.kernel[0], left + right - conv.kernel[1]


def scaling(scale: Array, shift: Array, group: int) -> Conv:
    """The 1x1 convolution of `group` groups that gives scale x + shift, both (C,)."""
    channels = len(scale)
    weight = np.zeros((channels, channels // group, 1, 1), np.float32)
    weight[np.arange(channels), np.arange(channels) % (channels // group), 0, 0] = scale
    return Conv(weight, shift.astype(np.float32), group=group)


def run(model: onnx.ModelProto) -> PassResult:
    """Merge every sum of branches, the largest sums first; sums of branches that do not fit are in `kept`."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for name in reversed(nodes_of(graph, "Add")):
        node = graph.producer.get(name)
        adds, leaves = _sum(graph, node) if node is not None else ([], [])
        makers = [graph.producer[leaf] for leaf in leaves if leaf in graph.producer]
        if node is None or len(makers) < len(leaves) or not _are_branches(graph, makers):
            continue
        found = _merged(graph, makers)
        if isinstance(found, str):
            kept.append(Kept(label(node), found))
            continue
        chain = Chain(graph, next(maker for maker in makers if is_standard(maker, "Conv")))
        chain.conv(makers[0].input[0], found, name)
        chain.write([*makers, *adds])
        changes.append(Change(label(node), f"{len(makers)} branches are one convolution", found.bound * len(makers)))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _sum(graph: Graph, node: onnx.NodeProto) -> tuple[list[onnx.NodeProto], list[str]]:
    """(the Adds of the tree that ends in `node`, what they add up)."""
    adds = [node]
    leaves: list[str] = []
    for name in node.input:
        before = graph.producer.get(name)
        if before is not None and is_standard(before, "Add") and graph.only_consumer(name) is node:
            inner = _sum(graph, before)
            adds, leaves = [*adds, *inner[0]], [*leaves, *inner[1]]
        else:
            leaves.append(name)
    return adds, leaves


def _are_branches(graph: Graph, makers: list[onnx.NodeProto]) -> bool:
    """Whether they are convolutions (one at least) and BatchNormalizations of one tensor that only the sum reads."""
    kinds = [next((op for op in ("Conv", "BatchNormalization") if is_standard(m, op)), "") for m in makers]
    alone = all(graph.only_consumer(maker.output[0]) is not None for maker in makers)
    return "" not in kinds and "Conv" in kinds and alone and len({maker.input[0] for maker in makers}) == 1


def _merged(graph: Graph, makers: list[onnx.NodeProto]) -> Conv | str:
    convs = [read_conv(graph, maker) for maker in makers if is_standard(maker, "Conv")]
    reason = next((conv for conv in convs if isinstance(conv, str)), "")
    if reason:
        return reason
    branches = [conv for conv in convs if isinstance(conv, Conv)]
    for maker in makers:
        if is_standard(maker, "BatchNormalization"):
            affine = _affine(graph, maker)
            if isinstance(affine, str):
                return affine
            if len(affine[0]) % branches[0].group:
                return "its branches differ in group"
            branches.append(scaling(*affine, branches[0].group))
    return merged(branches)


def _affine(graph: Graph, node: onnx.NodeProto) -> tuple[Array, Array] | str:
    """(scale, shift) of a BatchNormalization at rest, each float64 (C,)."""
    values = [graph.constant(name) for name in node.input[1:5]]
    a = attributes(node)
    if a.get("training_mode", 0) or len([name for name in node.output if name]) > 1:
        return "its BatchNormalization is in training mode"
    if len(values) < 4 or any(v is None or v.dtype != np.float32 for v in values):
        return "its BatchNormalization's numbers are not constant float32"
    gamma, beta, mean, variance = (value.astype(np.float64) for value in values if value is not None)
    scale = gamma / np.sqrt(variance + a.get("epsilon", EPSILON))
    return scale, beta - mean * scale
