"""Names of built-in data, told from files and folders of the user's that are called the same.

    digits            the built-in set; refused where a file or folder `digits` lies in the working folder
    ./digits          that file or folder
    builtin:digits    the built-in set, whatever lies there

The same for `shapes`, `shapes:N`, `random` and `random:N`. Test: tests/test_built_in.py.
"""

from __future__ import annotations

import os

from runtimes.base import BadInput

BUILT_IN = ("digits", "shapes", "random")
PREFIX = "builtin:"


def built_in(spec: str) -> str | None:
    """`digits`, `shapes:9` ... where `spec` names built-in data, without the prefix; None for anything else.

    >>> built_in("builtin:shapes:9"), built_in("./shapes")
    ('shapes:9', None)
    """
    name = spec.removeprefix(PREFIX)
    return name if spec != name or name.partition(":")[0] in BUILT_IN else None


def recorded(name: str) -> str:
    """What a file that is given to others calls data: where it lies is nobody's business, and elsewhere elsewhere.

    >>> recorded("/home/ada/photos/"), recorded("/mnt/digits"), recorded("digits")
    ('photos', './digits', 'digits')
    """
    return name if built_in(name) is not None else spelled_path(os.path.basename(os.path.normpath(name)))


def require_one(spec: str) -> str:
    """`spec`; raises `BadInput` where it names built-in data and a file or folder of the user's at once."""
    if built_in(spec) == spec and os.path.lexists(spec):
        kind = "folder" if os.path.isdir(spec) else "file"
        raise BadInput(
            f"{spec}: is a {kind} here and the name of built-in data; "
            f"write {spelled_path(spec)} for the {kind}, {PREFIX}{spec} for what is built in"
        )
    return spec


def spelled_path(path: str | os.PathLike[str]) -> str:
    """A path as text that nothing takes for the name of built-in data.

    >>> spelled_path("digits"), spelled_path("photos/digits")
    ('./digits', 'photos/digits')
    """
    text = os.fspath(path)
    return text if built_in(text) is None else os.path.join(os.curdir, text)
