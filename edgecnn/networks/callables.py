"""A callable in a user's file or module: found, asked for its attributes, and called, with every failure in one line.

The user's code is run because the user named it. It may print (its stdout goes to stderr, ours holds results only),
exit or raise; what it raised is told with the line where it happened. Test: tests/test_callables.py.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from runtimes import plugins
from runtimes.base import BadInput
from runtimes.files import check_input_file

SOURCE_LIMIT_BYTES = 4 << 20
TELL_CLASSES = 0
"""What `default_classes` returns for a `num_classes` without a default: somebody has to tell."""


@dataclass(frozen=True)
class Found:
    """`target` is the callable (or the nn.Module itself), `home` the module that it was found in."""

    target: Any
    home: ModuleType
    folder: Path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Foreign code that prints shall not spoil our stdout."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def guarded(subject: str, folder: Path) -> Iterator[None]:
    """Run a user's code: imports look into `folder` first, prints go to stderr, what it raises becomes `BadInput`."""
    sys.path.insert(0, str(folder))
    try:
        with quiet():
            yield
    except (Exception, SystemExit) as error:
        raise BadInput(f"{subject}: {_what_happened(error, folder)}; mend the code") from error
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


def _what_happened(error: BaseException, folder: Path) -> str:
    said = str(error).partition("\n")[0][:140]
    if isinstance(error, SyntaxError):
        return f"is not Python: {error.msg} (line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(folder) and "site-packages" not in f.filename]
    place = f" at {Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""
    return f"raised {type(error).__name__}{place}: {said}"


# -------------------------------------------------------------------------------------------------------- finding it
def find(place: str, name: str, wanted: str = "a callable that returns an nn.Module") -> Found:
    """The attribute `name` of the file or importable module `place`, which is `wanted`; `BadInput` with the nearest
    names otherwise.
    """
    is_file = place.endswith(".py") or "/" in place or "\\" in place
    folder = Path(place).resolve().parent if is_file else Path.cwd()
    home = _run_file(Path(place)) if is_file else _import(place, folder)
    if not hasattr(home, name):
        raise BadInput(f"{place}:{plugins.unknown(name, networks(home), 'callable')}")
    target = getattr(home, name)
    if not callable(target):
        raise BadInput(f"{place}:{name}: is a {type(target).__name__}; name {wanted}")
    return Found(target, home, folder)


def _run_file(path: Path) -> ModuleType:
    """Execute a Python file as a module (without leaving byte code next to it)."""
    source = check_input_file(path, SOURCE_LIMIT_BYTES).read_bytes()
    module = ModuleType(f"edgecnn_source_{path.stem}")
    module.__file__ = str(path.resolve())
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up by name
    with guarded(str(path), path.resolve().parent):
        exec(compile(source, module.__file__, "exec"), module.__dict__)
    return module


def _import(name: str, folder: Path) -> ModuleType:
    with guarded(name, folder):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
    raise BadInput(f"{name}: no module of this name; install it, or give the file: path/to/file.py:NAME")


def networks(home: ModuleType) -> list[str]:
    """Public names in a module that look like networks: nn.Module classes and instances, functions defined there."""

    def fits(value: Any) -> bool:
        here = getattr(value, "__module__", None) == home.__name__
        is_class = inspect.isclass(value) and issubclass(value, nn.Module)
        return isinstance(value, nn.Module) or (here and (is_class or inspect.isfunction(value)))

    return [name for name, value in vars(home).items() if not name.startswith("_") and fits(value)]


# ---------------------------------------------------------------------------------------------------------- using it
def default_classes(target: Any) -> int | None:
    """The default of the argument `num_classes`; TELL_CLASSES when it has none, None without the argument."""
    try:
        parameter = inspect.signature(target).parameters.get("num_classes")
    except (TypeError, ValueError):
        return None
    if parameter is None:
        return None
    return parameter.default if isinstance(parameter.default, int) else TELL_CLASSES


def a(name: str) -> str:
    """`name` with its article.

    >>> a("int"), a("str")
    ('an int', 'a str')
    """
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def call(found: Found, where: str, **arguments: Any) -> nn.Module:
    """The nn.Module that the callable returns (or is); `where` opens the message of a `BadInput`."""
    if isinstance(found.target, nn.Module):
        return found.target
    with guarded(where, found.folder):
        module = found.target(**arguments)
    if not isinstance(module, nn.Module):
        raise BadInput(f"{where}: returned {a(type(module).__name__)}, not an nn.Module; name a callable that does")
    return module
