"""A page of tables and sentences in plain text, for a device without rich; edgecnn/report.py draws the same in colour.

Control characters in names from outside (files, labels) are escaped. Test: tests/test_device_page.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TextIO

from runtimes.words import number, safe

GAP = "  "


class Page(Protocol):
    """What a command draws on."""

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
        """One row a line. A column whose heading starts with `>` is right-aligned, one with `>?` may be left out too
        where a terminal is too narrow for all.
        """

    def pairs(self, rows: Iterable[tuple[str, object]], title: str = "") -> None:
        """Two columns, name and value, without a heading."""

    def note(self, text: str) -> None: ...

    def picture(self, lines: Iterable[str]) -> None: ...

    def verdict(self, text: str) -> None: ...

    def again(self, command: str) -> None:
        """The command that makes this page again."""

    def go_on(self, commands: Iterable[str]) -> None:
        """What to do next, a command a line."""


class PlainPage:
    """Writes on `stream`; a line is as long as it needs to be."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.begun = False  # a table that follows something is set off by an empty line

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
        right = [heading.startswith(">") for heading in columns]
        heads = [heading.removeprefix(">").removeprefix("?") for heading in columns]
        cells = [[_cell(value) for value in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        lines = [_line(row, widths, right) for row in (heads, *cells)]
        rule = "-" * (sum(widths) + len(GAP) * (len(widths) - 1))
        self._write(*([""] if self.begun else []), *([safe(title)] if title else []), lines[0], rule, *lines[1:])

    def pairs(self, rows: Iterable[tuple[str, object]], title: str = "") -> None:
        found = [(_cell(name), _cell(value)) for name, value in rows]
        width = max((len(name) for name, _ in found), default=0)
        self._write(*([safe(title)] if title else []), *(f"{name:{width}}{GAP}{value}" for name, value in found))

    def note(self, text: str) -> None:
        self._write(safe(text))

    def picture(self, lines: Iterable[str]) -> None:
        self._write(*lines)

    def verdict(self, text: str) -> None:
        if text:
            self._write(safe(text))

    def again(self, command: str) -> None:
        self._write(f"again: {safe(command)}")

    def go_on(self, commands: Iterable[str]) -> None:
        self._write(*(f"{'' if i else 'go on with:':12}{safe(command)}" for i, command in enumerate(commands)))

    def _write(self, *lines: str) -> None:
        self.begun = True
        self.stream.write("".join(f"{line}\n" for line in lines))


def _cell(value: object) -> str:
    return safe(value if isinstance(value, str) else number(value))


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = (f"{c:>{w}}" if r else f"{c:{w}}" for c, w, r in zip(row, widths, right, strict=True))
    return GAP.join(cells).rstrip()
