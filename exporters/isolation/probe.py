"""Does a model survive being run? Load it and run it twice without optimization, in a child process.

The checker lets through what only shows when the model runs: a division that kills the process, a loop that never ends,
an operator without a kernel, 64 GiB made from 300 bytes, NaN from a negative variance, noise that makes every
comparison meaningless. A model from a stranger is probed once, before anything of ours opens it in this process.
Test: tests/test_probe.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from exporters.graph import free_inputs
from exporters.isolation.apart import GRAPH, apart
from exporters.isolation.sandbox import MEMORY_MB, ChildFailed, run_in_child
from exporters.tensors import require_tensors
from runtimes.base import Array, BadInput, Tensors
from runtimes.machine import memory_bytes
from runtimes.session import open_session, random_feeds

Shapes = Mapping[str, tuple[int, ...]]

FEATURES = 256
"""Maps of features in memory at once, for each of the input: a U-Net that starts with 64 channels has three of 64."""
WIDEST = 8
"""Bytes of the widest number that an input holds."""

UNSTEADY = "differs between two runs on one input"
"""In the message about a model that never gives the same answer twice."""

TIMEOUT_S, SECONDS_A_MB = 30.0, 1.0
"""For loading and two runs on one random image, and more for large models: VGG-16 (553 MB) takes 2 s, a detector of
190 MB and 319 billion multiply-adds 15 s, and both several times as long beside busy neighbours."""


def probe(
    model: onnx.ModelProto,
    name: str,
    *,
    input_shapes: Shapes | None = None,
    seed: int = 0,
    finite: bool = True,
    repeatable: bool = False,
    timeout_s: float | None = None,
    memory_mb: int | None = None,
) -> None:
    """Raise `BadInput` naming `name` unless `model` runs on seeded random inputs, twice with equal, finite outputs.

    With `finite=False` only running counts, not what comes out, unless `repeatable` still wants two runs to agree.
    Symbolic sizes other than the batch must be given by `input_shapes`. `timeout_s` None: `patience_s` of its size.
    """
    require_tensors(model, name)
    shapes = {k: list(v) for k, v in (input_shapes or {}).items()}
    options: dict[str, Any] = {
        "input_shapes": shapes,
        "seed": seed,
        "finite": finite,
        "repeatable": repeatable or finite,
    }
    target = "exporters.isolation.probe:child"
    with apart(model, name) as (folder, size):
        options["folder"] = str(folder)
        try:
            seconds = patience_s(size) if timeout_s is None else timeout_s
            room = room_mb(size, fed_bytes(model, input_shapes or {}))
            run_in_child(target, b"", options, timeout_s=seconds, memory_mb=memory_mb or room)
        except ChildFailed as error:
            raise BadInput(f"{name}: does not survive one run ({error}); mend the model") from error
        except BadInput as error:
            raise BadInput(f"{name}: {str(error).removeprefix('model: ')}") from error


def patience_s(size_bytes: int) -> float:
    """Seconds for a model of that size: one that never ends is small, one that takes long has weights."""
    return TIMEOUT_S + SECONDS_A_MB * size_bytes / 2**20


def room_mb(size_bytes: int, fed_bytes: int = 0) -> int:
    """Address space for a child that holds a model of that size: what the tools need, and room for eight copies.

    A run on inputs of `fed_bytes` may hold `FEATURES` times as much, but never takes more than half of the machine.
    """
    features = min(FEATURES * fed_bytes >> 20, memory_bytes() >> 21)
    return MEMORY_MB + 8 * (size_bytes >> 20) + features


def fed_bytes(model: onnx.ModelProto, shapes: Shapes) -> int:
    """Bytes of one sample of all inputs of `model`, where `shapes` say what it leaves open; what nobody says is 1."""
    total = 0
    for value in free_inputs(model):
        dims = value.type.tensor_type.shape.dim
        declared = [max(dim.dim_value, 1) for dim in dims]
        total += WIDEST * math.prod(shapes.get(value.name, declared))
    return total


def child(
    data: bytes, folder: str, input_shapes: dict[str, list[int]], seed: int, finite: bool, repeatable: bool
) -> tuple[bytes, dict[str, Any]]:
    """What runs in the child process; `data` is not used."""
    session = open_session(Path(folder) / GRAPH, optimize=False, subject="model")
    feeds = random_feeds(session.inputs, seed=seed, sizes={k: tuple(v) for k, v in input_shapes.items()})
    first = dict(session(feeds))
    if repeatable:
        check_outputs(first, dict(session(feeds)), finite)
    return b"", {}


def check_outputs(first: Tensors, second: Tensors, finite: bool = True) -> None:
    """Raise `BadInput` unless two runs on one input gave the same numbers, all of them finite if `finite`."""
    for name, value in first.items():
        if finite and not _finite(value):
            raise BadInput(f"output {name} holds NaN or Inf on an ordinary random input; train or export it again")
        if not np.array_equal(value, second[name], equal_nan=value.dtype.kind == "f"):
            raise BadInput(f"output {name} {UNSTEADY}; export it in eval mode")


def _finite(value: Array) -> bool:
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())
