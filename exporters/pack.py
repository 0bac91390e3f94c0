"""Write a bundle: one plain zip file with the model, how to feed it, and the proof that it works.

    NAME.edge = manifest.json + model.onnx (+ model.onnx.data) + golden.npz          format: runtimes/bundle.py

Members are stored, not compressed (weights do not shrink, and a device reads them in place), with a fixed date, so that
the same content gives the same bytes. A bundle is read back and verified before it gets its name.
Test: tests/test_pack.py.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from exporters.load import save_model
from runtimes.base import Array, CheckFailed
from runtimes.bundle import FORMAT, GOLDEN, MANIFEST, MODEL, golden_bytes, open_bundle, verify
from runtimes.files import replace_whole

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip file can hold."""
GOLDEN_SLACK = 2.0
"""Another CPU sums in another order, and without VNNI may saturate: it may differ twice as much as this one does."""


def pack(
    path: Path,
    model: onnx.ModelProto,
    about: Mapping[str, Any],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    measured_max_abs: float,
) -> None:
    """Write the bundle `path`: `model`, the manifest entries `about`, and golden `inputs` (n, ...) with the `outputs`
    that the original network gives for them. `measured_max_abs` is how far `model` was from those on this machine.

    Raises `CheckFailed`, and writes nothing, when the packed bundle does not pass its own verification.
    """
    members = {**model_files(model), GOLDEN: golden_bytes(inputs, outputs)}
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in members.items()}
    scale = max(float(abs(array).max(initial=0.0)) for array in outputs)
    limit = GOLDEN_SLACK * measured_max_abs + 1e-5 * max(scale, 1e-3)  # float32 leaves 1e-6 of the largest output
    manifest = {**about, "format": FORMAT, "files": files, "golden": {"limit_max_abs": limit, "images": len(inputs[0])}}
    text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
    with replace_whole(path) as temporary:
        _write(temporary, {MANIFEST: text.encode(), **members})
        proof = verify(open_bundle(temporary), threads=1)
        if not proof.passed:
            worst = max(check.max_abs for check in proof.golden)
            raise CheckFailed(
                f"{path}: golden outputs differ by {worst:.3g}, the limit is {limit:.3g}; nothing written"
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
            archive.writestr(info, data)
