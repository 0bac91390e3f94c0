"""Open an ONNX file that may be damaged or hostile, and save one whole.

    stat -> parse -> own external-data check and reading -> graph, versions, cost of functions -> full checker

Each step guards the next: opening a pipe waits for ever, onnx's reader follows links out of the folder, and the checker
itself hangs on forty functions that call each other twice (2^40 nodes from 3 kB). Every failure is a `BadInput` of one
line. What only shows when the model runs (SIGFPE on INT64_MIN / -1, a Loop of 2^62 rounds) is `sandbox.probe`'s job.
A file older than IR version 4 comes as one of version 4, whose weights are no inputs, and what can be mended without a
change of the function is (exporters/mending.py).
Source: onnx.checker; facts on onnx 1.23. Test: tests/test_load.py.
"""

from __future__ import annotations

import graphlib
import os
import re
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]

from exporters.external import read_external, write_external
from exporters.frozen import freeze_old
from exporters.graph import WEIGHT_INPUT, attributes, label, nodes_within
from exporters.mending import infer_again, put_in_order
from exporters.padded_pools import keep_apart
from exporters.tensors import TENSOR, kind_of
from runtimes.base import BadInput
from runtimes.files import check_input_file, check_output, real_file, write_atomic

SIZE_LIMIT_BYTES = 2**31 - 1
"""Protobuf's own limit for one message."""

EXTERNAL_ABOVE_BYTES = 1_500_000_000
"""A model with more weights than this is saved with its tensors in `NAME.onnx.data` beside it."""

EXPANDED_NODES_LIMIT = 1_000_000
"""Nodes after every function call is written out; ResNet-152 has 500."""

_TAGS = re.compile(r"\[\w+Error\]|Inference error\(s\):|==> Context:")


def load_model(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The model in file `path`, external tensors included, checked in full; raises `BadInput` (`FILE: ...`)."""
    path = check_input_file(Path(path), SIZE_LIMIT_BYTES)
    try:
        data = path.read_bytes()  # not onnx.load: names that are not UTF-8, and its external-data reader
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check its mode and the disk") from error
    model = parse_model(data, str(path))
    read_external(model, path, SIZE_LIMIT_BYTES - len(data))
    del data  # the checker makes two more copies of a model that may have 2 GB
    freeze_old(model)
    put_in_order(model)
    _checked(model, str(path))
    keep_apart(model)
    return model


def _checked(model: onnx.ModelProto, name: str) -> None:
    """Check `model`; where what it tells of its tensors is wrong, that is inferred (edited) and it is checked again."""
    try:
        check_model(model, name)
    except BadInput as error:
        cause = error.__cause__
        if not isinstance(cause, onnx.checker.ValidationError | onnx.shape_inference.InferenceError):
            raise
        if not infer_again(model):
            raise
        check_model(model, name)


def parse_model(data: bytes, name: str) -> onnx.ModelProto:
    """Bytes to a ModelProto that has a graph; raises `BadInput` naming `name`. Nothing else is checked yet."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise BadInput(f"{name}: is not an ONNX model, or is damaged; export or download it again") from error
    if not model.HasField("graph") or not model.graph.node or not model.graph.output:
        raise BadInput(f"{name}: holds no graph with nodes and outputs; export or download it again")
    return model


def check_model(model: onnx.ModelProto, name: str) -> None:
    """Raise `BadInput` naming `name` unless `model` is a valid ONNX model that the installed onnx knows in full."""
    _check_versions(model, name)
    _check_functions(model, name)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BadInput(f"{name}: is not a valid ONNX model ({first_sentence(error)}); export it again") from error
    except (EncodeError, MemoryError, ValueError, RuntimeError, UnicodeDecodeError) as error:
        raise BadInput(f"{name}: cannot be checked ({first_sentence(error)}); export it again") from error
    _check_convolutions(model, name)


def check_walk(model: onnx.ModelProto, name: str) -> None:
    """Raise `BadInput` naming `name` unless the graph can be walked from its inputs to its outputs.

    Inputs have a type, names are text, every node makes something that no other makes, and reads nothing made later.
    """
    for value in model.graph.input:
        if kind_of(value) in ("", TENSOR) and not value.type.tensor_type.elem_type:
            raise BadInput(f"{name}: its input {value.name} has no type; export it again")
    made_at: dict[str, int] = {}
    for i, node in enumerate(model.graph.node):
        if not all(isinstance(text, str) for text in (node.name, node.op_type, *node.input, *node.output)):
            raise BadInput(f"{name}: node {i} ({node.op_type!r}) has a name that is not UTF-8; export it again")
        made = [output for output in node.output if output]
        if not made or any(output in made_at for output in made):
            wrong = "makes a tensor that another node makes" if made else "makes nothing"
            raise BadInput(f"{name}: {label(node) if made else node.op_type} {wrong}; export it again")
        made_at |= dict.fromkeys(made, i)
    for i, node in enumerate(model.graph.node):
        late = next((tensor for tensor in node.input if made_at.get(tensor, -1) >= i), None)
        if late is not None:
            raise BadInput(f"{name}: {label(node)} reads {late}, which is made after it; export it again")


def save_model(model: onnx.ModelProto, path: str | os.PathLike[str], force: bool = False) -> int:
    """Write `model` to `path`, whole or not at all; returns the bytes written. Raises `BadInput`.

    More than `EXTERNAL_ABOVE_BYTES` of weights go to `NAME.onnx.data`, which is written first: a model file never
    names data that is not there yet.
    """
    path = check_output(Path(path), force)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= EXTERNAL_ABOVE_BYTES:
        data = model.SerializeToString(deterministic=True)
        write_atomic(path, data)
        return len(data)
    if path.is_symlink():
        raise BadInput(f"{path}: is a link, and so many weights are a file beside the model; give {real_file(path)}")
    beside = check_output(path.with_name(path.name + ".data"), force)
    data = write_external(model, beside).SerializeToString(deterministic=True)
    write_atomic(path, data)
    return len(data) + beside.stat().st_size


def first_sentence(error: BaseException, limit: int = 120) -> str:
    """What a foreign library says, in one short line without its repeated tags (`[ShapeInferenceError]`)."""
    text = " ".join(_TAGS.sub(" ", str(error)).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


# ------------------------------------------------------------------------------------------------ versions, functions
def _check_versions(model: onnx.ModelProto, name: str) -> None:
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise BadInput(f"{name}: IR version {model.ir_version}, known are 1 to {onnx.IR_VERSION}; export it again")
    newest = onnx.defs.onnx_opset_version()
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    domains = [entry.domain or "ai.onnx" for entry in model.opset_import]
    if not domains:
        raise BadInput(f"{name}: does not say which operator set it uses; export it again")
    if len(set(domains)) < len(domains):
        raise BadInput(f"{name}: names an operator set twice, as two models glued together do; export it again")
    if any(not 1 <= version <= newest for version in versions):
        raise BadInput(f"{name}: operator set {versions[0]}, known are 1 to {newest}; export it again")


def _check_convolutions(model: onnx.ModelProto, name: str) -> None:
    """Refuse convolutions that no input fits, which the checker lets through."""
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        place = WEIGHT_INPUT.get(node.op_type)
        if place is None or node.domain not in ("", "ai.onnx") or len(node.input) <= place:
            continue
        groups, rank = attributes(node).get("group", 1), ranks.get(node.input[place], 3)
        if groups < 1 or rank < 3:
            wrong = f"{groups} groups" if groups < 1 else f"a weight of rank {rank}, not (O, I, k, ...)"
            raise BadInput(f"{name}: {label(node)}: a convolution with {wrong}; export it again")


def _check_functions(model: onnx.ModelProto, name: str) -> None:
    """Refuse functions that call themselves or grow beyond `EXPANDED_NODES_LIMIT` nodes when they are written out."""
    try:
        nodes = expanded_nodes(model)
    except graphlib.CycleError as error:
        raise BadInput(f"{name}: its functions call each other in a circle; export it again") from error
    if nodes > EXPANDED_NODES_LIMIT:
        count = f"{nodes:,}" if nodes < 10**15 else "10^15 or more"
        raise BadInput(f"{name}: grows to {count} nodes, the limit is {EXPANDED_NODES_LIMIT:,}; export it again")


def expanded_nodes(model: onnx.ModelProto) -> int:
    """Number of nodes once every call of a model-local function is written out; linear in the size of the file.

    A call costs itself and its function's nodes: cost(f) = sum over nodes n of f of 1 + cost(n's function).
    Raises `graphlib.CycleError` when functions call each other in a circle.
    """
    calls = {(f.domain, f.name): [(n.domain, n.op_type) for n in nodes_within(f.node)] for f in model.functions}
    cost: dict[tuple[str, str], int] = {}
    for key in graphlib.TopologicalSorter(calls).static_order():
        cost[key] = sum(1 + cost[callee] for callee in calls.get(key, []))
    return sum(1 + cost.get((n.domain, n.op_type), 0) for n in nodes_within(model.graph.node))
