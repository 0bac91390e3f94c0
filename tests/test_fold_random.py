"""Random networks of every operator that the fold knows: what it must fold is folded, what it must not is kept, and the
outputs are equal within the bound that it reports.

The seed is printed; another one is tried by `EDGECNN_TEST_SEED=7 pytest tests/test_fold_random.py`.
"""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from exporters.graph import ABSORBED_KEY, get_meta
from exporters.passes import fold_batchnorm
from fold_graphs import execute, rng
from fold_networks import AFFINES, BARRIERS, Item, Network
from runtimes.base import Array

SEED = int(os.environ.get("EDGECNN_TEST_SEED", "0"))
CASES = 500
FLOAT32 = 2.0**-24


@pytest.fixture(autouse=True)
def _say_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f" [seed {SEED}, {CASES} cases]", end=" ")


class Maker:
    """Draws the items of one network: hypothesis decides the structure, a seeded generator the numbers.

    `easy`: one linear operator that takes in everything around it.
    """

    def __init__(self, draw: st.DrawFn, easy: bool = False) -> None:
        self.draw, self.easy = draw, easy
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.count = 0
        self.spatial = draw(st.sampled_from([1, 2, None, 0]))
        """dimensions behind the channels; None: (N, C), 0: (N, T, C), which only MatMul and constants can work on"""
        self.channels = draw(st.integers(1, 4))
        extent = {1: (9,), 2: (7, 6), None: (), 0: (3,)}[self.spatial]
        self.shape = (2, *extent, self.channels) if self.spatial in (0, None) else (2, self.channels, *extent)

    def normal(self, *shape: int) -> Array:
        return np.asarray(self.rng.normal(size=shape), np.float32)

    def item(self, kind: str, values: dict[str, Array], **attributes: object) -> Item:
        self.count += 1
        form = self.draw(st.sampled_from(["initializer", "initializer", "node", "identity"]))
        tap = not self.easy and self.draw(st.integers(0, 9)) == 0
        return Item(kind, f"{kind}{self.count}", self.channels, values, attributes, tap, form=form)

    def per_channel(self) -> tuple[int, ...]:
        """One of the shapes in which a constant for each channel, or for all, can be written."""
        c, after = self.channels, 0 if self.spatial in (0, None) else self.spatial
        plain = (c, *[1] * after)
        return self.draw(st.sampled_from([plain, (1, *plain), (), (1,)]))

    def affine(self) -> Item:
        kind = self.draw(st.sampled_from(AFFINES if self.spatial != 0 else [k for k in AFFINES if k != "bn"]))
        if kind in ("bn", "spelled"):
            shape = (self.channels,) if kind == "bn" else (self.channels, *[1] * (self.spatial or 0))
            values = {k: self.normal(*shape) for k in "shm"} | {"v": self.rng.uniform(0.1, 2, shape).astype(np.float32)}
            extra = {} if kind == "bn" else {"e": np.float32(1e-3)}
            root = {} if kind == "bn" else {"root": self.draw(st.sampled_from(["div", "reciprocal", "pow"]))}
            return self.item(kind, values | extra, **root)
        if kind == "neg":
            return self.item(kind, {})
        value = self.normal(*self.per_channel())
        value = np.where(np.abs(value) < 0.1, np.float32(0.5), value)  # a divisor
        flip = kind in ("mul", "add") and self.draw(st.booleans())
        return self.item(kind, {"c": np.asarray(value, np.float32)}, flip=flip)

    def barrier(self) -> Item:
        kind = self.draw(st.sampled_from(BARRIERS))
        shape = {"wide": (2, *[1] * (len(self.shape) - 1)), "open": ()}.get(kind)
        made = self.item(kind, {} if shape is None else {"c": self.normal(*shape)})
        made.form = "initializer" if kind == "open" else made.form
        return made

    def linear(self) -> Item:
        made = self.matrix() if self.spatial in (0, None) else self.convolution()
        made.held = not self.easy and made.form == "initializer" and self.draw(st.integers(0, 9)) == 0
        made.form = "initializer" if made.held else made.form
        return made

    def matrix(self) -> Item:
        reads, self.channels = self.channels, self.draw(st.integers(1, 4))
        if self.spatial == 0 or self.draw(st.booleans()):
            return self.item("MatMul", {"w": self.normal(reads, self.channels)})
        transposed = self.draw(st.integers(0, 1))
        values = {"w": self.normal(*(self.channels, reads)[:: 1 if transposed else -1])}
        shape = self.draw(st.sampled_from([None, (), (self.channels,), (1, self.channels), (2, 1), (2, self.channels)]))
        values |= {} if shape is None else {"b": self.normal(*shape)}
        return self.item("Gemm", values, alpha=0.5, beta=-1.5, transB=transposed)

    def convolution(self) -> Item:
        kind = self.draw(st.sampled_from(["Conv", "Conv", "ConvTranspose"]))
        groups = self.draw(st.sampled_from([g for g in (1, 2, self.channels) if self.channels % g == 0]))
        reads, self.channels = self.channels, groups * self.draw(st.integers(1, 2))
        size = self.draw(st.integers(1, 2))
        n = self.spatial or 0
        ends = (self.channels, reads // groups) if kind == "Conv" else (reads, self.channels // groups)
        values = {"w": self.normal(*ends, *[size] * n)}
        if self.draw(st.booleans()):
            values["b"] = self.normal(self.channels)
        many = {"strides": [self.draw(st.integers(1, 2)) if kind == "ConvTranspose" else 1] * n}
        many["dilations"] = [self.draw(st.integers(1, 2))] * n
        pads = self.draw(st.integers(0, 1)) if (size == 2 or kind == "Conv") and not self.easy else 0
        return self.item(kind, values, group=groups, kernel_shape=[size] * n, pads=[pads] * 2 * n, **many)

    def affines(self) -> list[Item]:
        return [self.affine() for _ in range(self.draw(st.integers(0, 3)))]

    def network(self) -> Network:
        items = self.affines()
        if self.easy:  # one side: two folds into one operator are two roundings, each with its own bound
            items = [*items, self.linear()] if self.draw(st.booleans()) else [self.linear(), *self.affines()]
        for _ in range(0 if self.easy else self.draw(st.integers(1, 2))):
            items += [self.linear(), *self.affines()]
            if self.draw(st.booleans()):
                items += [self.barrier(), *self.affines()]
        return Network(items, self.shape, self.spatial in (0, None))


networks = st.composite(lambda draw: Maker(draw).network())()
easy_networks = st.composite(lambda draw: Maker(draw, easy=True).network())()


@seed(SEED)
@settings(max_examples=CASES, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck), database=None)
@given(networks)
def test_random_networks(network: Network) -> None:
    model = network.model()
    onnx.checker.check_model(model, full_check=True)
    before = model.SerializeToString(deterministic=True)
    result = fold_batchnorm.run(model)
    after = result.model
    onnx.checker.check_model(after, full_check=True)
    assert model.SerializeToString(deterministic=True) == before
    check_what_was_done(network, result)
    check_outputs(network, model, after)
    check_bound(network, after, [change.bound for change in result.changes])
    assert not fold_batchnorm.run(after).modified


@seed(SEED)
@settings(max_examples=200, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck), database=None)
@given(easy_networks)
def test_the_reported_bound_holds(network: Network) -> None:
    result = fold_batchnorm.run(network.model())
    check_what_was_done(network, result)
    check_bound(network, result.model, [change.bound for change in result.changes])


def check_what_was_done(network: Network, result: fold_batchnorm.PassResult) -> None:
    """Exactly the forecast is gone; every BatchNormalization that is left has its reason."""
    names = {node.name for node in result.model.graph.node}
    everything = {name for item in network.items for name in item.nodes()}
    assert {change.node for change in result.changes} == network.forecast()
    gone = everything - names
    assert gone == network.forecast()
    absorbed = [name for node in result.model.graph.node for name in get_meta(node).get(ABSORBED_KEY, "").split("\n")]
    assert set(absorbed) - {""} == network.forecast()
    kept = {entry.node for entry in result.kept}
    assert kept >= {item.name for item in network.items if item.kind == "bn"} - gone
    assert not kept & gone
    assert all(entry.reason for entry in result.kept)


def roundings(network: Network) -> float:
    """How many roundings an output can have behind it: one for each product and sum on the longest way."""
    return sum(4 + 2 * item.values["w"].size if item.linear else 8 for item in network.items)


def check_outputs(network: Network, before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Both graphs on ONNX Runtime are within float32's own rounding of PyTorch in float64."""
    x = rng(len(network.items)).normal(size=network.shape).astype(np.float32)
    truth, sizes = network.outputs(x), network.outputs(x, measure=True)
    for model in (before, after):
        for found, want, size in zip(execute(model, x=x), truth, sizes, strict=True):
            assert found.shape == want.shape
            assert (np.abs(found - want) <= roundings(network) * FLOAT32 * size + 1e-30).all()


def check_bound(network: Network, after: onnx.ModelProto, bounds: list[float]) -> None:
    """One linear operator and affines that all went into it: in float64 the outputs differ by at most the bound.

    From one side: folds from both are two roundings, and the second bias may cancel what the first is relative to.
    """
    whole = network.forecast() == {name for item in network.items if not item.linear for name in item.nodes()}
    linear = [item for item in network.items if item.linear]
    one_side = network.items[0].linear or network.items[-1].linear
    if len(linear) != 1 or not whole or not one_side or not bounds:
        return
    x = rng(1).uniform(-1, 1, size=network.shape)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    nodes = {node.op_type: node for node in after.graph.node}
    node = nodes[linear[0].kind]
    folded = {"w": values[node.input[1]]} | ({"b": values[node.input[2]]} if len(node.input) > 2 else {})
    attributes = {**linear[0].attributes, **({"alpha": 1.0, "beta": 1.0} if node.op_type == "Gemm" else {})}
    item = Item(linear[0].kind, "folded", linear[0].channels, folded, attributes)
    items = [item]
    if "Add" in nodes:
        items.append(Item("add", "bias", item.channels, {"c": values[nodes["Add"].input[1]]}))
    found = Network(items, network.shape, network.channels_last).outputs(x)[-1]
    moved = np.abs(found - network.outputs(x)[-1]).max()
    ones = Network(items, network.shape, network.channels_last).outputs(np.ones_like(x), measure=True)[-1].max()
    assert moved <= max(bounds) * size_of(items) + 1e-13 * ones


def size_of(items: list[Item]) -> float:
    """max over channels of |W'|_1 + |b'|, what the bound is relative to: every weight meets an input of one."""
    weight, attributes = items[0].values["w"], items[0].attributes
    kind = items[0].kind
    if kind == "Conv" or (kind == "Gemm" and attributes["transB"]):
        sums = np.abs(weight.astype(np.float64)).reshape(len(weight), -1).sum(1)
    elif kind == "ConvTranspose":
        split = np.abs(weight.astype(np.float64)).reshape(attributes["group"], -1, *weight.shape[1:])
        sums = split.sum(axis=(1, *range(3, split.ndim))).ravel()
    else:
        sums = np.abs(weight.astype(np.float64)).sum(0)
    bias = items[0].values.get("b", items[1].values["c"] if len(items) > 1 else np.zeros(1))
    return float((sums + np.abs(bias.astype(np.float64))).max())
