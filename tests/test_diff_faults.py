"""Twenty faults, each planted somewhere in a network of real depth, are named: node, module, few partial runs.

The reference is the graph as exported; the candidate has its BatchNorms folded, or is int8, so that the names must
come through. Limit on partial runs: ceil(log2(nodes)) + 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest

import planted as p
from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.diff import find
from edgecnn.checking.divergence import DiffReport
from edgecnn.checking.sides import graph_side
from edgecnn.networks.sources import resolve
from exporters.graph import ABSORBED_KEY, MODULE_KEY, get_meta
from exporters.passes import fold_batchnorm
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.torch_export import export_module
from runtimes.session import random_feeds

SIZES = {"resnet18": "3,64,64", "mobilenet_v2": "3,64,64", "unet_w8": "3,64,64"}


@functools.cache
def exported(name: str) -> onnx.ModelProto:
    """The network with seeded weights and live BatchNorm statistics, as PyTorch exports it."""
    network = resolve(name, None, SIZES[name])
    return export_module(network.module, network.input_shape)


@functools.cache
def folded(name: str) -> onnx.ModelProto:
    return fold_batchnorm.run(exported(name)).model


@functools.cache
def int8(name: str) -> onnx.ModelProto:
    feeds = [random_feeds(graph_side(folded(name), name).inputs, 1, seed) for seed in range(2)]
    return quantize_model(folded(name), feeds, QuantRecipe(), threads=1).model


def parted(reference: onnx.ModelProto, candidate: onnx.ModelProto, samples: int = 2, **options: object) -> DiffReport:
    ours, theirs = (graph_side(m, name, threads=1) for m, name in ((reference, "good"), (candidate, "bad")))
    feeds = [random_feeds(ours.inputs, 1, 100 + seed) for seed in range(samples)]
    return find(compare_sides(ours, theirs, feeds, options.pop("limit_db", None)), **options)


FOLDED = [
    ("resnet18", "Conv", p.has_weight, p.drop_bias, "bias dropped"),
    ("resnet18", "Conv", p.kernel3, p.set_to(pads=[2, 1, 0, 1]), "padding flipped"),
    ("resnet18", "Conv", p.has_weight, p.change(1, lambda w: w * np.float32(1.01)), "scale wrong by a percent"),
    ("resnet18", "Conv", p.square, p.change(1, lambda w: w.transpose(1, 0, 2, 3)), "transposed weight"),
    ("resnet18", "Conv", p.strided, p.set_to(strides=[1, 1]), "wrong stride: what follows does not run"),
    ("resnet18", "ReduceMean", p.anywhere, p.lose_axes, "wrong opset conversion: axes lost"),
    ("resnet18", "ReduceMean", p.anywhere, p.change(1, lambda a: a[:1]), "wrong axis"),
    ("mobilenet_v2", "Conv", p.depthwise, p.dilated, "wrong dilation"),
    ("mobilenet_v2", "Clip", p.anywhere, p.change(2, lambda v: v / 6), "clipped range"),
    ("mobilenet_v2", "Conv", p.depthwise, p.change(1, lambda w: w[:, :, ::-1, ::-1]), "kernel flipped"),
    ("mobilenet_v2", "Conv", p.has_weight, p.drop_bias, "bias dropped"),
    ("mobilenet_v2", "Gemm", p.anywhere, p.transposed_after_the_fact, "weight of the classifier transposed"),
    ("unet_w8", "Concat", p.anywhere, p.swap_inputs, "concat inputs swapped"),
    ("unet_w8", "Concat", p.anywhere, p.set_to(axis=2), "wrong axis: what follows does not run"),
    ("unet_w8", "ConvTranspose", p.anywhere, p.change(1, lambda w: w[:, :, :, ::-1]), "transposed kernel flipped"),
    ("unet_w8", "MaxPool", p.anywhere, p.average, "another pool"),
]


@pytest.mark.parametrize(("name", "op", "fits", "fault", "what"), FOLDED, ids=[f"{c[0]}: {c[4]}" for c in FOLDED])
def test_faults_behind_a_fold(name: str, op: str, fits: Callable, fault: p.Fault, what: str) -> None:
    rng = np.random.default_rng(len(what))
    candidate, node = p.plant(folded(name), rng, op, fits, fault)
    named_right(parted(exported(name), candidate), node)


def test_a_wrong_epsilon_before_the_fold() -> None:
    """The node that is at fault is gone; the one that it was folded into is named."""
    for name in ("resnet18", "mobilenet_v2"):
        rng = np.random.default_rng(7)
        faulty, norm = p.plant(exported(name), rng, "BatchNormalization", p.anywhere, p.set_to(epsilon=1e-3))
        candidate = fold_batchnorm.run(faulty).model
        node = next(n for n in candidate.graph.node if norm.name in get_meta(n).get(ABSORBED_KEY, "").split("\n"))
        named_right(parted(exported(name), candidate), node)
        named_right(parted(exported(name), faulty), norm)


def scale_half_again(scale: np.ndarray) -> np.ndarray:
    return np.float32(1.5) * scale


INT8 = [
    ("resnet18", p.activation, p.change(2, lambda zero: zero + np.uint8(1)), "zero point off by one"),
    ("resnet18", p.square_weight, p.set_to(axis=1), "per-channel axis wrong"),
    ("unet_w8", p.activation, p.change(1, scale_half_again), "scale wrong"),
]


@pytest.mark.parametrize(("name", "fits", "fault", "what"), INT8, ids=[c[3] for c in INT8])
def test_faults_in_int8_against_the_right_int8(name: str, fits: Callable, fault: p.Fault, what: str) -> None:
    candidate, node = p.plant(int8(name), np.random.default_rng(3), "DequantizeLinear", fits, fault)
    named_right(parted(int8(name), candidate), node)


def test_a_wrong_scale_in_int8_against_float() -> None:
    """All layers are off by their rounding; the one that is off by more is named: node and module as in float."""
    candidate, node = p.plant(
        int8("unet_w8"), np.random.default_rng(3), "DequantizeLinear", p.activation, p.change(1, scale_half_again)
    )
    report = parted(exported("unet_w8"), candidate)
    assert report.first is not None
    assert report.first.module == get_meta(node)[MODULE_KEY]
    assert report.first.alone_db < 20


@pytest.mark.parametrize("name", sorted(SIZES))
def test_what_passes_do_is_no_fault(name: str) -> None:
    """A folded graph, and a healthy int8 one, against the graph as exported."""
    report = parted(exported(name), folded(name))
    assert report.first is None
    assert report.partial_runs == 1
    healthy = parted(exported(name), int8(name))
    assert healthy.first is None, healthy.verdict
    assert "no layer drops suddenly" in healthy.notes[0]


def named_right(report: DiffReport, node: onnx.NodeProto) -> None:
    assert report.first is not None
    assert (report.first.node, report.first.module) == (node.name, get_meta(node)[MODULE_KEY])
    assert report.first.at_fault
    assert report.partial_runs <= math.ceil(math.log2(report.nodes)) + 2
    assert not report.notes, "found by bisection alone"
