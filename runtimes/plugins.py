"""A folder is the registry: every module in a package is a plug-in, listed and loaded by its file's name.

Add one file to `runtimes/providers`, `exporters/passes`, `exporters/calibrators` or `edgecnn/models` and it is listed,
loadable, offered by the command line and enrolled in that folder's contract tests (tests/test_plugins.py).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Iterable
from types import ModuleType

from runtimes.base import BadInput

EMPTY = "'' (an empty name)"


def names(package: ModuleType) -> list[str]:
    """Sorted names of the plug-ins in `package`; imports none of them. A leading underscore hides a file."""
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def load(package: ModuleType, name: str, kind: str) -> ModuleType:
    """Import the plug-in `name` of `package`; raises `BadInput` with the nearest `kind` when there is none.

    One that was imported before is at hand, also where the file that it came from has gone.
    """
    module = f"{package.__name__}.{name}"
    if module not in sys.modules and name not in (known := names(package)):
        raise BadInput(unknown(name, known, kind))
    return importlib.import_module(module)


def unknown(name: str, known: Iterable[str], kind: str) -> str:
    """One line for a name that does not exist: the nearest known ones, else all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known[:12])}"
    return f"{name or EMPTY}: unknown {kind}; {hint}"
