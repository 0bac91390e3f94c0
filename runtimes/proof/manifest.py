"""The manifest of a bundle: which fields a reader relies on, and what they must be.

    {"format": 1, "name", "task", "created_by", "chosen", "input": {"name", "shape", "dtype"}, "output": {...},
     "preprocess": {...} | null, "labels": [...], "files": {member: {"sha256", "bytes"}},
     "golden": {"limit_max_abs" | "limit_disagreement", "images", "kinds": [{"output", "axis", "places",
                "limit_max_abs", "limit_relative_l2"}] | absent, "other_size": the same | absent},
     "original": "float model" where the golden outputs are a given file's; absent where they are a PyTorch module's,
     ... whatever else the builder tells}

Names and format number are shared with the writer, exporters/pack.py. Test: tests/test_bundle.py.
"""

from __future__ import annotations

import json
import re
from typing import Any

from runtimes.base import BadInput
from runtimes.proof.archive import safe_name
from runtimes.proof.golden import is_entry

FORMAT = 1
SUFFIX = ".edge"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
MODEL_DATA = "model.onnx.data"
GOLDEN = "golden.npz"
GOLDEN_SIZE, OTHER_SIZE = "golden_size.npz", "other_size"
"""Golden samples of another height and width, and the place of their limit in the manifest's `golden`."""
FLOAT_MODEL = "float.onnx"
PYTORCH_MODULE, GIVEN_MODEL = "PyTorch module", "float model"
MAX_MANIFEST_BYTES = 2**24
_OBJECT = (dict,)
_REQUIRED: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "task": (str,),
    "created_by": (str,),
    "chosen": (str,),
    "input": _OBJECT,
    "output": _OBJECT,
    "preprocess": (dict, type(None)),
    "labels": (list,),
    "files": _OBJECT,
    "golden": _OBJECT,
}


def parse_manifest(data: bytes, subject: str) -> dict[str, Any]:
    """The manifest, with every field that the reader relies on checked; raises `BadInput` naming the field."""
    try:
        manifest = json.loads(data.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{subject}: {MANIFEST} is not JSON ({str(error)[:80]}); build it again") from error
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
        raise BadInput(f"{subject}: {MANIFEST} has no format number; this is not an edgecnn bundle")
    if manifest["format"] != FORMAT:
        raise BadInput(f"{subject}: has format {manifest['format']}, this edgecnn reads {FORMAT}; use a newer edgecnn")
    for key, types in _REQUIRED.items():
        if not isinstance(manifest.get(key, ...), types):
            raise BadInput(f"{subject}: {MANIFEST} has no proper {key!r}; build it again")
    if manifest.get("original", PYTORCH_MODULE) not in (PYTORCH_MODULE, GIVEN_MODEL):
        raise BadInput(f"{subject}: {MANIFEST} has no proper 'original'; build it again")
    wrong = _wrong_field(manifest)
    if wrong:
        raise BadInput(f"{subject}: {MANIFEST} has a wrong {wrong!r}; build it again")
    return manifest


def _wrong_field(manifest: dict[str, Any]) -> str | None:
    golden, tensor = manifest["golden"], manifest["input"]
    if not all(isinstance(tensor.get(key), str) for key in ("name", "dtype")):
        return "input"
    if not all(isinstance(label, str) for label in manifest["labels"]):
        return "labels"
    if not is_entry(golden) or (OTHER_SIZE in golden) != (GOLDEN_SIZE in manifest["files"]):
        return "golden"
    if OTHER_SIZE in golden and not is_entry(golden[OTHER_SIZE]):
        return "golden"
    if not {MODEL, GOLDEN} <= manifest["files"].keys() or not all(map(_file_ok, manifest["files"].items())):
        return "files"
    return None


def _file_ok(item: tuple[str, Any]) -> bool:
    name, entry = item
    return (
        name != MANIFEST
        and safe_name(name)
        and isinstance(entry, dict)
        and type(entry.get("bytes")) is int
        and isinstance(entry.get("sha256"), str)
        and re.fullmatch("[0-9a-f]{64}", entry["sha256"]) is not None
    )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")
