"""The manifest of a bundle: which fields a reader relies on, and what they must be.

    {"format": 1, "name", "task", "created_by", "chosen", "input": {"name", "shape", "dtype"}, "output": {...},
     "format": 2 with "inputs": [{"name", "shape", "dtype"}, ...] in place of "input": a network of several,
     "preprocess": {...} | null, "labels": [...], "files": {member: {"sha256", "bytes"}},
     "golden": {"limit_max_abs" | "limit_disagreement", "images", "limit_relative_l2" | absent,
                "kinds": [{"output", "axis", "places", "limit_max_abs", "limit_relative_l2"}] | absent,
                "other_size": the same | absent},
     "float": {"golden": the same for the graph in float.onnx, which `settle` races} | absent,
     "original": "float model" where the golden outputs are a given file's; absent where they are a PyTorch module's,
     ... whatever else the builder tells}

Names and format number are shared with the writer, exporters/pack.py. Test: tests/test_bundle.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from runtimes.base import BadInput, one_line
from runtimes.proof.archive import safe_name
from runtimes.proof.golden import is_entry

FORMAT, FORMAT_SEVERAL = 1, 2
"""Of one input, and of several: who knows only the first refuses the second by its number."""
SUFFIX = ".edge"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
MODEL_DATA = "model.onnx.data"
GOLDEN = "golden.npz"
GOLDEN_SIZE, OTHER_SIZE = "golden_size.npz", "other_size"
"""Golden samples of another height and width, and the place of their limit in the manifest's `golden`."""
FLOAT_MODEL, FLOAT = "float.onnx", "float"
"""The float graph that was kept beside, and the manifest's entry about it."""
PYTORCH_MODULE, GIVEN_MODEL = "PyTorch module", "float model"
NUMBERS = {"bool", *(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64))} - {"float8"}
"""Types of arrays that several inputs can be fed with."""
MAX_MANIFEST_BYTES = 2**24
HERE, ELSEWHERE, LONGEST_CPU = "this CPU", "the CPU that it was made on", 80
"""What a verdict calls the CPU on which it was found, what a reader is told where the manifest names none."""
_OBJECT = (dict,)
_REQUIRED: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "task": (str,),
    "created_by": (str,),
    "chosen": (str,),
    "output": _OBJECT,
    "preprocess": (dict, type(None)),
    "labels": (list,),
    "files": _OBJECT,
    "golden": _OBJECT,
}
_INPUTS: dict[int, dict[str, tuple[type, ...]]] = {FORMAT: {"input": _OBJECT}, FORMAT_SEVERAL: {"inputs": (list,)}}


def parse_manifest(data: bytes, subject: str) -> dict[str, Any]:
    """The manifest, with every field that the reader relies on checked; raises `BadInput` naming the field."""
    try:
        manifest = json.loads(data.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{subject}: {MANIFEST} is not JSON ({str(error)[:80]}); build it again") from error
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
        raise BadInput(f"{subject}: {MANIFEST} has no format number; this is not an edgecnn bundle")
    if manifest["format"] not in _INPUTS:
        known = " and ".join(map(str, _INPUTS))
        raise BadInput(f"{subject}: has format {manifest['format']}, this edgecnn reads {known}; use a newer edgecnn")
    for key, types in {**_REQUIRED, **_INPUTS[manifest["format"]]}.items():
        if not isinstance(manifest.get(key, ...), types):
            raise BadInput(f"{subject}: {MANIFEST} has no proper {key!r}; build it again")
    if manifest.get("original", PYTORCH_MODULE) not in (PYTORCH_MODULE, GIVEN_MODEL):
        raise BadInput(f"{subject}: {MANIFEST} has no proper 'original'; build it again")
    wrong = _wrong_field(manifest)
    if wrong:
        raise BadInput(f"{subject}: {MANIFEST} has a wrong {wrong!r}; build it again")
    return manifest


def _wrong_field(manifest: dict[str, Any]) -> str | None:
    if manifest["format"] == FORMAT and not _is_tensor(manifest["input"]):
        return "input"
    if manifest["format"] == FORMAT_SEVERAL and not _are_several(manifest):
        return "inputs"
    if not all(isinstance(label, str) for label in manifest["labels"]):
        return "labels"
    if not _is_golden(manifest["golden"], manifest["files"]):
        return "golden"
    if FLOAT in manifest and not _is_kept(manifest[FLOAT], manifest["files"]):
        return FLOAT
    if not {MODEL, GOLDEN} <= manifest["files"].keys() or not all(map(_file_ok, manifest["files"].items())):
        return "files"
    return None


def inputs_of(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a checked `manifest` says of each input of its model, in their order."""
    several: list[dict[str, Any]] = manifest["inputs"] if manifest["format"] == FORMAT_SEVERAL else []
    return several or [manifest["input"]]


def _is_golden(entry: object, files: Mapping[str, Any]) -> bool:
    """Whether `entry` has limits for each set of golden samples in `files`."""
    if not isinstance(entry, dict) or not is_entry(entry) or (OTHER_SIZE in entry) != (GOLDEN_SIZE in files):
        return False
    return OTHER_SIZE not in entry or is_entry(entry[OTHER_SIZE])


def _is_kept(entry: object, files: Mapping[str, Any]) -> bool:
    """Whether `entry` is about a float graph that is in `files`."""
    return isinstance(entry, dict) and FLOAT_MODEL in files and _is_golden(entry.get("golden"), files)


def _is_tensor(entry: object) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("name", "dtype"))


def _are_several(manifest: dict[str, Any]) -> bool:
    """Whether each input has a name of its own and known sizes behind the batch, and none is a picture."""
    inputs = manifest["inputs"]
    if len(inputs) < 2 or "input" in manifest or manifest["preprocess"] is not None:
        return False
    sizes = [entry.get("shape") if _is_tensor(entry) else None for entry in inputs]
    known = all(isinstance(each, list) and each and all(type(n) is int and n > 0 for n in each[1:]) for each in sizes)
    return known and len({e["name"] for e in inputs}) == len(inputs) and {e["dtype"] for e in inputs} <= NUMBERS


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


def verdict_of(manifest: Mapping[str, Any]) -> str:
    """Why this graph was chosen, for a reader who may sit at another CPU: the one that is meant has its name. Empty
    where nothing is told.

    >>> verdict_of({"verdict": "int8 is 2x of float's speed on this CPU: chose int8", "machine": {"cpu": "AMD EPYC"}})
    "int8 is 2x of float's speed on AMD EPYC: chose int8"
    """
    said, machine = manifest.get("verdict"), manifest.get("machine")
    cpu = machine.get("cpu") if isinstance(machine, dict) else None
    name = one_line(cpu.strip(), LONGEST_CPU) if isinstance(cpu, str) else ""
    return said.replace(HERE, name or ELSEWHERE) if isinstance(said, str) else ""
