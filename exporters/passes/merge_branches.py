"""Convolutions of one tensor whose results are added up are one convolution; so is a BatchNormalization beside them.

    W1 * x + b1 - W2 * x - b2 + (s x + t)   =   (W1 - W2 + s I) * x + (b1 - b2 + t)

Smaller kernels are put into the largest where their padding says that they lie; I is the kernel that hands x on.
RepVGG, MobileOne, FastViT, RepViT and their kin are trained so, and are slow until it is done.
Acts on an Add or Sub (or a tree of them) of at least two such branches that nothing else reads, where one kernel covers
all others; beside depthwise convolutions x itself is a branch too. Refused: other strides, groups or dilations than the
first's, and constants that are none. Bound: sums of n products in another order. Source: Ding et al. 2021, "RepVGG:
Making VGG-style ConvNets Great Again"; Vasu et al. 2023, "FastViT", section 3.2.
Test: tests/test_merge_branches.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
    for name in reversed(nodes_of(graph, "Add", "Sub")):
        node = graph.producer.get(name)
        adds, leaves = _sum(graph, node) if node is not None else ([], [])
        source = _source(graph, leaves, adds)
        if node is None or not source:
            continue
        found = _merged(graph, source, leaves)
        if isinstance(found, str):
            kept.append(Kept(label(node), found))
            continue
        makers = [graph.producer[name] for name in dict.fromkeys(leaf.name for leaf in leaves) if name != source]
        chain = Chain(graph, next(maker for maker in makers if is_standard(maker, "Conv")))
        chain.conv(source, found, name)
        chain.write([*makers, *adds])
        changes.append(Change(label(node), f"{len(leaves)} branches are one convolution", found.bound * len(leaves)))
    return PassResult(graph.model, tuple(changes), tuple(kept))


@dataclass(frozen=True)
class _Leaf:
    """A tensor of a sum, and the sign with which it is added."""

    name: str
    sign: int


def _sum(graph: Graph, node: onnx.NodeProto, sign: int = 1) -> tuple[list[onnx.NodeProto], list[_Leaf]]:
    """(the Adds and Subs of the tree that ends in `node`, what they add up, `sign` times)."""
    adds = [node]
    leaves: list[_Leaf] = []
    for name, factor in zip(node.input, (sign, -sign if node.op_type == "Sub" else sign), strict=True):
        before = graph.producer.get(name)
        if before is not None and _adds(before) and graph.only_consumer(name) is node:
            inner = _sum(graph, before, factor)
            adds, leaves = [*adds, *inner[0]], [*leaves, *inner[1]]
        else:
            leaves.append(_Leaf(name, factor))
    return adds, leaves


def _adds(node: onnx.NodeProto) -> bool:
    return is_standard(node, "Add") or is_standard(node, "Sub")


def _source(graph: Graph, leaves: Sequence[_Leaf], adds: Sequence[onnx.NodeProto]) -> str:
    """The tensor of which all `leaves` are branches that only `adds` read: one convolution at least; empty if none.

    It may be a leaf itself beside depthwise convolutions. Beside others its 1 would be the largest weight of a row by
    far, and leave them few of the steps of 8 bits.
    """
    makers = {leaf.name: graph.producer[leaf.name] for leaf in leaves if leaf.name in graph.producer}
    convs = [maker for maker in makers.values() if is_standard(maker, "Conv")]
    for source in dict.fromkeys(conv.input[0] for conv in convs):
        branches = [leaf.name for leaf in leaves if leaf.name != source]
        of_it = all(name in makers and _is_branch(graph, makers[name], source, adds) for name in branches)
        if of_it and len(leaves) > 1 and (len(branches) == len(leaves) or _are_depthwise(graph, makers, branches)):
            return str(source)
    return ""


def _is_branch(graph: Graph, maker: onnx.NodeProto, source: str, adds: Sequence[onnx.NodeProto]) -> bool:
    """Of `source`, and of no use to others: FastViT's two normalizations are one before they are trained apart."""
    known = is_standard(maker, "Conv") or is_standard(maker, "BatchNormalization")
    name = maker.output[0]
    free = name not in graph.outputs and name not in graph.captured
    within = all(any(reader is add for add in adds) for reader in graph.consumers[name])
    return known and maker.input[0] == source and free and within


def _are_depthwise(graph: Graph, makers: Mapping[str, onnx.NodeProto], branches: Sequence[str]) -> bool:
    convs = [read_conv(graph, makers[name]) for name in branches if is_standard(makers[name], "Conv")]
    return all(isinstance(conv, Conv) and conv.depthwise for conv in convs)


def _merged(graph: Graph, source: str, leaves: Sequence[_Leaf]) -> Conv | str:
    makers = [graph.producer.get(leaf.name) if leaf.name != source else None for leaf in leaves]
    read = [read_conv(graph, maker) for maker in makers if maker is not None and is_standard(maker, "Conv")]
    first = read[0]
    if isinstance(first, str):
        return first
    branches: list[Conv] = []
    for maker, leaf in zip(makers, leaves, strict=True):
        branch = _branch(graph, maker, first)
        if isinstance(branch, str):
            return branch
        branches.append(branch if leaf.sign > 0 else negative(branch))
    return merged(branches)


def _branch(graph: Graph, maker: onnx.NodeProto | None, first: Conv) -> Conv | str:
    """The branch that `maker` computes (None: x itself) as a convolution in the groups of `first`, or why not."""
    if maker is not None and is_standard(maker, "Conv"):
        return read_conv(graph, maker)
    ones = np.ones(first.inputs, np.float32)
    affine = (ones, 0 * ones) if maker is None else _affine(graph, maker)
    if isinstance(affine, str):
        return affine
    scale, shift = affine
    return scaling(scale, shift, first.group)


def negative(conv: Conv) -> Conv:
    """The convolution whose answer is taken away instead of added."""
    return replace(conv, weight=-conv.weight, bias=None if conv.bias is None else -conv.bias)


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
