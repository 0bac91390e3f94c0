"""Whether what ended a command of a bundle's own program is damage of the file, and no bug: the zip says so itself.

    ModuleNotFoundError: runtimes.proof.golden    --zip-->    the directory names runtimes/proof/gol?en.py

Python's own importer reads no checksums: a flipped byte of the program is a module that is missing, cannot be read or
does something else. Only the standard library is imported. Test: tests/test_device_bundle.py.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from typing import TypeVar

from runtimes.base import BadInput, CheckFailed, EdgeError, one_line

T = TypeVar("T")
VERIFY = "verify"
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def undamaged(bundle: str, command: str, work: Callable[[], T]) -> T:
    """What `work` returns; where it fails in a way that nobody foresaw and `bundle` is damaged, that is its error.

    `CheckFailed` for `verify`, which was asked for it, else `BadInput`.
    """
    try:
        return work()
    except EdgeError:
        raise
    except Exception as error:
        why = damage(bundle, error)
        if not why:
            raise
        text = f"{bundle}: {why}; the file is damaged, copy it again"
        if command != VERIFY:
            raise BadInput(text) from error
        raise CheckFailed(text, {"bundle": bundle, "passed": False, "hashes": False, "golden": []}) from error


def damage(bundle: str, error: Exception) -> str:
    """What is wrong with the zip `bundle`, or with its program by the `error` that it ended in; empty for nothing."""
    if not os.path.isfile(bundle):
        return ""
    try:
        with zipfile.ZipFile(bundle) as archive:
            name = archive.testzip()
    except UNREADABLE as found:
        return f"cannot be read ({one_line(str(found), 80)})"
    if name is not None:
        return f"{name} is not what was packed"
    missing = (error.name or "") if isinstance(error, ImportError) else ""
    return f"its program has no {missing.replace('.', '/')}.py" if missing.split(".")[0] == "runtimes" else ""
