"""Write sizes into a model where it has symbols: inputs of 1,3,224,224 instead of batch,3,height,width.

    x (N, 3, H, W), y (N, 10), sizes x:1,3,8,8   ->   x (1, 3, 8, 8), y (1, 10)

A symbol is one number wherever it stands, so fixing it at an input fixes it at the other inputs and the outputs; output
sizes that are computed come from shape inference. Test: tests/test_fix_shapes.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from exporters.graph import copy_model
from exporters.shape_inference import tensor_types
from runtimes.base import BadInput


def fix_shapes(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], name: str = "model") -> onnx.ModelProto:
    """A copy of `model` whose inputs have the sizes `shapes` (input name -> sizes).

    Raises `BadInput` naming `name` for a shape that does not fit, and for one symbol with two sizes.
    """
    fixed = copy_model(model)
    inputs = {value.name: value.type.tensor_type for value in fixed.graph.input}
    symbols: dict[str, int] = {}
    for key, sizes in shapes.items():
        _fix_input(key, inputs[key], sizes, symbols, name)
    for value in (*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info):
        _replace(value.type.tensor_type, symbols)
    if any(not dim.HasField("dim_value") for value in fixed.graph.output for dim in value.type.tensor_type.shape.dim):
        _infer_outputs(fixed)
    return fixed


def _fix_input(
    key: str, kind: onnx.TypeProto.Tensor, sizes: tuple[int, ...], symbols: dict[str, int], name: str
) -> None:
    wanted = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim]
    fits = len(wanted) == len(sizes) and all(
        w == s or not isinstance(w, int) for w, s in zip(wanted, sizes, strict=True)
    )
    if kind.HasField("shape") and not fits:
        text = ", ".join("?" if w is None else str(w) for w in wanted)
        raise BadInput(f"{name}: input {key} wants [{text}], the shape given is {list(sizes)}")
    del kind.shape.dim[:]
    for want, size in zip(wanted or [None] * len(sizes), sizes, strict=True):
        kind.shape.dim.add(dim_value=size)
        if isinstance(want, str) and symbols.setdefault(want, size) != size:
            raise BadInput(f"{name}: {want} cannot be {symbols[want]} and {size} at once; check the shape of {key}")


def _replace(kind: onnx.TypeProto.Tensor, symbols: Mapping[str, int]) -> None:
    for dim in kind.shape.dim:
        if dim.dim_param in symbols:
            dim.dim_value = symbols[dim.dim_param]  # a oneof: the symbol goes


def _infer_outputs(model: onnx.ModelProto) -> None:
    """Computed sizes of outputs. What the file says of tensors inside may hold old symbols, and goes."""
    del model.graph.value_info[:]
    types = tensor_types(model, data_prop=True)
    for value in model.graph.output:
        found = types[value.name].shape.dim if value.name in types else []
        for dim, other in zip(value.type.tensor_type.shape.dim, found, strict=False):
            if not dim.HasField("dim_value") and other.HasField("dim_value"):
                dim.dim_value = other.dim_value
