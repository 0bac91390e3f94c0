"""Post-training quantization: plan where int8 goes, watch those tensors on real images, write the integer graph.

    plan (placement) -> observe (calibration: one streaming pass, one image in memory) -> insert (qdq)

Only tensors that get a grid are observed. Memory is that of one batch's activations, however many images there are.
Source: Jacob et al. 2018; Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference".
Test: tests/test_quantize.py (oracle: ONNX Runtime's own quantize_static).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from exporters import padding
from exporters.artifact import RECIPE_KEY
from exporters.graph import opset, set_meta
from exporters.layerwise.patterns import matches, names_in
from exporters.quantization import placement, qdq
from exporters.quantization.calibration import Calibration, observe
from runtimes import plugins
from runtimes.base import BadInput, Tensors, Track, counted, silent

MIN_OPSET = 13
"""DequantizeLinear has a channel axis from opset 13 on."""

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class QuantRecipe:
    """How a model was, or is to be, quantized. `data` and `images` say on what it was calibrated.

    `forms`: int8 forms of operators that are not the plain ones (`placement.FORMS`). `target`: the CPU that it is made
    for (`cpu_target.TARGETS`, empty: any); `weight_forms`: (node, `affine.WEIGHT_FORMS`) where not plain int8.
    """

    calibrator: str = "minmax"
    per_channel: bool = True
    exclude: tuple[str, ...] = ()
    data: str = ""
    images: int = 0
    forms: tuple[str, ...] = ("hardswish",)
    target: str = ""
    weight_forms: tuple[tuple[str, str], ...] = ()
    available: int | None = None
    """How many images `data` holds, where not all were used."""
    fingerprint: str = ""
    """Of `data`, where it is known by one (edgecnn/data/fingerprint.py)."""
    copies: int = 0
    """How many images were drawn besides and not used, as copies of others."""

    @property
    def calibrated_on(self) -> str:
        """`128 of 300 images (--limit) of photos, 120 of them different`."""
        drawn, different = self.images + self.copies, f", {self.images:,} of them different" if self.copies else ""
        if self.available is None:
            return f"{counted(drawn, 'image')} of {self.data}{different}"
        return f"{drawn:,} of {counted(self.available, 'image')} (--limit) of {self.data}{different}"

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "exclude": list(self.exclude),
            "forms": list(self.forms),
            "weight_forms": dict(self.weight_forms),
            "activations": "uint8",
            "weights": "int8",
            "bias": "int32",
        }


@dataclass(frozen=True)
class Quantized:
    """An integer model with the ranges it stands on. `float_nodes` are (node, reason).

    `calibration`: what the pass over the images saw; None where nothing could be int8.
    """

    model: onnx.ModelProto
    recipe: QuantRecipe
    ranges: Ranges
    int8_nodes: int
    float_nodes: tuple[tuple[str, str], ...]
    calibration: Calibration | None = None


def quantize_model(
    model: onnx.ModelProto,
    feeds: Sequence[Tensors],
    recipe: QuantRecipe,
    *,
    ids: Sequence[str] = (),
    threads: int | None = None,
    track: Track = silent,
) -> Quantized:
    """Quantize the float32 `model` on the batches `feeds` (name -> array, as the model's inputs want them).

    `ids` (one for each batch) name the images in messages.
    Raises `BadInput` for a model that is quantized already, for no data, and for values that are not finite.
    A model in which nothing can be int8 comes back as it was, with zero `int8_nodes` and the reasons.
    """
    model = prepare(model)
    check_patterns(model, recipe.exclude)
    plan = placement.plan(model, recipe.exclude, recipe.forms)
    if not plan.int8:
        return Quantized(model, recipe, {}, 0, plan.float_nodes)
    seen = observe(model, plan.observed, feeds, recipe.calibrator, ids=ids, threads=threads, track=track)
    return on_ranges(model, recipe, seen.ranges, seen, plan)


def on_ranges(
    model: onnx.ModelProto,
    recipe: QuantRecipe,
    ranges: Ranges,
    calibration: Calibration | None = None,
    plan: placement.Plan | None = None,
) -> Quantized:
    """Quantize the prepared float `model` on known `ranges`; they may hold more tensors than are needed."""
    plan = plan or placement.plan(model, recipe.exclude, recipe.forms)
    complete = _completed(model, plan, ranges, recipe)
    result = qdq.insert(model, plan, complete, recipe.per_channel, dict(recipe.weight_forms))
    padding.forget(result)
    set_meta(result, {RECIPE_KEY: json.dumps(recipe.to_dict(), sort_keys=True)})
    return Quantized(result, recipe, ranges, len(plan.int8), plan.float_nodes, calibration)


def _completed(model: onnx.ModelProto, plan: placement.Plan, ranges: Ranges, recipe: QuantRecipe) -> Ranges:
    """`ranges`, and those of tensors that share a grid when all is int8, but need one of their own under `plan`."""
    missing = [name for name in plan.observed if name not in ranges]
    if not missing:
        return ranges
    shared = placement.plan(model, (), recipe.forms).grids
    unknown = [name for name in missing if shared.get(name) not in ranges]
    if unknown:
        raise BadInput(f"ranges: tensor {unknown[0]} was not observed; calibrate again with this recipe")
    return {**ranges, **{name: ranges[shared[name]] for name in missing}}


def check_patterns(model: onnx.ModelProto, patterns: Sequence[str]) -> None:
    """Raise `BadInput` for a pattern that no node's label or module path matches: a typing mistake, most likely."""
    names = names_in(model)
    for pattern in patterns:
        if not matches(pattern, names):
            raise BadInput(f"--exclude {plugins.unknown(pattern, sorted(set(names)), 'node')}")


def refuse_quantized(model: onnx.ModelProto, name: str = "model") -> None:
    """Raise `BadInput` naming `name` for a model that is quantized already."""
    if any(n.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger") for n in model.graph.node):
        raise BadInput(f"{name}: is quantized already; give the float model that it was made from")


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, raised to an opset that knows per-channel grids; refuses one that is quantized already."""
    refuse_quantized(model)
    if opset(model) >= MIN_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, MIN_OPSET)
    except Exception as error:  # the converter raises bare RuntimeErrors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"opset {opset(model)}: int8 needs {MIN_OPSET}, and the converter says: {reason}") from error
