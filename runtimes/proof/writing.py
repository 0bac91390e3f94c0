"""Write the zip of a bundle: what shrinks is deflated, all else is stored, and equal content gives equal bytes.

Weights and golden samples do not shrink; the manifest and the program are text. All have one fixed date.
Test: tests/test_pack.py.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip file can hold."""
TEXT = (".py", ".json")


def write_members(path: Path, members: Mapping[str, bytes]) -> None:
    """The zip file `path` with `members`, name -> content, in their order."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED if name.endswith(TEXT) else zipfile.ZIP_STORED
            archive.writestr(info, data)
