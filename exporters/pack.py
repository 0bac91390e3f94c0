"""Write a bundle: one plain zip file with the model, how to feed it, and the proof that it works.

    NAME.edge = manifest.json + model.onnx (+ model.onnx.data) + golden.npz          format: runtimes/bundle.py
                (+ float.onnx, the float graph, where a device is to choose: runtimes/proof/settling.py)
                (+ __main__.py, runtimes/: the program that `python NAME.edge` runs,         exporters/device_code.py)

The same content gives the same bytes. A bundle is read back and verified before it gets its name.
Test: tests/test_pack.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from exporters.device_code import device_code
from exporters.golden_limits import limit_of, limits_of, relative_limit
from exporters.load import save_model
from runtimes.base import Array, BadInput, CheckFailed
from runtimes.bundle import (
    FLOAT,
    FLOAT_MODEL,
    FORMAT,
    FORMAT_SEVERAL,
    GOLDEN,
    GOLDEN_SIZE,
    MODEL,
    OTHER_SIZE,
    open_bundle,
    verify,
)
from runtimes.execution.watch import temporary_prefix
from runtimes.files import replace_whole
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof import golden
from runtimes.proof.golden import golden_bytes
from runtimes.proof.parts import Apart
from runtimes.proof.pixels import PIXELS, numbers_of
from runtimes.proof.verification import differ
from runtimes.proof.writing import write_bundle


@dataclass(frozen=True)
class Golden:
    """Inputs (n, ...), the original network's `outputs` for them, and how far the model was `measured` here to be from
    those: `runtimes.proof.golden` says in which measure. `kinds`: the same in each kind of numbers, of which there may
    be one; none for detections.
    """

    inputs: Sequence[Array]
    outputs: Sequence[Array]
    measured: float
    kinds: Sequence[Apart] = ()

    def entry(self, measure: str) -> dict[str, Any]:
        """Of the manifest."""
        images = len(self.inputs[0])
        if len(self.kinds) < 2 or measure == golden.DISAGREEMENT:
            whole = relative_limit(self.kinds[0]) if self.kinds else {}
            return {
                f"limit_{measure}": limit_of(self.measured, measure, self.outputs),
                "images": images,
                **whole,
            }
        limits = [limits_of(kind) for kind in self.kinds]
        largest = max(limit[golden.KIND_LIMITS[0]] for limit in limits)
        return {f"limit_{measure}": largest, "images": images, golden.KINDS: limits}


@dataclass(frozen=True)
class Beside:
    """The float graph that a bundle keeps beside the chosen one, and how far it was measured to be from the original:
    the golden inputs and outputs are those of the bundle.
    """

    model: onnx.ModelProto
    golden: Golden
    other_size: Golden | None = None


def pack(
    path: Path,
    model: onnx.ModelProto,
    about: Mapping[str, Any],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    measured: float,
    kinds: Sequence[Apart] = (),
    other_size: Golden | None = None,
    runtime: bool = True,
    beside: Beside | None = None,
) -> str:
    """Write the bundle `path`: `model`, the manifest entries `about`, and golden `inputs`, `outputs`, `measured` and
    `kinds`, as in `Golden`; a model of open size brings a second set. With `runtime` it runs by itself on a device.
    `beside`: the float graph, for a device to choose between the two.

    Returns a line about what the golden samples do not prove, empty where there is nothing to say.
    Raises `CheckFailed`, and writes nothing, when the packed bundle does not pass its own verification.
    """
    measure = golden.measure_of([value.name for value in model.graph.output])
    first = Golden(inputs, outputs, measured, kinds)
    sets = {GOLDEN: first} | ({GOLDEN_SIZE: other_size} if other_size else {})
    if measure == golden.DISAGREEMENT and max(each.measured for each in sets.values()) >= 1:
        raise CheckFailed(f"{path}: the model finds none of the boxes that the original network finds; nothing written")
    members = {**model_files(model), **{name: golden_bytes(g.inputs, g.outputs) for name, g in sets.items()}}
    members |= float_files(beside.model, path) if beside else {}
    members |= device_code() if runtime else {}
    limits = _limits(measure, first, other_size)
    kept = {FLOAT: {"golden": _limits(measure, beside.golden, beside.other_size)}} if beside else {}
    number = FORMAT_SEVERAL if "inputs" in about else FORMAT
    seen = {PIXELS: numbers_of(Preprocess.from_dict(about["preprocess"]))} if about["preprocess"] else {}
    manifest = {**about, **seen, **kept, "format": number, "golden": limits}
    with replace_whole(path) as temporary:
        write_bundle(temporary, manifest, members)
        packed, graphs = open_bundle(temporary), (MODEL, *([FLOAT_MODEL] if beside else []))
        checks = [check for graph in graphs for check in verify(packed, threads=1, member=graph).golden]
        failed = [check for check in checks if not check.passed]
        if failed:
            raise CheckFailed(
                f"{path}: golden outputs {differ(failed[0])}, the limit is {failed[0].limit:.3g}; nothing written"
            )
    return f"{path}: {golden.NO_BOX}; give pictures with objects" if golden.without_boxes(checks) else ""


def _limits(measure: str, first: Golden, other_size: Golden | None) -> dict[str, Any]:
    """The manifest's entry of one graph: its limits, and those at the other size where there is one."""
    return first.entry(measure) | ({OTHER_SIZE: other_size.entry(measure)} if other_size else {})


def float_files(model: onnx.ModelProto, path: Path) -> dict[str, bytes]:
    """Member name -> content of the float graph beside; raises `BadInput` where it does not fit into one file."""
    files = model_files(model)
    if len(files) > 1:
        raise BadInput(f"{path}: the float graph is too large to be kept beside; leave --keep-float out")
    return {FLOAT_MODEL: files[MODEL]}


def model_files(model: onnx.ModelProto) -> dict[str, bytes]:
    """Member name -> content: the model, and beside it its weights where they are too many for one file."""
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        save_model(model, Path(folder) / MODEL)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
