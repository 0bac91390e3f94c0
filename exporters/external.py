"""Tensor bytes that live beside a model: read them without leaving its folder, write them whole.

    TensorProto.external_data = {location: "net.onnx.data", offset: "4096", length: "9408"}

A model file is data from a stranger, and `location` is a path: absolute, `..`, a link that leads out of the folder, a
named pipe, a negative offset and a length past the end are refused here, for every tensor of the file (initializers,
sparse ones, node attributes, bodies of If and Loop, functions). onnxsim's own reader does none of this and copies
foreign files into its output. Source: ONNX docs/ExternalData.md, CVE-2024-27318. Test: tests/test_load.py.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import onnx

from runtimes.base import BadInput
from runtimes.files import replace_whole

ALIGNMENT_BYTES = 4096
"""Every tensor starts at a page, so that a runtime may map the file into memory."""

SMALLEST_BYTES = 1024
"""Smaller tensors stay in the model: shapes and axes must be readable without the data file."""


# ---------------------------------------------------------------------------------------------------------- reading
def tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Every TensorProto anywhere inside a protobuf `message`; found by type, so that no hiding place is forgotten."""
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        for child in value if field.is_repeated else (value,):
            if isinstance(child, onnx.TensorProto):
                yield child
            else:
                yield from tensors(child)


def is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)


def read_external(model: onnx.ModelProto, path: Path, limit_bytes: int) -> None:
    """Put the external tensors of the model read from `path` into `model` itself; raises `BadInput`.

    `limit_bytes` holds for the sum, asked before anything is read: many tensors may name the same bytes.
    """
    found = [(tensor, *_locate(tensor, path)) for tensor in tensors(model) if is_external(tensor)]
    total = sum(length for *_, length in found)
    if total > limit_bytes:
        raise BadInput(f"{path}: external tensors have {total:,} bytes, the limit is {limit_bytes:,}; split the model")
    for tensor, file, offset, length in found:
        tensor.raw_data = _read(file, offset, length, path)
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")


def _locate(tensor: onnx.TensorProto, path: Path) -> tuple[Path, int, int]:
    """File, offset and length (bytes) of an external tensor, proven to lie inside the folder and inside the file."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = f"{path}: external tensor {tensor.name or '(unnamed)'}"
    location = entries.get("location", "")
    if tensor.data_location != onnx.TensorProto.EXTERNAL or not location:
        raise BadInput(f"{where} does not say in which file it is; export the model again")
    file = _inside(path.parent, location, where)
    size = _regular_size(file, where)
    offset = _number(entries.get("offset", "0"), "offset", where)
    length = _number(entries.get("length") or str(max(size - offset, 0)), "length", where)
    end = offset + length
    if end > size:
        raise BadInput(f"{where} wants bytes {offset:,} to {end:,}, {file.name} has {size:,}; copy it again")
    return file, offset, length


def _inside(folder: Path, location: str, where: str) -> Path:
    """The file that `location` names, if it is below `folder` after every link is followed."""
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    rooted = PurePosixPath(location).is_absolute() or bool(PureWindowsPath(location).anchor)
    if rooted or ".." in parts or "\0" in location:
        raise BadInput(f"{where} points at {location!r}; only files in the model's own folder are read")
    real, home = os.path.realpath(folder / location), os.path.realpath(folder)
    if os.path.commonpath([real, home]) != home:
        raise BadInput(f"{where} points at {location!r}, a link that leaves the model's folder; copy the file here")
    return Path(real)


def _regular_size(file: Path, where: str) -> int:
    try:
        info = os.stat(file)
    except OSError as error:
        raise BadInput(f"{where} is in {file.name}: {error.strerror}; put the file next to the model") from error
    if not stat.S_ISREG(info.st_mode):
        raise BadInput(f"{where} is in {file.name}, which is not a regular file; put the real file next to the model")
    return info.st_size


def _number(text: str, what: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadInput(f"{where} has {what} {text[:40]!r}, not a count of bytes; export the model again")
    return int(text)


def _read(file: Path, offset: int, length: int, path: Path) -> bytes:
    try:
        with open(file, "rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
    except OSError as error:
        raise BadInput(f"{path}: cannot read {file.name} ({error.strerror}); copy it again") from error
    if len(data) != length:
        raise BadInput(f"{path}: {file.name} became shorter while it was read; copy it again")
    return data


# ---------------------------------------------------------------------------------------------------------- writing
def write_external(model: onnx.ModelProto, data: Path) -> onnx.ModelProto:
    """Write the large initializers of `model` into the file `data`; returns a model that points there.

    `model` is not edited, and its large tensors are never copied: that is the point of the format.
    """
    large = {tensor.name for tensor in model.graph.initializer if len(tensor.raw_data) >= SMALLEST_BYTES}
    with replace_whole(data) as temporary, open(temporary, "wb") as stream:
        return split(model, large, stream, data.name)


def split(model: onnx.ModelProto, names: Collection[str], stream: BinaryIO, location: str) -> onnx.ModelProto:
    """Write the bytes of the initializers `names` to `stream`; returns a model that finds them in file `location`."""
    slim = onnx.ModelProto()
    copy_fields(model, slim, skip=("graph",))
    copy_fields(model.graph, slim.graph, skip=("initializer",))
    for tensor in model.graph.initializer:
        target = slim.graph.initializer.add()
        if tensor.name not in names:
            target.CopyFrom(tensor)
            continue
        copy_fields(tensor, target, skip=("raw_data",))
        stream.write(b"\0" * (-stream.tell() % ALIGNMENT_BYTES))
        _point(target, location, stream.tell(), len(tensor.raw_data))
        stream.write(tensor.raw_data)
    return slim


def _point(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def copy_fields(source: Any, target: Any, skip: Collection[str]) -> None:
    """Copy every field of protobuf `source` that is not in `skip` to `target`."""
    for field, value in source.ListFields():
        if field.name in skip:
            continue
        if field.is_repeated:
            getattr(target, field.name).extend(value)
        elif field.type == field.TYPE_MESSAGE:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)
