"""What is in a model, in numbers: an .onnx file or a bundle without torch, a PyTorch network with it.

The counts and what they mean: onnx_numbers.py and count.py beside this file. Test: tests/test_inspect.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.asked_size import FOR_WHICH, at_size, left_open
from edgecnn.data.several import lost_in
from edgecnn.given_model import shape_text, source_of
from edgecnn.numbers.inspection import Inspection
from edgecnn.numbers.layer_table import layer_table
from edgecnn.numbers.onnx_numbers import Numbers
from edgecnn.numbers.onnx_table import channels_first, parts
from edgecnn.opened import read_model
from edgecnn.runners import graph_inputs, refuse_for_files
from runtimes.base import BadInput
from runtimes.execution.model_file import built_size, is_model_file
from runtimes.execution.shapes import ShapeText, shapes_of
from runtimes.session import TensorInfo

if TYPE_CHECKING:
    import onnx

    from edgecnn.given_model import Given
    from edgecnn.networks.forward import InputShape


def inspect(
    model: Given,
    *,
    weights: Path | None = None,
    input_shape: InputShape | None = None,
    answer: str | int | None = None,
) -> Inspection:
    """Inspect an .onnx file, an .edge bundle, a SOURCE that `edgecnn export` takes, or a module; raises `BadInput`.

    `answer`: of a PyTorch network's several outputs the one that counts; its layers are counted as PyTorch runs them.
    A bundle of open size is counted at the size for which it was built, where `input_shape` says no other.
    """
    source, input_shape = source_of(model), shape_text(input_shape)
    if not isinstance(source, str) or not is_model_file(source):
        from edgecnn.numbers.torch_numbers import inspect_source

        return inspect_source(source, weights, input_shape, answer)
    refuse_for_files([source], answer=answer)
    if weights is not None:
        raise BadInput(f"--weights {weights}: {source} holds its own; leave it out")
    proto, size_bytes = read_model(Path(source))
    at_size(source, graph_inputs(proto), input_shape)  # counts of a size that it does not take mean nothing
    built = () if input_shape else built_size(Path(source), 1)
    found = inspect_model(proto, source, size_bytes, input_shape or built)
    lost = lost_in(found.inputs)
    said = [f"{found.model}: {lost}"] if lost else []
    said += [left_open(found.model, built, "counted", FOR_WHICH)] if built else []
    return replace(found, warnings=tuple(said))


def inspect_model(
    model: onnx.ModelProto, name: str, size_bytes: int, input_shape: ShapeText | None = None
) -> Inspection:
    """Inspect a loaded ONNX model; `name` and `size_bytes` are what it is called and how large its files are."""
    from edgecnn.networks.entry import entry_of
    from exporters.artifact import STAGES_KEY, read_stages
    from exporters.graph import free_inputs, get_meta, op_counts, opset

    free = free_inputs(model)
    inputs = tuple(map(_info, free))
    numbers = Numbers(model, shapes_of(input_shape, inputs))
    layers, last = numbers.layers(), entry_of(model).last
    macs = [layer.macs for layer in layers]
    return Inspection(
        model=name,
        kind="onnx",
        params=numbers.params(),
        macs=None if None in macs else sum(count for count in macs if count is not None),
        activation_bytes=numbers.activation_bytes(),
        size_bytes=size_bytes,
        opset=opset(model),
        inputs=inputs,
        outputs=tuple(map(_info, model.graph.output)),
        ops=op_counts(model),
        layers=layers,
        table=layer_table(channels_first(numbers.sizes(free[0].name), last) if free else None, parts(numbers)),
        stages=read_stages(model),
        channels_last=last,
        open_input=next((value.name for value in free if numbers.sizes(value.name) is None), ""),
        metadata={key: value for key, value in get_meta(model).items() if key != STAGES_KEY},
    )


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    import numpy as np
    from onnx import helper

    tensor = value.type.tensor_type
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name if tensor.elem_type else ""
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim)
    return TensorInfo(value.name, kind, shape)
