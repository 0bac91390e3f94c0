"""Tensors are paired where they stand for one thing, and nowhere else."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import torch
from torch import nn

from exporters.graph import MODULE_KEY, copy_model, get_meta
from exporters.layerwise.calls import Call, correspond_calls
from exporters.layerwise.correspond import Pair, correspond
from exporters.layerwise.partial import Parts
from exporters.passes import fold_batchnorm
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.rewrites import pad_outputs
from exporters.torch_export import export_module
from small_nets import conv_net, model

MODULES = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.Flatten(),
    nn.Linear(256, 10),
)  # fmt: skip
CALLS = [
    Call("0", 0, "Conv2d", (1, 16, 12, 12), True), Call("1", 0, "BatchNorm2d", (1, 16, 12, 12), True),
    Call("2", 0, "ReLU", (1, 16, 12, 12), True), Call("3", 0, "MaxPool2d", (1, 16, 6, 6), True),
    Call("4", 0, "Conv2d", (1, 16, 4, 4), True), Call("5", 0, "Flatten", (1, 256), True),
    Call("6", 0, "Linear", (1, 10), True), Call("", 0, "Sequential", (1, 10), False),
]  # fmt: skip


@functools.cache
def exported() -> onnx.ModelProto:
    torch.manual_seed(0)
    return export_module(MODULES, (3, 12, 12))


@functools.cache
def int8() -> onnx.ModelProto:
    feeds = [{"input": np.random.default_rng(0).standard_normal((2, 3, 12, 12), np.float32)}]
    return quantize_model(fold_batchnorm.run(exported()).model, feeds, QuantRecipe(), threads=1).model


def renumbered(net: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph as another tool would write it: tensors are numbers, nothing tells of modules."""
    copy = copy_model(net)
    names = {name: str(100 + i) for i, node in enumerate(copy.graph.node) for name in node.output}
    for node in copy.graph.node:
        node.name = ""
        del node.metadata_props[:]
        for ends in (node.input, node.output):
            for i, name in enumerate(ends):
                ends[i] = names.get(name, name)
    for value in [*copy.graph.output, *copy.graph.value_info]:
        value.name = names.get(value.name, value.name)
    return copy


def ops(net: onnx.ModelProto, pairs: tuple[Pair, ...], side: str) -> list[str]:
    parts = Parts(net)
    return [parts.nodes[parts.place[getattr(pair, side)]].op_type for pair in pairs]


def test_a_fold_is_compared_behind_the_batchnorm() -> None:
    net = conv_net()
    folded = fold_batchnorm.run(net).model
    pairs = correspond(Parts(net), Parts(folded))
    assert [pair.reference for pair in pairs] == ["n", "r", "g", "f", "y"]
    assert all(pair.by == "name" and pair.reference == pair.candidate for pair in pairs)
    assert ops(folded, pairs, "candidate")[0] == "Conv"


def test_without_any_names_the_structure_tells() -> None:
    net, folded = conv_net(), renumbered(fold_batchnorm.run(conv_net()).model)
    pairs = correspond(Parts(net), Parts(folded))
    assert [pair.reference for pair in pairs] == ["n", "r", "g", "f", "y"], "the Conv is compared behind its BatchNorm"
    assert ops(net, pairs, "reference")[1:] == ops(folded, pairs, "candidate")[1:]
    assert {pair.by for pair in pairs} == {"structure"}


def test_numbers_that_mean_other_tensors_are_no_names() -> None:
    """Both call their tensors 1, 2, 3; the second has one operator more in front."""
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) '
    one = model(head + "{ t1 = Relu (x) t2 = Exp (t1) t3 = Neg (t2) y = Abs (t3) }")
    two = model(head + "{ t1 = Identity (x) t2 = Relu (t1) t3 = Exp (t2) t4 = Neg (t3) y = Abs (t4) }")
    pairs = {pair.reference: pair.candidate for pair in correspond(Parts(one), Parts(two))}
    assert pairs == {"t1": "t2", "t2": "t3", "t3": "t4", "y": "y"}


def test_int8_keeps_the_module_of_every_node_and_the_names_of_what_is_compared() -> None:
    net = exported()
    known = {get_meta(node)[MODULE_KEY] for node in net.graph.node}
    assert all(get_meta(node)[MODULE_KEY] in known for node in int8().graph.node)
    pairs = correspond(Parts(net), Parts(int8()))
    named = [get_meta(Parts(net).nodes[Parts(net).place[p.reference]])[MODULE_KEY] for p in pairs]
    assert list(filter(None, dict.fromkeys(named))) == ["1", "2", "3", "4", "5", "6"], (
        "all but the Conv that was folded"
    )
    assert "QuantizeLinear" not in ops(int8(), pairs, "candidate"), "integers are not compared with floats"


def test_integers_that_only_integers_read_are_compared_with_no_floats() -> None:
    """Between two pools nothing reads floats: the first one's DequantizeLinear is gone, its integers are left."""
    module = nn.Sequential(nn.Conv2d(3, 16, 1), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Conv2d(16, 16, 1))
    model = export_module(module, (3, 12, 12))
    feeds = [{"input": np.random.default_rng(0).standard_normal((2, 3, 12, 12), np.float32)}]
    reference, candidate = Parts(model), Parts(quantize_model(model, feeds, QuantRecipe()).model)
    kinds = candidate.types()
    found = [pair.candidate for pair in correspond(reference, candidate)]
    assert {kinds[name].elem_type for name in found} == {onnx.TensorProto.FLOAT}
    assert len(found) == 3


def test_a_layer_whose_result_is_cut_on_its_grid_keeps_its_name() -> None:
    """pad_outputs makes 16 channels and a Slice of integers drops 11: the name stands for what comes out of both."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Conv2d(5, 16, 1), nn.Conv2d(16, 16, 1))
    model = export_module(module, (3, 12, 12))
    feeds = [{"input": np.random.default_rng(0).standard_normal((2, 3, 12, 12), np.float32)}]
    int8 = quantize_model(pad_outputs.run(model).model, feeds, QuantRecipe()).model
    pairs = {pair.reference: pair for pair in correspond(Parts(model), Parts(int8))}
    first = model.graph.node[0].output[0]
    assert pairs[first] == Pair(first, first, "name")


def test_calls_of_modules() -> None:
    raw = correspond_calls(CALLS, Parts(exported()))
    assert list(raw) == ["0", "1", "2", "3", "4", "5", ""], "the output is the network's own, whatever module made it"
    for net in (fold_batchnorm.run(exported()).model, int8()):
        found = correspond_calls(CALLS, Parts(net))
        assert "0" not in found, "nothing in the graph is what the Conv alone made"
        assert set(found) >= {"1", "2", "3", "4", ""}
    assert Parts(int8()).nodes[Parts(int8()).place[found["2"]]].op_type in ("Relu", "DequantizeLinear"), "a float"


def test_a_fold_that_left_no_trace() -> None:
    """Another tool folded: the BatchNorm's module has no node left, so the Conv's tensor is the BatchNorm's."""
    net = fold_batchnorm.run(exported()).model
    for node in net.graph.node:
        kept = [(p.key, p.value) for p in node.metadata_props if p.key == MODULE_KEY]
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
    found = correspond_calls(CALLS, Parts(net))
    assert "0" not in found
    assert found["1"] == next(node for node in net.graph.node if node.op_type == "Conv").output[0]
