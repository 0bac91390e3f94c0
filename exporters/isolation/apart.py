"""A model for a child process: its large weights lie beside it in a file, so that they are never copied on the way.

    model (528 MB)  ->  folder/weights.bin (mapped into memory by whoever runs it) + a few kB of graph

Only tensors that no constant arithmetic can use are put there: those that Conv, ConvTranspose, Gemm, MatMul or
BatchNormalization read beside something that depends on an input of the model. A tool that simplifies the graph
never needs their values; `as_inputs` shows them to it as inputs, `attach` puts the originals back.
Source: ONNX docs/ExternalData.md. Test: tests/test_apart.py.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx import helper

from exporters.external import is_external, split
from exporters.graph import captured_names, copy_tensor, is_standard
from runtimes.base import BadInput
from runtimes.execution.watch import temporary_prefix

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")

LEAST_BYTES = 16384
"""Smaller tensors stay in the graph: opening a file for them is not worth it."""

GRAPH, WEIGHTS = "given.onnx", "weights.bin"


@contextlib.contextmanager
def apart(model: onnx.ModelProto, name: str) -> Iterator[tuple[Path, int]]:
    """A temporary folder with `model` as `given.onnx` and `weights.bin`, and the bytes of both.

    Raises `BadInput` naming `name` above protobuf's limit, and for a folder that is full.
    """
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as made:
        folder = Path(made)
        try:
            with open(folder / WEIGHTS, "wb") as stream:
                slim = split(model, hideable(model), stream, WEIGHTS)
                size = stream.tell()
            size += (folder / GRAPH).write_bytes(slim.SerializeToString(deterministic=True))
        except (ValueError, EncodeError) as error:
            raise BadInput(f"{name}: larger than 2 GiB, which no ONNX tool takes in one piece; split it") from error
        except OSError as error:
            raise BadInput(f"{made}: cannot be written ({error.strerror}); set TMPDIR to a folder with room") from error
        yield folder, size


def hideable(model: onnx.ModelProto) -> set[str]:
    """Names of the initializers whose values no simplifier needs; a caller's overridable ones are not among them."""
    large = {t.name for t in model.graph.initializer if len(t.raw_data) >= LEAST_BYTES}
    large -= {value.name for value in (*model.graph.input, *model.graph.output)}
    live = {value.name for value in model.graph.input}
    for node in model.graph.node:
        captured = captured_names(node)
        if captured or live & set(node.input):
            live |= set(node.output)
        linear = any(is_standard(node, op) for op in LINEAR)
        large -= captured if linear and live & set(node.input) else captured | set(node.input)
    return large


def read_graph(folder: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.ParseFromString((folder / GRAPH).read_bytes())
    return model


def as_inputs(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Turn the external initializers of `model` (edited) into inputs; returns them."""
    hidden = [copy_tensor(tensor) for tensor in model.graph.initializer if is_external(tensor)]
    kept = [copy_tensor(tensor) for tensor in model.graph.initializer if not is_external(tensor)]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in hidden)
    return hidden


def attach(model: onnx.ModelProto, originals: Iterable[onnx.TensorProto]) -> None:
    """Give the external initializers of `model` (edited) the values that they have among `originals`."""
    known = {tensor.name: tensor for tensor in originals}
    for tensor in model.graph.initializer:
        if is_external(tensor):
            tensor.CopyFrom(known[tensor.name])
