"""Files appear whole or not at all: write to a temporary name in the same folder, fsync, rename.

Every output of the project goes through `write_atomic` or `replace_whole`: a full disk, a kill or Ctrl-C leaves the old
file (or none) under the final name. A link is written through: the file that it names is made or replaced, and a file
that is replaced keeps its mode.
Every input is looked at by `check_input_file` before anything opens it.
Test: tests/test_files.py.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtimes.base import BadInput


def check_input_file(path: Path, limit_bytes: int) -> Path:
    """`path`, if it is a readable regular file of 1 to `limit_bytes` bytes; raises `BadInput` with what it is instead.

    It asks and does not open: opening a named pipe waits for ever, and reading a device may never end.
    """
    try:
        info = path.stat()
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file; check the name") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        cause = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be read ({cause}); check the name") from error
    if stat.S_ISDIR(info.st_mode):
        raise BadInput(f"{path}: is a folder; give a file")
    if not stat.S_ISREG(info.st_mode):
        raise BadInput(f"{path}: is a pipe, socket or device; give a regular file")
    if info.st_size == 0:
        raise BadInput(f"{path}: is empty; write the file again")
    if info.st_size > limit_bytes:
        raise BadInput(f"{path}: has {info.st_size:,} bytes, the limit is {limit_bytes:,}; give a smaller file")
    if not os.access(path, os.R_OK):
        raise BadInput(f"{path}: no permission to read it; change its mode or owner")
    return path


def check_output(path: Path, force: bool = False) -> Path:
    """`path`, if it can be written; raises `BadInput` when it exists (without `force`), is a folder or cannot be made.

    Call this before long work, so that a typing mistake costs a moment and not the whole run.
    """
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; give a file name")
    parent = real_file(path).parent if path.is_symlink() else path.parent
    if path.exists() and not path.is_file():
        raise BadInput(f"{path}: is not a regular file; give another name")
    if path.exists() and not force:
        raise BadInput(f"{path}: exists already; give another name or --force")
    if not parent.is_dir():
        raise BadInput(f"{parent}: no such folder; make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise BadInput(f"{parent}: no permission to write in this folder; choose another")
    return path


def require_apart(outputs: Sequence[Path | None], inputs: Sequence[str | os.PathLike[str] | None] = ()) -> None:
    """Raise `BadInput` where two of `outputs` are one file, or one is a file of `inputs`, also by a link."""
    taken = [(Path(each), "is the input itself") for each in inputs if each is not None]
    for path in (each for each in outputs if each is not None):
        for other, what in taken:
            if _same(path, other):
                raise BadInput(f"{path}: {what}; give another name")
        taken.append((path, "is given for two outputs"))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one is not there yet
        return os.path.realpath(one) == os.path.realpath(other)


def real_file(path: Path) -> Path:
    """Where `path` leads, through links; raises `BadInput` for links in a circle and for what is no file."""
    real = Path(os.path.realpath(path))
    if path.is_symlink() and _is_planted(path):
        raise BadInput(f"{path}: is a link of another user's in a folder that all may write to; give another name")
    if real.is_symlink():
        raise BadInput(f"{path}: is a link that leads to itself; give another name")
    if real.exists() and not real.is_file():
        raise BadInput(f"{path}: is not a regular file; give another name")
    return real


def _is_planted(link: Path) -> bool:
    """Whether the kernel would refuse to follow `link`, too: proc(5), protected_symlinks."""
    owner, folder = os.lstat(link).st_uid, os.stat(link.parent)
    shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
    return bool(shared) and hasattr(os, "geteuid") and owner not in (os.geteuid(), folder.st_uid)


@contextlib.contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to where `path` leads; on success fsync it and rename it, on any error remove it."""
    real = real_file(path)
    try:
        handle, name = tempfile.mkstemp(prefix=".edgecnn-", suffix=".tmp", dir=real.parent)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, stat.S_IMODE(real.stat().st_mode) if real.exists() else 0o666 & ~_umask())
        os.replace(temporary, real)
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
