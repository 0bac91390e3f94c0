"""Open an ONNX model on the provider that was asked for, or say in one line what is missing.

    bytes | path | ModelProto --open_session--> Session: feeds {name: array} -> outputs {name: array}

ONNX Runtime alone falls back to the CPU in silence, prints to stdout while it does so, and reads a byte-swapped array
as garbage; none of the three happens here. `Session` is a `Runner`. Source: ONNX Runtime's
`onnxruntime_inference_collection.py` and `onnxruntime_session_options_config_keys.h`. Test: tests/test_session.py.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import runtimes.providers
from runtimes import machine, plugins
from runtimes.base import Array, BadInput, Tensors, Unavailable, one_line
from runtimes.files import check_input_file

MAX_MODEL_BYTES = 2**31 - 1
"""Protobuf's own limit for one message; bigger networks keep their weights in an external file."""
MAX_FEED_BYTES = 2**30
_NOWHERE = os.path.join(os.devnull, "no-external-data")
_NUMPY = {"float": "float32", "double": "float64"}


class Serializable(Protocol):
    """An `onnx.ModelProto`, without importing onnx to say so."""

    def SerializeToString(self) -> bytes: ...


Model = bytes | str | os.PathLike[str] | Serializable


@dataclass(frozen=True)
class TensorInfo:
    """A graph input or output. `dtype` is numpy's name of it; a dimension is a number, a symbol, or None if unknown."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class Session:
    """A loaded model; calling it runs it. `raw` is the `onnxruntime.InferenceSession`, for what is not wrapped here."""

    def __init__(self, raw: Any, provider: str, threads: int, size_bytes: int, subject: str = "model") -> None:
        self.raw = raw
        self.provider = provider
        self.threads = threads
        self.size_bytes = size_bytes
        self.subject = subject
        self.inputs = tuple(_info(value) for value in raw.get_inputs())
        self.outputs = tuple(_info(value) for value in raw.get_outputs())
        self._output_names = [info.name for info in self.outputs]

    def __call__(self, feeds: Tensors) -> dict[str, Array]:
        """Outputs by name; raises `BadInput` naming the input, what is wanted and what came."""
        try:
            for value in feeds.values():
                if not value.dtype.isnative:  # ONNX Runtime would read the bytes as they lie
                    raise BadInput(f"{self.subject}: byte-swapped array; use .astype(x.dtype.newbyteorder('='))")
            return dict(zip(self._output_names, self.raw.run(self._output_names, feeds), strict=True))
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"{self.subject}: {complaint(self.inputs, feeds) or _reason(error)}") from error

    def __repr__(self) -> str:
        return f"Session({self.subject}, provider={self.provider!r}, threads={self.threads})"


def open_session(
    model: Model,
    provider: str = "cpu",
    threads: int | None = None,
    *,
    optimize: bool = True,
    profile_prefix: str | None = None,
    external: Mapping[str, bytes] | None = None,
) -> Session:
    """Load `model` on `provider` with `threads` intra-op threads (None: as many as this process may use).

    `external` holds the contents of external-data files by the names the model uses; a model that comes as bytes can
    read no other file. Raises `BadInput` for what ONNX Runtime cannot load and `Unavailable` for a provider that
    cannot run here.
    """
    plugin = plugins.load(runtimes.providers, provider, "provider")
    threads = machine.default_threads() if threads is None else threads
    if threads < 1:
        raise BadInput(f"threads {threads}: at least 1 is needed")
    subject, data, folder = _read(model)
    plugin.require()
    options = _options(threads, optimize, profile_prefix, folder)
    plugin.configure(options)
    external = external or {}
    if external:
        buffers = list(external.values())
        options.add_external_initializers_from_files_in_memory(list(external), buffers, [len(b) for b in buffers])
    raw = _create(subject, data, options, plugin.ORT_NAME, plugin.options())
    if plugin.ORT_NAME not in raw.get_providers():
        raise Unavailable(f"{provider}: {plugin.ORT_NAME} refused this session; run `edgecnn doctor` for the cause")
    size = len(data) + (sum(map(len, external.values())) or _sibling_bytes(model))
    return Session(raw, provider, threads, size, subject)


def random_feeds(
    inputs: tuple[TensorInfo, ...],
    batch: int = 1,
    seed: int = 0,
    sizes: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, Array]:
    """Seeded feeds: standard normal for floats, 0 or 1 for wide integers and bools, the whole range for 8-bit ones.

    A symbolic first dimension becomes `batch`; other symbolic dimensions must come from `sizes` (input name -> shape).
    Raises `BadInput` for an open dimension, a shape that does not fit, and more than 1 GiB in all.
    """
    sizes = sizes or {}
    known = [info.name for info in inputs]
    for name in sizes:
        if name not in known:
            raise BadInput(plugins.unknown(name, known, "input"))
    shapes = {info.name: _fixed_shape(info, batch, sizes.get(info.name)) for info in inputs}
    total = sum(math.prod(shapes[i.name]) * _dtype(i).itemsize for i in inputs)
    if total > MAX_FEED_BYTES:
        raise BadInput(f"inputs: {total / 2**20:,.0f} MiB asked for, the limit is 1,024; use a smaller batch or shape")
    rng = np.random.default_rng(seed)
    return {info.name: _random(rng, _dtype(info), shapes[info.name]) for info in inputs}


def complaint(inputs: tuple[TensorInfo, ...], feeds: Tensors) -> str | None:
    """What is wrong with `feeds` for these `inputs`, in one sentence; None when names, types and shapes fit."""
    known = [info.name for info in inputs]
    for name in feeds:
        if name not in known:
            return plugins.unknown(name, known, "input")
    for info in inputs:
        if info.name not in feeds:
            return f"input {info.name} is missing; it wants {_wanted(info)}"
        value = feeds[info.name]
        if not isinstance(value, np.ndarray):
            return f"input {info.name} wants {_wanted(info)}, got a {type(value).__name__}"
        if value.dtype.name != info.dtype or not _fits(info.shape, value.shape):
            return f"input {info.name} wants {_wanted(info)}, got {value.dtype.name} {list(value.shape)}"
    return None


def _fits(wanted: tuple[int | str | None, ...], got: tuple[int, ...]) -> bool:
    return len(wanted) == len(got) and all(not isinstance(w, int) or w == g for w, g in zip(wanted, got, strict=True))


def _wanted(info: TensorInfo) -> str:
    return f"{info.dtype} [{', '.join('?' if d is None else str(d) for d in info.shape)}]"


def _info(value: Any) -> TensorInfo:
    inner = re.fullmatch(r"tensor\((\w+)\)", value.type)
    dtype = _NUMPY.get(inner[1], inner[1]) if inner else value.type
    return TensorInfo(value.name, dtype, tuple(value.shape or ()))


def _dtype(info: TensorInfo) -> np.dtype[Any]:
    try:
        dtype = np.dtype(info.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        raise BadInput(f"input {info.name}: no random values for type {info.dtype}; give real data")
    return dtype


def _fixed_shape(info: TensorInfo, batch: int, given: tuple[int, ...] | None) -> tuple[int, ...]:
    if given is not None:
        if not _fits(info.shape, given) or min(given, default=1) < 1:
            raise BadInput(f"input {info.name} wants {_wanted(info)}, the shape given is {list(given)}")
        return tuple(given)
    first = info.shape[0] if info.shape else None
    if batch != 1 and isinstance(first, int) and first != batch:
        raise BadInput(f"input {info.name}: the batch is fixed to {first}, not {batch}; export it with a dynamic one")
    shape = tuple(batch if i == 0 and not isinstance(d, int) else d for i, d in enumerate(info.shape))
    if not all(isinstance(d, int) for d in shape):
        raise BadInput(f"input {info.name}: {_wanted(info)} is open; fix it with --input-shape {info.name}:N,C,H,W")
    return tuple(int(d) for d in shape if d is not None)


def _random(rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    if dtype.kind == "f":
        return rng.standard_normal(shape, np.float32).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return rng.integers(0, 2, shape).astype(dtype)


def _read(model: Model) -> tuple[str, bytes, str]:
    """(name for messages, model bytes, folder of its external data). A path is read here: ONNX Runtime fails on names
    that are not UTF-8, and a model that comes as bytes must find no file at all."""
    if isinstance(model, bytes):
        return "model", model, _NOWHERE
    if isinstance(model, (str, os.PathLike)):
        path = Path(model)
        return str(path), _read_file(path), str(path.resolve().parent)
    try:
        return "model", model.SerializeToString(), _NOWHERE
    except ValueError as error:  # protobuf's answer above 2 GiB
        raise BadInput("model: larger than 2 GiB; save it with external data and open the file") from error


def _read_file(path: Path) -> bytes:
    try:
        return check_input_file(path, MAX_MODEL_BYTES).read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the disk") from error


def _sibling_bytes(model: Model) -> int:
    """Size of NAME.onnx.data beside NAME.onnx, where this project (and torch) keeps large weights; else 0."""
    if isinstance(model, (str, os.PathLike)):
        sibling = Path(f"{os.fspath(model)}.data")
        return sibling.stat().st_size if sibling.is_file() else 0
    return 0


def _options(threads: int, optimize: bool, profile_prefix: str | None, folder: str) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; the same text on stderr is noise
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    if threads > 1:  # spinning threads steal time from each other on a shared machine
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    return options


def _create(subject: str, data: bytes, options: Any, ort_name: str, provider_options: dict[str, str]) -> Any:
    import onnxruntime as ort

    try:
        providers = [(ort_name, provider_options)]
        raw = ort.InferenceSession(data, options, providers=providers, enable_fallback=0)
    except Exception as error:
        raise BadInput(f"{subject}: ONNX Runtime cannot load it ({_reason(error)})") from error
    raw.disable_fallback()
    raw._model_bytes = b""  # kept only for the fall-back that is off: a whole copy of the model
    return raw


def _reason(error: Exception, limit: int = 200) -> str:
    """ONNX Runtime's message without its prefix, source paths and line breaks."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    text = re.sub(r"/onnxruntime_src/\S+:\d+ ", "", " ".join(text.split())) or type(error).__name__
    return one_line(text, limit)
