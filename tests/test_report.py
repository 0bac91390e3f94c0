"""Tables and bars: nothing lost, nothing interpreted, nothing drawn where nobody looks."""

from __future__ import annotations

import io
import threading
import time

import pytest

from edgecnn.report import Bars, Page
from edgecnn.words import size
from runtimes.words import number, safe


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_whole_lines() -> None:
    stream = io.StringIO()
    long = "x" * 500
    Page(stream).table(("name", ">count"), [(long, 1234567), ("b", None)])
    lines = stream.getvalue().splitlines()
    assert any(long in line and "1,234,567" in line for line in lines)
    assert "…" not in stream.getvalue()


def test_nothing_trails_in_a_pipe() -> None:
    stream = io.StringIO()
    page = Page(stream)
    page.table(("name", "note"), [("a", "long " * 20), ("b", "")], title="of two")
    page.pairs([("a", "1"), ("bb", "long " * 20)])
    page.note("the end")
    lines = stream.getvalue().split("\n")
    assert lines == [line.rstrip() for line in lines]
    assert lines[-3:] == [f"bb  {'long ' * 20}".rstrip(), "the end", ""]


def test_a_narrow_page_folds_and_keeps_every_character() -> None:
    stream = io.StringIO()
    Page(stream, width=30).table(("name", ">count"), [("abcdefghij" * 5, 1234567)])
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 30
    assert "".join(text.split()).count("abcdefghij") >= 1
    assert sum(text.count(letter) for letter in "cdfghij") >= 5 * 7
    assert "1,234,567" in text


@pytest.mark.parametrize(
    ("width", "shown", "note"),
    [
        (35, "layer us MACs share bytes", ""),
        (34, "layer us MACs share", "columns left out for width: bytes; a wider terminal or --json has them"),
        (21, "layer us share", "columns left out for width: MACs, bytes; a wider terminal or --json has them"),
    ],
)
def test_what_may_be_missed_goes_first_and_is_named(width: int, shown: str, note: str) -> None:
    stream = io.StringIO()
    columns = ("layer", ">us", ">?MACs", ">share", ">?bytes")
    Page(stream, width=width).table(columns, [("conv1/Conv", "12", "9.4 M", "80 %", "1 kB")])
    heads, _, row, *rest = stream.getvalue().splitlines()
    assert heads.split() == shown.split()
    assert row.startswith("conv1/Conv  12")
    assert " ".join(" ".join(rest).split()) == note


@pytest.mark.parametrize("text", ["[red]x[/red]", "a:smile:b", "[link=http://x]y[/link]", "[/]"])
def test_text_from_outside_is_shown_literally(text: str) -> None:
    stream = io.StringIO()
    page = Page(stream)
    page.table(("a",), [(text,)], title=text)
    page.pairs([(text, text)])
    page.note(text)
    page.verdict(text)
    page.again(text)
    assert stream.getvalue().count(text) == 7


def test_control_characters_are_escaped() -> None:
    stream = io.StringIO()
    Page(stream).note("a\x1b[2J\nb\udcff")
    assert stream.getvalue() == "a\\x1b[2J\\nb\\udcff\n"
    assert safe("\u202e") == "\\u202e"  # a direction override can hide the end of a file name


def test_the_command_to_repeat_is_never_folded() -> None:
    stream = io.StringIO()
    Page(stream, width=20).again("edgecnn build " + "x" * 100)
    assert stream.getvalue().splitlines() == ["again: edgecnn build " + "x" * 100]


def test_the_next_commands_are_never_folded() -> None:
    stream = io.StringIO()
    Page(stream, width=20).go_on(["edgecnn verify " + "x" * 100, "edgecnn run \x1b.edge"])
    assert stream.getvalue().splitlines() == [
        "go on with: edgecnn verify " + "x" * 100, "            edgecnn run \\x1b.edge",
    ]  # fmt: skip


def test_ascii_streams_get_ascii_tables() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace")
    Page(stream).table(("name",), [("b",), ("\xe9",)])
    stream.flush()
    assert b"name" in raw.getvalue()
    assert raw.getvalue().isascii()


def test_bars_yield_every_item_and_clean_up() -> None:
    stream = Terminal()
    bars = Bars(stream)
    assert [(a, b) for a in bars(range(3), "outer") for b in bars("xy", "inner")] == [
        (a, b) for a in range(3) for b in "xy"
    ]
    assert "outer" in stream.getvalue()
    assert not bars.progress.tasks
    broken = bars(range(3), "broken")
    assert next(broken) == 0
    broken.close()  # what happens to a loop that raises
    assert not bars.progress.tasks


def test_no_thread_draws_while_many_short_steps_run() -> None:
    """A race of 100 rounds is timed in CPU time of the process: a drawing thread would be part of it."""

    def new_threads(steps: int) -> tuple[int, str]:
        before, stream = set(threading.enumerate()), Terminal()
        most = 0
        for _ in Bars(stream)(range(steps), "racing"):
            most = max(most, len(set(threading.enumerate()) - before))
            time.sleep(0.005)
        return most, stream.getvalue()

    assert new_threads(100)[0] == 0
    assert "racing" in new_threads(100)[1]
    assert new_threads(3)[0] == 1


def test_a_loop_of_known_length_shows_the_time_left() -> None:
    stream = Terminal()
    bars = Bars(stream)
    for _ in bars(range(4), "steps"):
        bars.progress.refresh()
    assert "/4" in stream.getvalue()
    assert ":" in stream.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "yes"), (0, "0"), (0.0, "0.00"), (-1234.6, "-1,235"), (float("nan"), "nan"), (99.95, "100")],
)
def test_numbers(value: object, text: str) -> None:
    assert number(value) == text


def test_sizes_round_like_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 99_949, 99_950, 999_499, 999_500, 5e12)] == [
        "0 B", "999 B", "1.0 kB", "99.9 kB", "100 kB", "999 kB", "1.0 MB", "5000 GB",
    ]  # fmt: skip
