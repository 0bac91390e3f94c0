"""Random networks through every form and target of int8: they load, and lose little more than 8 bits have to.

Oracle: `rounded`, the float graph with each tensor on a grid of its own. What shares a grid may lose `SHARING_DB` to
that; what has `ENOUGH_DB` passes anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest

from exactly import exactly
from exporters.quantization import placement
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.quantization.work import start
from exporters.targets import weight_forms
from exporters.targets.tensorrt import quantize_tensorrt
from exporters.targets.tensorrt_check import check_tensorrt
from random_nets import random_net
from rounded import rounded
from runtimes.base import Tensors
from runtimes.parity import compare
from runtimes.session import open_session

SHARING_DB = 15.0
"""Two bits (`grids.COARSEST`) and a little."""
ENOUGH_DB = 25.0


def feeds_for(model: onnx.ModelProto, count: int = 6) -> list[Tensors]:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return [{"x": np.random.default_rng(i).normal(size=shape).astype(np.float32)} for i in range(count)]


def made_for(model: onnx.ModelProto, feeds: Sequence[Tensors], forms: tuple[str, ...], target: str) -> onnx.ModelProto:
    """The int8 graph that `quantize --target` writes."""
    recipe = QuantRecipe(forms=forms, target=target)
    if target == "tensorrt":
        made = quantize_tensorrt(model, feeds, recipe).model
        assert check_tensorrt(made) == []
        return made
    if target == "avx2" and placement.plan(model, (), forms).int8:
        work = start(model, recipe, feeds)
        recipe = replace(recipe, weight_forms=weight_forms.adapt(work, weight_forms.look(work)).recipe.weight_forms)
    return quantize_model(model, feeds, recipe).model


def losses(seed: int, forms: tuple[str, ...], target: str) -> list[tuple[str, float, float]]:
    """(output, SNR in int8, SNR rounded) of each output of the network `seed` that is not zero."""
    model = random_net(seed)
    feeds = feeds_for(model)
    reference = open_session(model, threads=1, optimize=False)
    made = open_session(exactly(made_for(model, feeds, forms, target)), threads=1)
    plain = open_session(rounded(model, feeds, forms), threads=1, optimize=False)
    found = zip(*(compare(reference, one, feeds).outputs for one in (made, plain)), strict=True)
    return [(one.name, one.snr_db, other.snr_db) for one, other in found]


CASES = (((), "vnni"), (("hardswish",), "arm"), (("hardswish", "one_scale"), "vnni"), (("hardswish",), "avx2"),
         ((), "tensorrt"))  # fmt: skip


SEEDS = (11, 13, 22, 48, 56, *range(100, 112))
"""The first five have cuts beyond the grid of what they read, and maxima of a HardSigmoid."""


@pytest.mark.parametrize("seed", SEEDS)
def test_int8_is_near_to_what_rounding_alone_makes(seed: int) -> None:
    for forms, target in CASES:
        for name, made, plain in losses(seed, forms, target):
            told = f"{forms}, {target}, {name}: {made:.1f} dB, by rounding alone {plain:.1f} dB"
            assert made >= min(plain - SHARING_DB, ENOUGH_DB), told
