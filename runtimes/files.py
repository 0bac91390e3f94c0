"""Files appear whole or not at all: write to a temporary name in the same folder, fsync, rename.

Every output of the project goes through `write_atomic` or `replace_whole`: a full disk, a kill or Ctrl-C leaves the old
file (or none) under the final name. Test: tests/test_files.py.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runtimes.base import BadInput


def check_output(path: Path, force: bool = False) -> Path:
    """`path`, if it can be written; raises `BadInput` when it exists (without `force`), is a folder or cannot be made.

    Call this before long work, so that a typing mistake costs a moment and not the whole run.
    """
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; give a file name")
    if path.exists() and not path.is_file():
        raise BadInput(f"{path}: is not a regular file; give another name")
    if path.exists() and not force:
        raise BadInput(f"{path}: exists already; give another name or --force")
    parent = path.parent
    if not parent.is_dir():
        raise BadInput(f"{parent}: no such folder; make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise BadInput(f"{parent}: no permission to write in this folder; choose another")
    return path


@contextlib.contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success fsync it and rename it to `path`, on any error remove it."""
    try:
        handle, name = tempfile.mkstemp(prefix=".edgecnn-", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all; raises `BadInput` when the disk says no."""
    with replace_whole(path) as temporary:
        temporary.write_bytes(data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
