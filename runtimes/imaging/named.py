"""Files that are saved beside each other, named after the inputs that they are about.

Test: tests/test_pictures.py.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from runtimes.base import BadInput
from runtimes.files import check_output


def stems(names: Iterable[str]) -> list[str]:
    """The beginning of the file names for each input; inputs of one name are numbered.

    >>> stems(["a/photo.jpg", "b/photo.jpg", "x.npy[3]"])
    ['photo', 'photo_2', 'x.npy_3']
    """
    found, last_of = dict[str, None](), dict[str, int]()
    for name in names:
        last = Path(name).name if "[" in name else Path(name).stem
        plain = re.sub(r"[^\w.-]+", "_", last).strip("_.") or "input"
        for n in itertools.count(last_of.get(plain, 0) + 1):
            stem = plain if n == 1 else f"{plain}_{n}"
            if stem not in found:
                break
        found[stem], last_of[plain] = None, n
    return list(found)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error


def check_folder(folder: Path, files: Sequence[Sequence[Path]], force: bool) -> None:
    """Raise `BadInput` when `folder` can neither be used nor made, or one of `files` exists (without `force`)."""
    if folder.is_dir():
        for file in itertools.chain(*files):
            check_output(file, force)
        return
    above = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "no permission to write there" if above.is_dir() else "is no folder"
        raise BadInput(f"{folder}: cannot be made ({above}: {why}); choose another folder")
