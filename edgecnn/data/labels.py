"""Names of the classes from a file: a JSON list, a JSON object "0" to "n-1", a text with one name a line, a data.yaml.

    ["cat", "dog"]        {"0": "cat", "1": "dog"}        cat<newline>dog        names: [cat, dog]

A name is what a device shows for a class: short, printable text, and as many as the network has answers.
Test: tests/test_labels.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgecnn.data.yaml_names import names_of
from runtimes.base import BadInput, counted
from runtimes.files import check_input_file

LIMIT_BYTES = 4 << 20
NAME_LIMIT = 200


def read_labels(path: Path | str, classes: int | None = None) -> tuple[str, ...]:
    """The names in `path` in the order of the answers; raises `BadInput` unless there are `classes` of them."""
    path = check_input_file(Path(path), LIMIT_BYTES)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # editors on Windows put a byte order mark in front
        names = READERS.get(path.suffix, str.splitlines)(text)
    except (OSError, ValueError, RecursionError) as error:
        cause = (str(error) or type(error).__name__).partition("\n")[0][:80]
        raise BadInput(f"{path}: is no list of names ({cause}); write a JSON list or one name a line") from error
    for i, name in enumerate(names):
        if not isinstance(name, str) or not 0 < len(name.strip()) <= NAME_LIMIT or not name.isprintable():
            shown = str(name)[:40] if isinstance(name, str) else type(name).__name__
            raise BadInput(f"{path}: name {i} is {shown!r}; 1 to {NAME_LIMIT} printable characters are needed")
    if not names or (classes is not None and len(names) != classes):
        wanted = "at least 1" if classes is None else classes
        raise BadInput(
            f"{path}: holds {counted(len(names), 'name')}, the network has {wanted} classes; give one for each"
        )
    return tuple(name.strip() for name in names)


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
