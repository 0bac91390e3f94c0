"""Results for people: tables, sentences and progress bars. Knows numbers and words, nothing of networks.

Colour only on a terminal and without NO_COLOR (https://no-color.org). A table never loses a character in silence: on a
narrow terminal columns that may be missed are named below it, the cells of the others folded; into a pipe it is as wide
as it needs to be. Names from outside (files, nodes, labels)
are shown literally, control characters escaped. Test: tests/test_report.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO, TypeVar

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from runtimes.words import number, safe

T = TypeVar("T")
PIPE_WIDTH = 10_000
"""Columns where there is no terminal: wide enough that nothing is folded (rich pads a table to its content only)."""


MANY_STEPS = 50
REDRAW_SECONDS = 0.2


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would exit with 1, which means here that a check fails


class Page:
    """Prints on `stream`; every text is taken literally."""

    def __init__(self, stream: TextIO, width: int | None = None) -> None:
        terminal = stream.isatty()
        self.console = _Console(file=stream, width=width or (None if terminal else PIPE_WIDTH), markup=False,
                               highlight=False, emoji=False, soft_wrap=False)  # fmt: skip
        self.begun = False  # a table that follows something is set off by an empty line

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
        """One row a line. A column whose heading starts with `>` is right-aligned, with `>?` it may be left out too."""
        cells = [[safe(cell if isinstance(cell, str) else number(cell)) for cell in row] for row in rows]
        shown, left_out = fitting(columns, cells, self.console.width)
        table = Table(box=SIMPLE_HEAD, title=safe(title) or None, title_justify="left", pad_edge=False,
                      title_style="bold", header_style="bold", show_edge=False, collapse_padding=True)  # fmt: skip
        for i in shown:
            right = columns[i].startswith(">")
            table.add_column(name_of(columns[i]), justify="right" if right else "left", overflow="fold")
        for row in cells:
            table.add_row(*(Text(row[i]) for i in shown))
        if self.begun:
            self.console.print()
        self._print(table)
        if left_out:
            self.note(f"columns left out for width: {', '.join(left_out)}; a wider terminal or --json has them")

    def pairs(self, rows: Iterable[tuple[str, object]], title: str = "") -> None:
        """Two columns, name and value, without a heading."""
        table = Table(box=None, show_header=False, title=safe(title) or None, title_justify="left",
                      title_style="bold", pad_edge=False)  # fmt: skip
        table.add_column(overflow="fold", style="dim")
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(Text(safe(name)), Text(safe(value if isinstance(value, str) else number(value))))
        self._print(table)

    def note(self, text: str) -> None:
        self._print(Text(safe(text)))

    def picture(self, lines: Iterable[str]) -> None:
        """Lines as they are, e.g. an image drawn with characters."""
        for line in lines:
            self.console.print(Text(line), no_wrap=True, overflow="crop")

    def verdict(self, text: str) -> None:
        if text:
            self._print(Text(safe(text), style="bold"))

    def _print(self, what: Table | Text) -> None:
        """Rich fills every cell to its column's width: at a line's end that is for the eye in a terminal only."""
        if self.console.is_terminal:
            self.console.print(what)
        else:
            with self.console.capture() as drawn:
                self.console.print(what)
            lines = drawn.get().removesuffix("\n").split("\n")
            self.console.print(Text("\n".join(line.rstrip() for line in lines)), soft_wrap=True)
        self.begun = True

    def again(self, command: str) -> None:
        """The command that makes this page again; never folded, so that it can be copied."""
        self.console.print(Text(f"again: {safe(command)}", style="dim"), soft_wrap=True)

    def go_on(self, commands: Iterable[str]) -> None:
        """What to do next, a command a line; never folded, so that they can be copied."""
        for i, command in enumerate(commands):
            self.console.print(Text(f"{'' if i else 'go on with:':12}{safe(command)}"), soft_wrap=True)
        self.begun = True


GAP = 2


def name_of(heading: str) -> str:
    """The words of a heading.

    >>> name_of(">?bytes"), name_of("node")
    ('bytes', 'node')
    """
    return heading.removeprefix(">").removeprefix("?")


def fitting(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> tuple[list[int], list[str]]:
    """(places of the columns that are shown, names of those left out): the last that may be missed goes first.

    >>> fitting(["node", ">us", ">?bytes"], [["conv1", "12", "9 kB"]], 14)
    ([0, 1], ['bytes'])
    """
    widths = [max(cell_len(text) for text in column) for column in zip(map(name_of, columns), *cells, strict=True)]
    shown = list(range(len(columns)))
    while sum(widths[i] for i in shown) + GAP * (len(shown) - 1) > width:
        spare = [i for i in shown if columns[i].startswith(">?")]
        if not spare:
            break
        shown.remove(spare[-1])
    return shown, [name_of(columns[i]) for i in range(len(columns)) if i not in shown]


class Bars:
    """A `Track` (see runtimes/base.py) that draws on stderr: a bar, the count, and the time left.

    A loop of few, long steps is drawn by a thread of rich's, ten times a second. A loop of many short steps is drawn
    between two of them and never by a thread: it may be a race, and the thread would run on its clock.
    """

    def __init__(self, stream: TextIO) -> None:
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(30), MofNCompleteColumn(),
            _Clock(), console=Console(file=stream), transient=True,
        )  # fmt: skip

    def __call__(self, items: Sequence[T], label: str) -> Iterator[T]:
        """One bar for this loop, below those of the loops around it. A loop of one step shows its age instead."""
        count = len(items) if hasattr(items, "__len__") else 0
        task = self.progress.add_task(safe(label), total=count if count > 1 else None)
        if len(self.progress.tasks) == 1:
            self.progress.live.auto_refresh = count < MANY_STEPS
            self.progress.start()
        drawn = time.monotonic()
        try:
            for item in items:
                yield item
                self.progress.advance(task)
                if not self.progress.live.auto_refresh and time.monotonic() - drawn > REDRAW_SECONDS:
                    self.progress.refresh()
                    drawn = time.monotonic()
        finally:
            self.progress.remove_task(task)
            if not self.progress.tasks:
                self.progress.stop()


class _Clock(ProgressColumn):
    """Time left where the length of the loop is known, else the time that it has taken."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.taken = TimeRemainingColumn(), TimeElapsedColumn()

    def render(self, task: object) -> Text:
        column = self.taken if getattr(task, "total", None) is None else self.left
        return column.render(task)  # type: ignore[arg-type]
