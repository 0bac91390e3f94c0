"""Names of the classes from a file: a JSON list, a JSON object "0" to "n-1", a text with one name a line, a data.yaml.

    ["cat", "dog"]        {"0": "cat", "1": "dog"}        cat<newline>dog        names: [cat, dog]

A name is what a device shows for a class: short, printable text, and as many as the network has answers. A pipe that is
open already (standard input, `<(command)` of a shell) is read to its end, which can be done once; its first letter says
whether it is JSON. One that has a name of its own is refused: nobody may write into it.
Test: tests/test_labels.py.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgecnn.data.yaml_names import names_of
from runtimes.base import BadInput, counted
from runtimes.files import check_input_file

LIMIT_BYTES = 4 << 20
OPEN = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/(\d{1,6})")
"""Names of what is open already."""
NAME_LIMIT = 200
Labels = str | os.PathLike[str] | Sequence[str]
"""A file of names, or the names."""


def read_labels(labels: Labels, classes: int | None = None) -> tuple[str, ...]:
    """The names in the file `labels`, or the names themselves, in the order of the answers; raises `BadInput` unless
    there are `classes` of them.
    """
    names = _names_in(Path(labels)) if isinstance(labels, str | os.PathLike) else _names(labels, "labels")
    return for_each(names, classes, labels)


def for_each(names: tuple[str, ...], classes: int | None, labels: Labels) -> tuple[str, ...]:
    """`names`, read from `labels`; raises `BadInput` unless there are `classes` of them."""
    if not names or (classes is not None and len(names) != classes):
        wanted = "at least 1" if classes is None else classes
        path = labels if isinstance(labels, str | os.PathLike) else "labels"
        raise BadInput(
            f"{path}: holds {counted(len(names), 'name')}, the network has {wanted} classes; give one for each"
        )
    return names


def _names_in(path: Path) -> tuple[str, ...]:
    try:
        data = _read(path)
        text = data.decode("utf-8-sig")  # editors on Windows put a byte order mark in front
        json_piped = OPEN.fullmatch(str(path)) and text.lstrip().startswith(("[", "{"))
        names = READERS.get(".json" if json_piped else path.suffix, str.splitlines)(text)
    except (OSError, ValueError, RecursionError) as error:
        cause = (str(error) or type(error).__name__).partition("\n")[0][:80]
        raise BadInput(f"{path}: is no list of names ({cause}); write a JSON list or one name a line") from error
    return _names(names, str(path))


def _names(names: Sequence[object], path: str) -> tuple[str, ...]:
    """`names` as they are shown; raises `BadInput`, which speaks of `path`, for what is no name."""
    found: list[str] = []
    for i, name in enumerate(names):
        if not isinstance(name, str) or not 0 < len(name.strip()) <= NAME_LIMIT or not name.isprintable():
            shown = str(name)[:40] if isinstance(name, str) else type(name).__name__
            raise BadInput(f"{path}: name {i} is {shown!r}; 1 to {NAME_LIMIT} printable characters are needed")
        found.append(name.strip())
    return tuple(found)


def _read(path: Path) -> bytes:
    number = OPEN.fullmatch(str(path))
    if number is None:
        return check_input_file(path, LIMIT_BYTES).read_bytes()
    place = int(number[1] or 0)
    if os.isatty(place):
        raise BadInput(f"{path}: is a terminal; write `< FILE` or pipe the names into it")
    with open(os.dup(place), "rb") as stream:  # a socket, say, cannot be opened by its name
        data = stream.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        raise BadInput(f"{path}: has more than {LIMIT_BYTES:,} bytes, the limit; give fewer names")
    if not data:
        raise BadInput(f"{path}: is empty; a pipe can be read once, by one command")
    return data


def _from_json(text: str) -> list[Any]:
    found = json.loads(text, parse_constant=_refuse, object_pairs_hook=_numbered)
    if not isinstance(found, list):
        raise ValueError(f"a {type(found).__name__} instead of a list")
    return found


READERS: dict[str, Callable[[str], list[Any]]] = {".json": _from_json, ".yaml": names_of, ".yml": names_of}


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _numbered(pairs: list[tuple[str, Any]]) -> list[Any]:
    """The values of an object whose keys are "0" to "n-1", each once, in that order."""
    named = dict(pairs)
    if set(named) != {str(i) for i in range(len(pairs))}:
        raise ValueError('an object whose keys are not "0", "1", ... each once')
    return [named[str(i)] for i in range(len(pairs))]
