"""Channels that a rewrite padded are taken away again, wherever they lie: at the end, inside joined pieces, twice."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.diff import find
from edgecnn.checking.divergence import DiffReport
from edgecnn.checking.sides import graph_side
from edgecnn.checking.torch_side import module_side
from edgecnn.networks.sources import resolve
from exporters.graph import MODULE_KEY, get_meta
from exporters.layerwise.channel_ties import Ties
from exporters.layerwise.partial import Parts
from exporters.layerwise.unpadded import channel_counts, padded_names, real_places, unpadded
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.rewrites import pad_channels, pad_depthwise
from exporters.torch_export import export_module
from pass_examples import build, draw
from pass_examples import pad_depthwise as depthwise_examples
from planted import weight

IMAGES = [np.random.default_rng(seed).standard_normal((1, 4, 6, 6)).astype(np.float32) for seed in range(8)]
SAME = "pads: ints = [1,1,1,1]"


# ------------------------------------------------------------------------------------------------------- the networks
def network(body: str) -> onnx.ModelProto:
    """`body` between x (4 channels) and y; wO_I are 1x1 convolutions, kO_I 3x3 ones, dC depthwise ones, bO biases."""
    sizes = {name: (int(o), int(i), 1, 1) for name, o, i in re.findall(r"\b(w(\d+)_(\d+))", body)}
    sizes |= {name: (int(o), int(i), 3, 3) for name, o, i in re.findall(r"\b(k(\d+)_(\d+))", body)}
    sizes |= {name: (int(c), 1, 3, 3) for name, c in re.findall(r"\b(d(\d+))\b", body)}
    values = {name: draw(*size) / np.float32(np.sqrt(np.prod(size[1:]))) for name, size in sizes.items()}
    values |= {name: draw(int(o)) for name, o in re.findall(r"\b(b(\d+))\b", body)}
    values |= {f"n{at}": np.int64([int(at)]) for at in re.findall(r"\bn(\d+)", body)}
    return build(f" g (float[N,4,6,6] x) => (float[N,4,6,6] y) {{ {body} }}", values)


BODIES = {
    "at the end": f"""a = Conv (x, w10_4, b10) s = Sigmoid (a) m = Mul (a, s)
        c = Conv <group = 10, {SAME}> (m, d10, b10) r = Relu (c) y = Conv (r, w4_10)""",
    "squeeze and excite": f"""a = Conv (x, w10_4, b10) r = Relu (a)
        c = Conv <group = 10, {SAME}> (r, d10, b10) g = GlobalAveragePool (c) q = Conv (g, w5_10, b5) p = Relu (q)
        e = Conv (p, w10_5, b10) h = Sigmoid (e) m = Mul (c, h) z = Conv (m, w4_10) y = Add (z, x)""",
    "joined": f"""a = Conv (x, w10_4, b10) r = Relu (a) e = Conv <group = 10, {SAME}> (r, d10, b10)
        j = Concat <axis = 1> (r, e) s = Conv (x, w20_4, b20) z = Add (j, s) y = Conv (z, w4_20)""",
    "unequal pieces": f"""a = Conv (x, w10_4, b10) b = Conv <{SAME}> (x, k13_4, b13) j = Concat <axis = 1> (a, b)
        r = Relu (j) e = Conv <group = 23, {SAME}> (r, d23, b23) y = Conv (e, w4_23)""",
    "split": f"""a = Conv (x, w20_4, b20) r = Relu (a) p, q = Split <axis = 1, num_outputs = 2> (r)
        e = Conv <group = 10, {SAME}> (p, d10, b10) m = Mul (e, q) y = Conv (m, w4_10)""",
    "sliced": f"""a = Conv (x, w20_4, b20) r = Relu (a) p = Slice (r, n10, n20, n1)
        e = Conv <group = 10, {SAME}> (p, d10, b10) z = Conv (e, w20_10) m = Add (z, r) y = Conv (m, w4_20)""",
    "not depthwise": f"""a = Conv <{SAME}> (x, k7_4, b7) r = Relu (a) y = Conv (r, w4_7)""",
}


@functools.cache
def good(name: str) -> onnx.ModelProto:
    return network(BODIES[name])


@functools.cache
def padded(name: str) -> onnx.ModelProto:
    """In sixteens where a depthwise convolution asks for it, else in fours, as the road does it."""
    made = pad_channels.run(pad_depthwise.run(good(name)).model)
    assert padded_names(Parts(made.model)), "the network is one to pad"
    return made.model


def int8_of(model: onnx.ModelProto, **options: object) -> onnx.ModelProto:
    return quantize_model(model, [{"x": image} for image in IMAGES], QuantRecipe(**options), threads=1).model


@functools.cache
def int8(name: str) -> onnx.ModelProto:
    return int8_of(padded(name))


# --------------------------------------------------------------------------------------------- the true channels, found
def all_tensors(parts: Parts, names: list[str]) -> dict[str, np.ndarray]:
    return parts.open(names, threads=1)({"x": IMAGES[0]})


@pytest.mark.parametrize("known", [True, False], ids=["counts known", "nothing known"])
@pytest.mark.parametrize("name", BODIES)
def test_the_true_channels_are_those_of_the_network_that_was_never_padded(name: str, known: bool) -> None:
    """The oracle is the graph before the rewrite."""
    before, after = Parts(good(name)), Parts(padded(name))
    names = padded_names(after)
    again = unpadded(after, channel_counts(before, names.values()) if known else {})
    assert set(names.values()) <= set(again.place)
    ours, theirs = (all_tensors(parts, [*names.values(), "y"]) for parts in (before, again))
    for tensor, value in ours.items():
        np.testing.assert_allclose(theirs[tensor], value, rtol=0, atol=1e-5 * np.abs(value).max(), err_msg=tensor)


@pytest.mark.parametrize("name", BODIES)
def test_int8_graphs_tell_their_true_channels_as_well(name: str) -> None:
    """Those of the floats before a grid where only integers are made of them."""
    after = Parts(int8(name))
    ours = channel_counts(Parts(good(name)), padded_names(after).values())
    for counts in (ours, {}):
        again = unpadded(after, counts)
        there = {tensor: tensor if tensor in again.place else f"{tensor}_float" for tensor in ours}
        made = channel_counts(again, there.values())
        assert ours == {tensor: made[own] for tensor, own in there.items()}


@pytest.mark.parametrize("name", BODIES)
def test_a_value_put_at_the_true_channels_is_what_follows_works_with(name: str) -> None:
    before, again = Parts(good(name)), unpadded(Parts(padded(name)), {})
    names = list(padded_names(again).values())
    value = all_tensors(before, names)[names[-1]]
    put = {names[-1]: 2 * value}
    dtypes = {names[-1]: value.dtype}
    fed = [parts.open(["y"], dtypes, threads=1)({"x": IMAGES[0], **put})["y"] for parts in (before, again)]
    np.testing.assert_allclose(fed[1], fed[0], rtol=0, atol=1e-5 * np.abs(fed[0]).max())


def test_padded_twice_is_one_name_and_one_tensor() -> None:
    twice = pad_depthwise.run(pad_channels.run(good("at the end")).model).model
    assert padded_names(Parts(twice))["a.padded.padded"] == "a"
    again = unpadded(Parts(twice), {})
    assert channel_counts(again, ["a", "r"]) == {"a": 10, "r": 10}


def test_a_graph_that_was_never_padded_stays_as_it_is() -> None:
    parts = Parts(good("joined"))
    assert unpadded(parts, {}) is parts


def test_what_both_sides_padded_alike_stays_as_it_is() -> None:
    parts = Parts(padded("joined"))
    assert unpadded(parts, channel_counts(parts, padded_names(parts))) is parts


def edited(model: onnx.ModelProto, edits: dict[str, Callable[[np.ndarray], np.ndarray]]) -> onnx.ModelProto:
    """`model` with other initializers."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for tensor in made.graph.initializer:
        if tensor.name in edits:
            tensor.CopyFrom(onnx.numpy_helper.from_array(edits[tensor.name](weight(made, tensor.name)), tensor.name))
    return made


def without(axis: int, at: int) -> Callable[[np.ndarray], np.ndarray]:
    def zero(value: np.ndarray) -> np.ndarray:
        value = value.copy()
        value[(slice(None),) * axis + (at,)] = 0
        return value

    return zero


def test_true_channels_that_are_dead_are_told_by_their_number_or_not_at_all() -> None:
    """Filter 9 of ten is zero and nothing reads it: as good as a pad, were the number not known."""
    dead = {"w10_4": without(0, 9), "b10": without(0, 9), "d10": without(0, 9), "w4_10": without(1, 9)}
    ties = Ties(Parts(pad_depthwise.run(edited(good("at the end"), dead)).model), {})
    assert list(real_places(ties, "a.padded", 10)) == list(range(10))
    assert list(real_places(ties, "a.padded", None)) == list(range(9))
    assert real_places(ties, "a.padded", 17) is None


def test_a_dead_channel_at_the_end_of_a_piece_is_told_by_the_pieces() -> None:
    """Of 10 + 13 channels the tenth is dead; how many are true is known of each piece."""
    dead = {"w10_4": without(0, 9), "b10": without(0, 9), "d23": without(0, 9), "b23": without(0, 9)}
    model = edited(good("unequal pieces"), dead | {"w4_23": without(1, 9)})
    before, after = Parts(model), Parts(pad_depthwise.run(model).model)
    counts = channel_counts(before, padded_names(after).values())
    assert counts["j"] == 23
    assert channel_counts(unpadded(after, counts), counts) == counts
    ties = Ties(after, {})
    assert real_places(ties, "j.padded", 23) is None, "by its own zeros it cannot be told"


# ---------------------------------------------------------------------------------------------------------------- diff
def parted(reference: onnx.ModelProto, candidate: onnx.ModelProto, **options: object) -> DiffReport:
    sides = [graph_side(net, name, threads=1) for net, name in ((reference, "good"), (candidate, "int8"))]
    return find(compare_sides(*sides, [{"x": image} for image in IMAGES[:2]]), **options)


@pytest.mark.parametrize("name", BODIES)
def test_a_healthy_padded_graph_is_not_blamed_and_every_layer_is_compared(name: str) -> None:
    report = parted(good(name), int8(name), layers=True)
    assert report.first is None, report.verdict
    computed = {node.name for node in good(name).graph.node if node.op_type in ("Conv", "Sigmoid", "Mul", "Add")}
    rounded = {maker for maker, _ in grids(int8(name))}
    assert computed & rounded <= {row.layer.node for row in report.layers}
    assert min(row.alone_db for row in report.layers) > 20


def grids(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """(node, scale) of what is rounded to a grid of its own."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in makers:
            found[node.input[1]] = makers[node.input[0]].name
    return [(node, scale) for scale, node in found.items()]


def coarse(model: onnx.ModelProto, scale: str, by: float = 32) -> onnx.ModelProto:
    """`model` with one grid so much too coarse."""
    return edited(model, {scale: lambda value: np.float32(by) * value})


@pytest.mark.parametrize("name", BODIES)
def test_a_grid_that_is_too_coarse_is_found_in_the_layer_that_has_it(name: str) -> None:
    shown = 0
    for node, scale in grids(int8(name)):
        report = parted(good(name), coarse(int8(name), scale))
        if report.output_db > 20:  # a gate that hardly moves: the outputs do not show it
            continue
        shown += 1
        assert report.first is not None, node
        found = report.first
        assert (found.node, found.at_fault, found.nodes) == (node, True, 1), report.verdict
    assert shown >= 2


@pytest.mark.parametrize("name", ["joined", "unequal pieces", "split"])
def test_one_true_channel_behind_the_first_pads_is_compared_too(name: str) -> None:
    """A filter of the last piece is wrong; it lies behind the zero channels of the first."""
    right = int8(name)
    conv = [node for node in right.graph.node if node.op_type == "Conv"][1 if name != "split" else 0]
    from_ints = next(node for node in right.graph.node if conv.input[1] in node.output)
    value = weight(right, from_ints.input[0]).copy()
    last = np.flatnonzero((value != weight(right, from_ints.input[2]).max()).any(axis=(1, 2, 3)))[-1]
    value[last] = -value[last]
    wrong = edited(right, {from_ints.input[0]: lambda _: value})
    report = parted(good(name), wrong)
    assert report.first is not None
    assert (report.first.node, report.first.module) == (conv.name, get_meta(conv)[MODULE_KEY])


def equalized(name: str) -> onnx.ModelProto:
    """The same function with factors on the 23 channels of e, which y takes back, then padded inside its pieces."""
    gain = np.float32(2) ** np.random.default_rng(0).integers(-1, 2, 23).astype(np.float32)
    by = {"d23": gain.reshape(-1, 1, 1, 1), "b23": gain, "w4_23": 1 / gain.reshape(1, -1, 1, 1)}
    made = edited(good(name), {key: lambda value, factor=factor: value * factor for key, factor in by.items()})
    return int8_of(pad_channels.run(pad_depthwise.run(made).model).model)


def test_factors_per_channel_are_undone_where_channels_are_padded_too() -> None:
    name = "unequal pieces"
    int8, scale = equalized(name), "y_scale"
    report = parted(good(name), int8)
    assert report.first is None, report.verdict
    assert "powers of two per channel" in report.notes[0]
    broken = parted(good(name), coarse(int8, scale, 64))
    assert broken.first is not None
    assert (broken.first.node, broken.first.at_fault, broken.first.nodes) == ("net.y", True, 1)


def test_a_pytorch_network_is_compared_at_the_channels_that_its_modules_made() -> None:
    torch.manual_seed(0)
    narrow = nn.Conv2d(4, 10, 1), nn.ReLU(), nn.Conv2d(10, 10, 3, padding=1, groups=10), nn.ReLU(), nn.Conv2d(10, 4, 1)
    net = nn.Sequential(*narrow).eval()
    model = export_module(net, (4, 6, 6), input_name="x")
    right = int8_of(pad_depthwise.run(model).model)
    wide = padded_names(Parts(right))
    assert wide
    side = module_side(resolve(net, None, "4,6,6"), "net")
    for int8, named in ((right, None), (coarse(right, grids(right)[1][1]), grids(right)[1][0])):
        comparison = compare_sides(side, graph_side(int8, "int8", threads=1), [{"input": i} for i in IMAGES[:2]])
        assert {pair.candidate for pair in comparison.pairs} >= set(wide.values()) - {"y"}
        first = find(comparison).first
        assert (None if first is None else first.node) == named


@pytest.mark.parametrize("name", ["at the end", "joined", "unequal pieces", "split"])
def test_a_bias_that_is_wrong_in_the_pads_too_is_found(name: str) -> None:
    """Then no filter tells which channels are true."""
    right = int8(name)
    conv = next(node for node in right.graph.node if node.name == "net.a")
    bias = next(node for node in right.graph.node if conv.input[2] in node.output)
    wrong = edited(right, {bias.input[0]: lambda value: value + np.abs(value).max() * 2})
    report = parted(good(name), wrong)
    assert report.first is not None
    assert (report.first.begins, report.first.at_fault) == ("net.a", True)


@pytest.mark.parametrize("example", depthwise_examples.EXAMPLES)
def test_the_examples_of_the_rewrite(example: str) -> None:
    model = depthwise_examples.EXAMPLES[example]
    before, after = Parts(model), Parts(pad_depthwise.run(model).model)
    counts = channel_counts(before, padded_names(after).values())
    assert channel_counts(unpadded(after, {}), counts) == counts
