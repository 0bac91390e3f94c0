"""Tables in plain text: columns are aligned, names from outside cannot do harm."""

from __future__ import annotations

import io
from collections.abc import Callable

from edgecnn.report import Page
from runtimes.device.page import PlainPage


def drawn(draw: Callable[[PlainPage], None]) -> str:
    stream = io.StringIO()
    draw(PlainPage(stream))
    return stream.getvalue()


def test_a_table() -> None:
    rows = [("a", 1234567, None), ("longer name", 0.5, True)]
    text = drawn(lambda page: page.table(("model", ">p50 ms", "ok"), rows, title="cpu"))
    assert text.splitlines() == [
        "cpu",
        "model           p50 ms  ok",
        "---------------------------",
        "a            1,234,567  -",
        "longer name      0.500  yes",
    ]


def test_a_table_without_rows_is_its_heading() -> None:
    assert drawn(lambda page: page.table(("a", ">b"), [])) == "a  b\n----\n"


def test_pairs_notes_and_commands() -> None:
    def draw(page: PlainPage) -> None:
        page.pairs([("cpu", "x"), ("threads", 2)])
        page.table(("a",), [("b",)])
        page.note("n")
        page.verdict("")
        page.verdict("v")
        page.go_on(["one", "two"])
        page.again("python net.edge verify")

    assert drawn(draw).splitlines() == [
        "cpu      x", "threads  2", "", "a", "-", "b", "n", "v", "go on with: one", "            two",
        "again: python net.edge verify",
    ]  # fmt: skip


def test_control_characters_are_shown_and_not_obeyed() -> None:
    def draw(page: PlainPage) -> None:
        page.table(("label",), [("\x1b[31mred\n",)])
        page.pairs([("a\r", "\x07")])
        page.note("\ud800")

    text = drawn(draw)
    assert "\x1b" not in text
    assert "\r" not in text
    assert "\\x1b[31mred\\n" in text
    assert text.encode()  # a lone surrogate would not be


def test_it_is_drawn_on_as_richs_page_is() -> None:
    own = {name for name in vars(PlainPage) if not name.startswith("_")}
    assert own == {name for name in vars(Page) if not name.startswith("_")}
