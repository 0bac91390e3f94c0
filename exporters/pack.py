"""Write a bundle: one plain zip file with the model, how to feed it, and the proof that it works.

    NAME.edge = manifest.json + model.onnx (+ model.onnx.data) + golden.npz          format: runtimes/bundle.py
                (+ __main__.py, runtimes/: the program that `python NAME.edge` runs,         exporters/device_code.py)

Weights and golden samples are stored, not compressed (they do not shrink); the manifest and the program, which are
text, are deflated. All have a fixed date, so that the same content gives the same bytes. A bundle is read back and
verified before it gets its name.
Test: tests/test_pack.py.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from exporters.device_code import device_code
from exporters.load import save_model
from runtimes.base import Array, CheckFailed
from runtimes.bundle import (
    FORMAT,
    FORMAT_SEVERAL,
    GOLDEN,
    GOLDEN_SIZE,
    MANIFEST,
    MODEL,
    OTHER_SIZE,
    open_bundle,
    verify,
)
from runtimes.files import replace_whole
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof import golden
from runtimes.proof.golden import golden_bytes
from runtimes.proof.parts import Apart
from runtimes.proof.pixels import PIXELS, numbers_of
from runtimes.proof.verification import differ

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip file can hold."""
TEXT = (".py", ".json")


@dataclass(frozen=True)
class Golden:
    """Inputs (n, ...), the original network's `outputs` for them, and how far the model was `measured` here to be from
    those: `runtimes.proof.golden` says in which measure. `kinds`: the same in each kind of numbers, where there are
    several.
    """

    inputs: Sequence[Array]
    outputs: Sequence[Array]
    measured: float
    kinds: Sequence[Apart] = ()

    def entry(self, measure: str) -> dict[str, Any]:
        """Of the manifest."""
        images = len(self.inputs[0])
        if not self.kinds or measure == golden.DISAGREEMENT:
            return {f"limit_{measure}": golden.limit_of(self.measured, measure, self.outputs), "images": images}
        limits = [golden.limits_of(kind) for kind in self.kinds]
        largest = max(limit[golden.KIND_LIMITS[0]] for limit in limits)
        return {f"limit_{measure}": largest, "images": images, golden.KINDS: limits}


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
) -> None:
    """Write the bundle `path`: `model`, the manifest entries `about`, and golden `inputs`, `outputs`, `measured` and
    `kinds`, as in `Golden`; a model of open size brings a second set. With `runtime` it runs by itself on a device.

    Raises `CheckFailed`, and writes nothing, when the packed bundle does not pass its own verification.
    """
    measure = golden.measure_of([value.name for value in model.graph.output])
    first = Golden(inputs, outputs, measured, kinds)
    sets = {GOLDEN: first} | ({GOLDEN_SIZE: other_size} if other_size else {})
    if measure == golden.DISAGREEMENT and max(each.measured for each in sets.values()) >= 1:
        raise CheckFailed(f"{path}: the model finds none of the boxes that the original network finds; nothing written")
    members = {**model_files(model), **{name: golden_bytes(g.inputs, g.outputs) for name, g in sets.items()}}
    members |= device_code() if runtime else {}
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in members.items()}
    limits = first.entry(measure) | ({OTHER_SIZE: other_size.entry(measure)} if other_size else {})
    number = FORMAT_SEVERAL if "inputs" in about else FORMAT
    seen = {PIXELS: numbers_of(Preprocess.from_dict(about["preprocess"]))} if about["preprocess"] else {}
    manifest = {**about, **seen, "format": number, "files": files, "golden": limits}
    text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
    with replace_whole(path) as temporary:
        _write(temporary, {MANIFEST: text.encode(), **members})
        failed = [check for check in verify(open_bundle(temporary), threads=1).golden if not check.passed]
        if failed:
            raise CheckFailed(
                f"{path}: golden outputs {differ(failed[0])}, the limit is {failed[0].limit:.3g}; nothing written"
            )


def model_files(model: onnx.ModelProto) -> dict[str, bytes]:
    """Member name -> content: the model, and beside it its weights where they are too many for one file."""
    with tempfile.TemporaryDirectory(prefix="edgecnn-pack-") as folder:
        save_model(model, Path(folder) / MODEL)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _write(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED if name.endswith(TEXT) else zipfile.ZIP_STORED
            archive.writestr(info, data)
