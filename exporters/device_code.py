"""The program that goes into a bundle, so that `python NAME.edge run` works where only numpy and ONNX Runtime are.

    __main__.py             runtimes/device/__main__.py: Python starts it when it is given a zip file
    runtimes/...            every module of `runtimes` that runtimes/device/main.py imports, and all providers

Found by reading imports, not by running them. Docstrings and comments become empty lines, which takes a third off
what deflate leaves, and keeps the line numbers of a traceback. Source: Python's zipapp and zipimport.
Test: tests/test_device_code.py.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import runtimes
from runtimes import providers

ROOT = Path(runtimes.__path__[0]).parent
START, ENTRY = "__main__.py", "runtimes.device.main"


@functools.cache
def device_code() -> Mapping[str, bytes]:
    """Member name -> program text, in order of their names; line ends are newlines on every system."""
    found: dict[str, str] = {}
    plugins = sorted(path.stem for path in Path(providers.__path__[0]).glob("*.py"))
    waiting = [ENTRY, *(f"{providers.__name__}.{name}" for name in plugins if name != "__init__")]
    while waiting:
        member = _member(waiting.pop())
        if member is not None and member not in found:
            source = (ROOT / member).read_text("utf-8")
            nodes = list(ast.walk(ast.parse(source)))
            found[member] = _bare(source, nodes)
            waiting += _imported(nodes)
    found[START] = bare((ROOT / "runtimes/device" / START).read_text("utf-8"))
    return {name: found[name].encode() for name in sorted(found)}


def hashes(code: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each member, as a bundle's manifest has it."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in code.items()}


def bare(source: str) -> str:
    """The program `source` without docstrings and lines of comment; every line stays where it was.

    >>> bare("def f(x):\\n    'Half.'\\n    # exact\\n    return x / 2\\n")
    'def f(x):\\n\\n\\n    return x / 2\\n'
    """
    return _bare(source, ast.walk(ast.parse(source)))


def _bare(source: str, nodes: Iterable[ast.AST]) -> str:
    lines, inside = source.split("\n"), set[int]()
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    _blank(lines, statement, alone=len(node.body) == 1 and not isinstance(node, ast.Module))
        elif isinstance(node, ast.Constant | ast.JoinedStr):
            inside |= set(range(node.lineno, node.end_lineno or node.lineno))
    return "\n".join("" if i not in inside and line.lstrip()[:1] == "#" else line for i, line in enumerate(lines))


def _blank(lines: list[str], statement: ast.stmt, alone: bool) -> None:
    """Empty the lines of `statement`, a string or `...`; what is `alone` in its block becomes `pass`."""
    first, end = statement.lineno - 1, statement.end_lineno or statement.lineno
    if not lines[first].startswith(" " * statement.col_offset) or lines[first][: statement.col_offset].strip():
        return  # `def f(): ...` in one line
    lines[first:end] = [""] * (end - first)
    lines[first] = " " * statement.col_offset + "pass" if alone else ""


def _member(module: str) -> str | None:
    """Where the source of `module` lies; None for a name in a module, which is no file."""
    path = module.replace(".", "/")
    return next((name for name in (f"{path}.py", f"{path}/__init__.py") if (ROOT / name).is_file()), None)


def _imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """What a module of `nodes` imports of `runtimes`, also inside functions, and the packages around it."""
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for parts in (name.split(".") for name in names if name.split(".")[0] == runtimes.__name__):
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))
