"""Which set of images a model was trained or calibrated on, so that the same set is known again.

    a folder        SHA-256 of the names and sizes of its pictures and of what describes them, and of 16 pictures
    a file          of its size and its ends; a data.yaml is the folder that it stands for
    arrays          of their bytes
    built-in data   nothing: what is trained on and what is judged on is the same for everyone

Its place does not count: a folder that was moved or renamed is the same set, one that got a picture more is another.
Test: tests/test_fingerprint.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgecnn.data.built_in import built_in, recorded
from edgecnn.data.data_argument import InMemory, Spec
from edgecnn.data.folders import walk
from edgecnn.data.yolo import YAML, root_of
from runtimes.base import Array, BadInput
from runtimes.imaging.images import SUFFIXES

DESCRIBING = (".csv", ".json", ".txt", ".xml", ".yaml", ".yml")
LOOKED_INTO, END_BYTES = 16, 16 << 20
DIGITS = 32
"""Of 64: enough that no two sets are taken for one another."""


class DataSet(NamedTuple):
    """What a set of images is called in records (`recorded`), and its fingerprint; empty where nobody took one."""

    name: str
    fingerprint: str


def known_sets(value: Any) -> tuple[DataSet, ...]:
    """The sets in `value`, as JSON keeps them; of what is no list of pairs of texts, none."""
    pairs = value if isinstance(value, list | tuple) else ()
    found = (pair for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2)
    texts = (pair for pair in found if all(isinstance(text, str) for text in pair) and pair[0])
    return tuple(DataSet(recorded(name), mark) for name, mark in texts)


def unmarked(name: str) -> tuple[DataSet, ...]:
    """The set that somebody called `name` before fingerprints were taken; none for built-in data, which has none."""
    return () if not name or built_in(name) is not None else (DataSet(recorded(name), ""),)


def is_among(spec: Spec, sets: Collection[Sequence[str]]) -> bool:
    """Whether `spec` is one of `sets`, (name, fingerprint); these are compared, names are not."""
    return bool(sets) and is_marked(fingerprint(spec), sets)


def is_marked(mark: str, sets: Iterable[Sequence[str]]) -> bool:
    """The same for the set whose fingerprint is `mark`; false for an empty one, which tells nothing."""
    return bool(mark) and mark in (known for _, known in sets)


def identified(spec: Spec) -> tuple[DataSet, ...]:
    """`spec` with its fingerprint; empty where it has none."""
    found = fingerprint(spec)
    return (DataSet(recorded(str(spec)), found),) if found else ()


def fingerprint(spec: Spec) -> str:
    """Hexadecimal digits; empty for built-in data and for what cannot be read, of which others say why."""
    if isinstance(spec, InMemory):
        return _of_arrays(spec)
    if built_in(spec) is not None:
        return ""
    path = Path(spec)
    try:
        path = root_of(path) if path.suffix in YAML else path
        return _of_folder(path) if path.is_dir() else _digits([_ends(path)]) if path.is_file() else ""
    except (OSError, ValueError, BadInput):
        return ""


def _of_folder(root: Path) -> str:
    files = sorted(_listed(root))
    pictures = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    picked = sorted({round(i) for i in np.linspace(0, len(pictures) - 1, LOOKED_INTO)}) if pictures else []
    names = (f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\n".encode() for file in files)
    return _digits([*names, *(_ends(pictures[i]) for i in picked)])


def _listed(root: Path) -> Iterable[Path]:
    """Pictures and what describes them; of pipes and devices, which may never end, nothing is read."""
    for place, files in walk(root):
        for name in files:
            path = Path(place, name)
            if not name.startswith(".") and name.lower().endswith((*SUFFIXES, *DESCRIBING)) and path.is_file():
                yield path


def _ends(path: Path) -> bytes:
    """A SHA-256 of the size of a file and of what it begins and ends with, which is all of most."""
    size, found = path.stat().st_size, hashlib.sha256()
    with open(path, "rb") as stream:
        found.update(str(size).encode())
        found.update(stream.read(END_BYTES))
        stream.seek(max(stream.tell(), size - END_BYTES))
        found.update(stream.read(END_BYTES))
    return found.digest()


def _of_arrays(data: InMemory) -> str:
    arrays = data.arrays or {"x": data.images, **({} if data.labels is None else {"y": data.labels})}
    return _digits(part for name in sorted(arrays) for part in _parts(name, arrays[name]))


def _parts(name: str, array: Array) -> Iterable[bytes]:
    yield f"{name} {array.dtype} {array.shape}".encode()
    yield hashlib.sha256(np.ascontiguousarray(array).data).digest()


def _digits(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:DIGITS]
