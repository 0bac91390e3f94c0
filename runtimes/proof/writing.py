"""Write a bundle: a zip whose manifest has the hash of every other member; equal content gives equal bytes.

Weights and golden samples do not shrink and are stored; the manifest and the program, which are text, are deflated. All
have one fixed date.
Test: tests/test_pack.py.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtimes.base import BadInput
from runtimes.comparing.distance import json_number
from runtimes.files import check_output
from runtimes.proof.manifest import MANIFEST, SUFFIX

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip file can hold."""
TEXT = (".py", ".json")


def check_bundle_output(path: Path, force: bool) -> Path:
    """`path`, if a bundle can be written there; raises `BadInput` before any long work when not."""
    if check_output(path, force).suffix != SUFFIX:
        raise BadInput(f"{path}: a bundle's name ends in {SUFFIX}; give {path.with_suffix(SUFFIX)}")
    return path


def write_bundle(path: Path, manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
    """The bundle `path` of `members`, name -> content, in their order; their hashes go into the `manifest`, whose
    numbers are made ones that JSON has.
    """
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in members.items()}
    text = json.dumps(_finite({**manifest, "files": files}), indent=1, sort_keys=True, allow_nan=False)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {MANIFEST: text.encode(), **members}.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED if name.endswith(TEXT) else zipfile.ZIP_STORED
            archive.writestr(info, data)


def _finite(value: Any) -> Any:
    """`value` of a document with its infinite numbers made the largest that there are, and NaN the lowest."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return json_number(value) if isinstance(value, float) else value
