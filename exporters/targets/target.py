"""The newest operator set and IR version that a release of ONNX Runtime loads, and a model converted down to them.

    --target ort==1.14   ->   opset <= 18, IR <= 8

A release runs every older operator set, so a model that is old enough is left alone, and a release that the table does
not know has at least the row before it. Rows to 1.16 are those of ONNX Runtime's documentation, "ONNX Runtime
compatibility"; later ones were tried. onnx's converter crashes on some graphs, so that
it runs in a child process; it drops names and metadata, which are put back.
Source: https://onnxruntime.ai/docs/reference/compatibility.html, onnx/docs/Versioning.md. Test: tests/test_target.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from exporters.graph import captured_names, copy_model, nodes_within, opset
from exporters.isolation.apart import apart, as_inputs, attach, read_graph
from exporters.isolation.probe import room_mb
from exporters.isolation.sandbox import ChildFailed, run_in_child
from exporters.load import check_model, first_sentence
from exporters.restore import restore
from runtimes.base import BadInput

RELEASES: dict[tuple[int, int], tuple[int, int]] = {
    (1, 0): (11, 6),
    (1, 3): (12, 7),
    (1, 6): (13, 7),
    (1, 8): (14, 7),
    (1, 9): (15, 8),
    (1, 11): (16, 8),
    (1, 12): (17, 8),
    (1, 14): (18, 8),
    (1, 15): (19, 8),
    (1, 16): (19, 9),
    (1, 17): (20, 9),
    (1, 18): (21, 10),
    (1, 21): (22, 10),
    (1, 23): (23, 11),
    (1, 31): (26, 13),
}
"""Release -> (opset, IR version); a row holds until the next one. 1.17 to 1.23 and 1.31 were measured: what loads."""

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Target:
    """What a runtime accepts at most. `name` is as it was asked for: `ort==1.17`."""

    name: str
    opset: int
    ir_version: int


def parse_target(text: str) -> Target:
    """`ort==X.Y` (or X.Y.Z) as a `Target`; raises `BadInput` for anything else.

    >>> parse_target("ort==1.17")
    Target(name='ort==1.17', opset=20, ir_version=9)
    """
    found = re.fullmatch(r"(?:ort|onnxruntime)==(\d{1,4})\.(\d{1,4})(?:\.\d+)*", text.strip())
    if not found:
        raise BadInput(f"{text}: not a target; write the release of ONNX Runtime as ort==1.17")
    release = int(found[1]), int(found[2])
    row = max((known for known in RELEASES if known <= release), default=None)
    if row is None:
        raise BadInput(f"{text}: the oldest known release of ONNX Runtime is 1.0; use a newer one")
    return Target(text.strip(), *RELEASES[row])


def convert(model: onnx.ModelProto, target: Target, name: str = "model") -> onnx.ModelProto:
    """A copy of `model` that `target` loads: not newer than its operator set and IR version, and valid.

    The function is for the caller to compare. Raises `BadInput` naming `name` where onnx cannot convert an operator.
    """
    converted = copy_model(model) if opset(model) <= target.opset else _lower(model, target, name)
    converted.ir_version = min(converted.ir_version, target.ir_version)
    try:
        check_model(converted, name)
    except BadInput as error:
        raise BadInput(f"{name}: is not valid at {target.name}; leave out --target ({error})") from error
    return converted


def runnable(model: onnx.ModelProto, wanted: Target | None = None, name: str = "model") -> onnx.ModelProto:
    """`model` where the installed ONNX Runtime loads it; else a copy of an older IR version, converted for `wanted`.

    onnx writes its newest IR version by default, whatever the graph holds.
    """
    import onnxruntime

    newest = parse_target(f"ort=={onnxruntime.__version__}")
    if wanted is not None and opset(model) > newest.opset:
        return convert(model, wanted, name)
    if model.ir_version <= newest.ir_version:
        return model
    made = copy_model(model)
    made.ir_version = newest.ir_version
    return made


def at_opset(model: onnx.ModelProto, version: int, name: str = "model") -> onnx.ModelProto:
    """A copy of `model` in operator set `version`, older or newer; raises `BadInput` where onnx cannot convert it."""
    if opset(model) == version:
        return copy_model(model)
    return _lower(model, Target(f"opset {version}", version, model.ir_version), name)


def _lower(model: onnx.ModelProto, target: Target, name: str) -> onnx.ModelProto:
    with apart(model, name) as (folder, size):
        options = {"folder": str(folder), "version": target.opset}
        try:
            data, _ = run_in_child(
                "exporters.targets.target:child", b"", options, timeout_s=TIMEOUT_S, memory_mb=room_mb(size)
            )
        except ChildFailed as error:
            why = f"onnx cannot convert opset {opset(model)} to {target.opset} for {target.name} ({error})"
            raise BadInput(f"{name}: {why}; use a newer target") from error
    found = onnx.ModelProto.FromString(data)
    attach(found, model.graph.initializer)
    return restore(found, model, version=target.opset)


def child(data: bytes, folder: str, version: int) -> tuple[bytes, dict[str, Any]]:
    """What runs in the child process; `data` is not used."""
    model = read_graph(Path(folder))
    inputs = len(model.graph.input)
    hidden = as_inputs(model)
    try:
        found = onnx.version_converter.convert_version(model, version)
    except Exception as error:
        raise ChildFailed(_reason(error)) from error
    del found.graph.input[inputs:]
    _drop_defaults(found, version)
    read = {name for node in found.graph.node for name in (*node.input, *captured_names(node))}
    found.graph.initializer.extend(tensor for tensor in hidden if tensor.name in read)
    return found.SerializeToString(deterministic=True), {}


def _reason(error: Exception) -> str:
    """What the converter says, without its source files."""
    return first_sentence(ValueError(re.sub(r"^.*Assertion `\w+` failed: ", "", str(error)).replace("$", "")))


def _drop_defaults(model: onnx.ModelProto, version: int) -> None:
    """Drop attributes that the older operator does not know and that say what it does anyway.

    The converter leaves ReduceMean's `noop_with_empty_axes` = 0 behind, an error before operator set 18.
    """
    for node in nodes_within(model.graph.node):
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, node.domain):
            continue
        old, new = (onnx.defs.get_schema(node.op_type, v, "") for v in (version, onnx.defs.onnx_opset_version()))
        for attribute in list(node.attribute):
            default = new.attributes[attribute.name].default_value if attribute.name in new.attributes else None
            if attribute.name not in old.attributes and default is not None and _equal(attribute, default):
                node.attribute.remove(attribute)


def _equal(one: onnx.AttributeProto, other: onnx.AttributeProto) -> bool:
    return one.type == other.type and bool(helper.get_attribute_value(one) == helper.get_attribute_value(other))
