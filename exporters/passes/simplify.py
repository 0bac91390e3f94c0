"""Remove what a graph does not need (constant shape arithmetic, no-ops, repeated work) with onnxsim, and prove it.

    child: one run -> onnxsim -> checker -> both graphs on seeded inputs -> names and metadata put back

The only file that calls onnxsim. It gets a checked model in memory, never a path (its external-data reader copies
foreign files), in a child process, because it crashes on some valid graphs, prints to stdout and imports torch. It is
told to leave BatchNormalization alone: that fold is ours (`fold_batchnorm`). Large weights it never sees (`apart`). A
result that differs from the given graph by more than the graph's own float noise, has other inputs or outputs, or is
more than 1.5 times as large is thrown away, and `kept` says why. Source: https://github.com/onnxsim/onnxsim.
Test: tests/test_simplify.py.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import captured_names, copy_model, label, opset
from exporters.isolation.apart import GRAPH, apart, as_inputs, attach, read_graph
from exporters.isolation.probe import Shapes, fed_bytes, patience_s, room_mb
from exporters.isolation.sandbox import ChildFailed, enter, run_in_child
from exporters.load import check_model, first_sentence
from exporters.restore import restore, take_defaults
from runtimes.base import Array, BadInput, Inconclusive, Tensors
from runtimes.parity import compare
from runtimes.session import Session, open_session, random_feeds

GROWTH_LIMIT = 1.5
"""A folded constant may be larger than its recipe; a result this many times larger is not simpler."""

GROWTH_FREE_BYTES = 4096

NOTHING = '<ir_version: 8, opset_import: ["": 18]> nothing (float[1] x) => (float[1] y) { y = Identity(x) }'

PROBE = "probe"
"""The child's first phase: what goes wrong in it is the given model's fault."""

NOISE_MARGIN_DB = 20.0
SNR_CEILING_DB = 90.0
SNR_FLOOR_DB = 40.0
"""A result must reach the model's own noise less the margin, never more than the ceiling and never less than the floor.

The own noise is the SNR after one rounding error of float32 on every input value. Two orders of adding up differ by
more than that, by less than 20 dB; 40 dB is where eight bits would not lose anything any more.
"""


def run(
    model: onnx.ModelProto,
    *,
    timeout_s: float = 120.0,
    memory_mb: int | None = None,
    input_shapes: Shapes | None = None,
    seed: int = 0,
    name: str = "model",
) -> PassResult:
    """`model` simplified, or as it was with the reason in `kept`; node names and metadata stay, so do symbolic sizes.

    Raises `BadInput` naming `name` when the given model itself cannot run. `input_shapes` (input name -> shape) is
    only for the random inputs of the proof, for symbolic sizes other than the batch.
    """
    shapes = {k: list(v) for k, v in (input_shapes or {}).items()}
    with apart(model, name) as (folder, size):
        options = {"folder": str(folder), "size_bytes": size, "input_shapes": shapes, "seed": seed}
        room = memory_mb or room_mb(size, fed_bytes(model, input_shapes or {}))
        found, notes = _in_child(name, {**options, "timeout_s": timeout_s}, room)
    if "worse" in notes:
        return PassResult(copy_model(model), kept=(Kept("graph", notes["worse"]),))
    result = onnx.ModelProto.FromString(found)
    attach(result, model.graph.initializer)
    changes = tuple(_changes(model, result))
    return PassResult(result if changes else copy_model(model), changes)


def _in_child(name: str, options: Mapping[str, Any], room: int) -> tuple[bytes, dict[str, Any]]:
    """What `child` answers. A given model that does not survive its own run is `BadInput`, onnxsim's failure is not."""
    target = "exporters.passes.simplify:child"
    try:
        seconds = options["timeout_s"] + patience_s(options["size_bytes"])
        return run_in_child(target, b"", options, timeout_s=seconds, memory_mb=room)
    except ChildFailed as error:
        if error.phase == PROBE:
            raise BadInput(f"{name}: does not survive one run ({error}); mend the model") from error
        return b"", {"worse": f"onnxsim failed: {error}"}
    except BadInput as error:
        raise BadInput(f"{name}: {str(error).removeprefix('model: ')}") from error


def _changes(before: onnx.ModelProto, after: onnx.ModelProto) -> Iterator[Change]:
    """What a reader wants to know: nodes that went, that came, and that are computed in another way."""
    old, new = ({node.output[0]: node for node in model.graph.node if node.output} for model in (before, after))
    yield from (Change(label(node), f"{node.op_type} removed") for name, node in old.items() if name not in new)
    yield from (Change(label(node), f"{node.op_type} added") for name, node in new.items() if name not in old)
    for name, node in new.items():
        if name in old and not _same(old[name], node):
            yield Change(label(node), f"{node.op_type} reads or computes something simpler")


def _same(a: onnx.NodeProto, b: onnx.NodeProto) -> bool:
    """Equal up to the order of attributes, names and notes."""
    keys = [
        (n.domain, n.op_type, list(n.input), list(n.output), {x.name: x.SerializeToString() for x in n.attribute})
        for n in (a, b)
    ]
    return keys[0] == keys[1]


# ------------------------------------------------------------------------------------------------- inside the child
class _Worse(Exception):
    """The simplified graph may not replace the given one; the message says why."""


def child(
    data: bytes, folder: str, size_bytes: int, input_shapes: dict[str, list[int]], seed: int, timeout_s: float = 0
) -> tuple[bytes, dict[str, Any]]:
    """What runs in the child process: the simplified and proven model, or why there is none. `data` is not used.

    Raises `BadInput` for a model that cannot run as it was given.
    """
    home, shapes = Path(folder), {k: tuple(v) for k, v in input_shapes.items()}
    enter(PROBE, patience_s(size_bytes))
    reference = open_session(home / GRAPH, optimize=False, subject="model")
    reference(random_feeds(reference.inputs, seed=seed, sizes=shapes))
    enter("onnxsim", timeout_s)
    try:
        found = _simplified(read_graph(home)).SerializeToString(deterministic=True)
        added = len(found) - (home / GRAPH).stat().st_size
        if added > (GROWTH_LIMIT - 1) * size_bytes + GROWTH_FREE_BYTES:
            raise _Worse(f"onnxsim makes {size_bytes + added:,} bytes of {size_bytes:,}")
        (home / "found.onnx").write_bytes(found)
        _prove(reference, home / "found.onnx", shapes, seed)
    except _Worse as reason:
        return b"", {"worse": str(reason)}
    return found, {}


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` (edited: it is this process's own copy) after onnxsim, and valid; hidden weights still lie apart."""
    defaults, inputs = take_defaults(model), len(model.graph.input)
    hidden = as_inputs(model)
    result = restore(checked(_onnxsim(model), model), model, defaults)
    if not result.graph.node:
        raise _Worse("nothing but constants would be left")
    try:
        check_model(result, "simplified graph")
    except BadInput as error:
        raise _Worse(f"onnxsim's graph is not valid: {error}") from error
    del result.graph.input[inputs:]
    read = {name for node in result.graph.node for name in (*node.input, *captured_names(node))}
    result.graph.initializer.extend(tensor for tensor in hidden if tensor.name in read)
    return result


def preload() -> Any:
    """onnxsim, without the torch that it imports where it can: a second and 180 MB, none of it used to simplify.

    None in sys.modules makes `import torch` fail as it does on machines without torch. For child processes only.
    """
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    import onnxsim

    return onnxsim


def rehearse() -> None:
    """One simplification, after which a process has all that the next one needs: onnxsim reads every schema of onnx."""
    _onnxsim(onnx.parser.parse_model(NOTHING))


def _onnxsim(model: onnx.ModelProto) -> onnx.ModelProto:
    tool = preload()
    try:
        result, _ = tool.simplify(model, check_n=0, skip_fuse_bn=True)
    except Exception as error:
        raise _Worse(f"onnxsim failed: {first_sentence(error)}") from error
    return result if isinstance(result, onnx.ModelProto) else onnx.ModelProto()


def checked(simplified: onnx.ModelProto, given: onnx.ModelProto) -> onnx.ModelProto:
    """`simplified`, when it still has the outputs and the operator set of `given`."""
    versions = [opset(model) for model in (given, simplified)]
    if versions[0] != versions[1]:
        raise _Worse(f"onnxsim changed the operator set from {versions[0]} to {versions[1]}")
    before, after = ([value.name for value in model.graph.output] for model in (given, simplified))
    if before != after:
        raise _Worse(f"onnxsim changed the outputs from {before} to {after}")
    return simplified


# --------------------------------------------------------------------------------------------------------- the proof
def _prove(reference: Session, found: Path, shapes: Shapes, seed: int) -> None:
    """Raise `_Worse` unless both graphs give the same numbers, within the noise that the given one has itself."""
    try:
        candidate = open_session(found, optimize=False, subject="simplified graph")
        batches = list(_batches(reference, shapes, seed))
        report = compare(reference, candidate, batches)
        if report.snr_db >= SNR_CEILING_DB:
            return
        again = compare(reference, reference, batches)
        noise = compare(reference, lambda feeds: reference(nudged(feeds, seed)), batches)
    except Inconclusive:  # outputs without a number, in both
        return
    except BadInput as error:
        raise _Worse(f"the graphs cannot be compared: {error}") from error
    if again.nonfinite:
        raise _Worse("the outputs hold NaN or Inf on random inputs, so that equality cannot be shown")
    if again.max_abs > 0:
        raise _Worse("two runs on one input differ, so that equality cannot be shown")
    for own, output in zip(noise.outputs, report.outputs, strict=True):
        need = max(SNR_FLOOR_DB, min(SNR_CEILING_DB, own.snr_db - NOISE_MARGIN_DB))
        if not output.snr_db >= need:
            raise _Worse(f"output {output.name} of onnxsim's graph has {output.snr_db:.1f} dB, it needs {need:.1f} dB")


def _batches(session: Session, shapes: Shapes, seed: int) -> Iterator[Tensors]:
    """Two seeded images, and a batch of three where the model takes one: a batch size baked in shows there."""
    for i in range(2):
        yield random_feeds(session.inputs, seed=seed + i, sizes=shapes)
    if not shapes and any(info.shape and isinstance(info.shape[0], (str, type(None))) for info in session.inputs):
        three = random_feeds(session.inputs, batch=3, seed=seed + 2)
        with contextlib.suppress(BadInput):  # the given model cannot do it either: nothing to compare
            session(three)
            yield three


def nudged(feeds: Tensors, seed: int) -> dict[str, Array]:
    """Every float value moved to one of its two neighbours: the smallest change there is."""
    rng = np.random.default_rng(seed)
    return {name: _neighbour(value, rng) if value.dtype.kind == "f" else value for name, value in feeds.items()}


def _neighbour(value: Array, rng: np.random.Generator) -> Array:
    towards = np.where(rng.integers(0, 2, value.shape, dtype=bool), np.inf, -np.inf).astype(value.dtype)
    return np.asarray(np.nextafter(value, towards))
