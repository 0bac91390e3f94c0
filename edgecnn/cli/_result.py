"""What a command gives back, and where it is shown: as JSON, or on rich's page (edgecnn/report.py).

Test: tests/test_cli_main.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TextIO

from runtimes.device import process
from runtimes.device.page import Page
from runtimes.device.process import Result as Result

WRITES = ("-o", "--output", "--plot", "--csv", "--save", "--reproducer")
STARTS = ("-o", *(f"{name}=" for name in WRITES if name.startswith("--")))
"""How an option that names an output is spelled."""


class Report(Protocol):
    """What a library call returns that also tells while it works; some have a `failure` too."""

    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def verdict(self) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...


class Telling:
    """Called with a warning it says that on stderr at once; a `result` says the others of its report at the end."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, line: str) -> None:
        self.told.append(line)
        process.warn([line])

    def result(self, report: Report, draw: Callable[[Page], None]) -> Result:
        """The result that `report` is, with the warnings that were not told yet."""
        left = [line for line in report.warnings if line not in self.told]
        return Result(report.to_dict(), draw, report.verdict, getattr(report, "failure", None), left)


def show(result: Result, as_json: bool, args: Sequence[str]) -> None:
    """Print `result` of `edgecnn ARGS` on stdout, then raise its failure if it has one."""
    process.show(result, as_json, _page, shlex.join(["edgecnn", *args, *overwrite(args)]))


def overwrite(args: Sequence[str]) -> list[str]:
    """What must be added to ARGS to run them again: `--force`, where an output is there now."""
    writes = args[:1] == ["demo"] or any(a in WRITES or a.startswith(STARTS) for a in args)
    return ["--force"] if writes and "--force" not in args else []


def _page(stream: TextIO) -> Page:
    from edgecnn.report import Page as Rich

    return Rich(stream)
