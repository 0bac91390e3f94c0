"""What a command gives back, and the one place that prints it: JSON or text on stdout, everything else on stderr.

JSON has no NaN and no infinity (RFC 8259, section 6): such numbers are written as `null`. Test: tests/test_cli_main.py.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecnn.report import Page
    from runtimes.base import EdgeError


WRITES = ("-o", "--output", "--plot", "--csv")
STARTS = ("-o", *(f"{name}=" for name in WRITES if name.startswith("--")))
"""How an option that names an output is spelled."""


@dataclass(frozen=True)
class Result:
    """`document` is the JSON form, `draw` the form for people, `verdict` its last line; `failure` is raised after."""

    document: Mapping[str, Any]
    draw: Callable[[Page], None]
    verdict: str
    failure: EdgeError | None = None


def show(result: Result, as_json: bool, args: Sequence[str]) -> None:
    """Print `result` of `edgecnn ARGS` on stdout, then raise its failure if it has one."""
    if as_json:
        print_json(result.document)
    else:
        from edgecnn.report import Page

        page = Page(sys.stdout)
        result.draw(page)
        page.verdict(result.verdict)
        page.again(shlex.join(["edgecnn", *args, *overwrite(args)]))
    sys.stdout.flush()
    if result.failure is not None:
        raise result.failure


def print_json(document: Mapping[str, Any]) -> None:
    """The one JSON document of a command, on stdout."""
    print(json.dumps(plain(document), indent=2, allow_nan=False), flush=True)


def overwrite(args: Sequence[str]) -> list[str]:
    """What must be added to ARGS to run them again: `--force`, where an output is there now."""
    writes = args[:1] == ["demo"] or any(a in WRITES or a.startswith(STARTS) for a in args)
    return ["--force"] if writes and "--force" not in args else []


def plain(value: Any) -> Any:
    """`value` in JSON's own types: paths and numpy scalars converted, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return plain(value.tolist() if hasattr(value, "tolist") else str(value))


@contextlib.contextmanager
def results_only() -> Iterator[None]:
    """Inside, whatever Python code, C++ code or a child process prints to stdout comes out on stderr.

    The exporter, the simplifier and ONNX Runtime all print on stdout now and then; one such line breaks `--json`.
    """
    sys.stdout.flush()
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # stdout is no file, e.g. in a test
            _swap_descriptor(stack)
        yield


def _swap_descriptor(stack: contextlib.ExitStack) -> None:
    stream = sys.__stdout__
    if stream is None:
        return
    number = stream.fileno()
    kept = os.dup(number)
    stack.callback(os.close, kept)
    stack.callback(os.dup2, kept, number)
    stack.callback(stream.flush)  # runs first: what a library left in the buffer must not come out later
    os.dup2(2, number)
