"""What the accuracy passes hand on: a float model with its recipe, its ranges and the images to learn from.

Test: tests/test_accuracy_contract.py.
"""

from __future__ import annotations

import glob
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx

from exporters.base import Change, Kept
from exporters.graph import Graph, label
from exporters.quantization import placement
from exporters.quantization.affine import WEIGHT_FORMS, Grid, fit_bias, weight_grid
from exporters.quantization.calibration import Calibration, observe
from exporters.quantization.grids import grids_of
from exporters.quantization.kernels import COMPUTE, channel_axis
from exporters.quantization.quantize import Quantized, QuantRecipe, on_ranges
from runtimes.base import Array, Tensors, Track, silent

Constants = Mapping[int, Array | None]
"""Inputs of a layer by their place, 1 the weights and 2 the bias; None where it has none."""


@dataclass(frozen=True)
class Work:
    """The float `model` to be quantized by `recipe` on `calibration`, which saw `images`; so do the passes.

    `exact`: what stood in a layer before a pass moved it for int8. In float only that is right.
    """

    model: onnx.ModelProto
    recipe: QuantRecipe
    calibration: Calibration
    images: Sequence[Tensors]
    exact: Mapping[str, Constants] = field(default_factory=dict, repr=False)

    def quantized(self) -> Quantized:
        return on_ranges(self.model, self.recipe, self.calibration.ranges, self.calibration)

    def plan(self) -> placement.Plan:
        return placement.plan(self.model, self.recipe.exclude, self.recipe.forms)

    def grids(self, plan: placement.Plan) -> dict[str, Grid]:
        """The grid of every tensor that has one under `plan`."""
        return grids_of(plan, self.calibration.ranges)

    def moved(self, model: onnx.ModelProto, before: Mapping[str, Constants]) -> Work:
        """The same work on `model`, in which layers were moved for int8; `before` is what stood in them."""
        names = {*self.exact, *before}
        exact = {name: {**before.get(name, {}), **self.exact.get(name, {})} for name in names}
        return replace(self, model=model, exact=exact)

    def floated(self, names: Collection[str]) -> Work:
        """The same work with the nodes called `names`, and no others, in float too, as they were before they moved."""
        back = {name: self.exact[name] for name in names if name in self.exact}
        model = self.model if not back else _put_back(self.model, back)
        exact = {name: constants for name, constants in self.exact.items() if name not in back}
        return replace(self, model=model, recipe=excluding(self.recipe, names), exact=exact)

    def under(self, recipes: Sequence[QuantRecipe], threads: int | None = None, track: Track = silent) -> Work:
        """The same work with ranges for whatever any of `recipes` puts on a grid: other layers in float need others."""
        plans = [placement.plan(self.model, recipe.exclude, recipe.forms) for recipe in recipes]
        return self.planned(plans, threads, track)

    def planned(self, plans: Sequence[placement.Plan], threads: int | None = None, track: Track = silent) -> Work:
        """The same work with ranges for whatever any of `plans` puts on a grid; itself where it has them all."""
        missing = sorted({name for plan in plans for name in plan.observed} - set(self.calibration.ranges))
        if not missing:
            return self
        seen = observe(self.model, missing, self.images, self.recipe.calibrator, threads=threads, track=track)
        return replace(self, calibration=Calibration(seen.images, (*self.calibration.seen, *seen.seen)))

    def calibrated_again(self, model: onnx.ModelProto, threads: int | None, track: Track) -> Work:
        """The same work on a model whose activations have other ranges: one more pass over all images."""
        again = replace(self, model=model)
        tensors = again.plan().observed
        seen = observe(model, tensors, self.images, self.recipe.calibrator, threads=threads, track=track)
        return replace(again, calibration=seen)


def start(
    model: onnx.ModelProto,
    recipe: QuantRecipe,
    images: Sequence[Tensors],
    *,
    threads: int | None = None,
    track: Track = silent,
) -> Work:
    """Calibrate the prepared float `model` on `images`, in one pass."""
    tensors = placement.plan(model, recipe.exclude, recipe.forms).observed
    seen = observe(model, tensors, images, recipe.calibrator, threads=threads, track=track)
    return Work(model, recipe, seen, images)


@dataclass(frozen=True)
class Outcome:
    """What a pass made of a work; without `changes` it is the work as it came."""

    work: Work
    changes: tuple[Change, ...] = ()
    kept: tuple[Kept, ...] = ()


def excluding(recipe: QuantRecipe, names: Collection[str]) -> QuantRecipe:
    """`recipe` with the nodes called `names`, and no others, in float too."""
    return replace(recipe, exclude=(*recipe.exclude, *map(glob.escape, names)))


def _put_back(model: onnx.ModelProto, constants: Mapping[str, Constants]) -> onnx.ModelProto:
    """A copy of `model` in which layers have these constants again."""
    graph = Graph(model)
    for node in list(graph.proto.node):
        for index, value in constants.get(label(node), {}).items():
            if value is None:
                gone = node.input[index]
                del node.input[index:]
                graph.reindex()
                graph.drop_unread([gone])
            else:
                graph.set_constant(node, index, value, f"{node.input[index]}_exact")
    return graph.model


def layers(graph: Graph, plan: placement.Plan) -> list[onnx.NodeProto]:
    """The int8 compute nodes (Conv, Gemm, MatMul with constant weights) in the order of the graph."""
    return [node for node in graph.proto.node if node.op_type in COMPUTE and node.output[0] in plan.int8]


def largest_of(node: onnx.NodeProto, recipe: QuantRecipe) -> int:
    """The largest |integer| among the weights of a compute node."""
    return WEIGHT_FORMS[dict(recipe.weight_forms).get(label(node), "s8")]


def grid_of(graph: Graph, node: onnx.NodeProto, grids: Mapping[str, Grid], recipe: QuantRecipe) -> Grid:
    """The grid that `qdq` puts a compute node's weights on, its integers signed."""
    weight, bias = graph.constant(node.input[1]), bias_of(graph, node)
    assert weight is not None
    grid = weight_grid(weight, channel_axis(node) if recipe.per_channel else None, largest_of(node, recipe))
    return grid if bias is None else fit_bias(grid, bias, float(grids[node.input[0]].scale))


def bias_of(graph: Graph, node: onnx.NodeProto) -> Array | None:
    """The constant bias of a compute node, (channels,); None when it has none."""
    value = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return None if value is None else value.reshape(-1)


def set_bias(graph: Graph, node: onnx.NodeProto, value: Array) -> None:
    """Give a Conv or Gemm the bias `value` (channels,), whether it had one or not."""
    graph.set_constant(node, 2, value.astype("float32"), f"{node.output[0]}_bias")
