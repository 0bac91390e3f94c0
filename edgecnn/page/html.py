"""Text to HTML: every string is escaped, unless it is `Html`, which only the functions of this file make.

    tag("p", "a < b", class_="note")  ->  <p class="note">a &lt; b</p>

Control characters and those that turn the direction of writing are shown as escapes. Test: tests/test_page.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtimes.words import safe

VOID = frozenset({"br", "hr", "img", "meta"})
NOTHING = "–"


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Html | None


@dataclass(frozen=True)
class Section:
    """One part of the page: `name` is its anchor and its name in JSON, `verdict` the plain sentence that opens it."""

    name: str
    title: str
    verdict: Content
    body: Sequence[Content]


def escaped(text: Content) -> Html:
    """`text` as HTML.

    >>> escaped("<b>"), escaped(Html("<b>")), escaped(None)
    ('&lt;b&gt;', '<b>', '')
    """
    if text is None or isinstance(text, Html):
        return Html(text or "")
    return Html(html.escape(safe(text), quote=True))


def tag(name: str, /, *content: Content, **attributes: str | None) -> Html:
    """The element `name`; attributes that are None are left out, `class_` is `class`, `aria_label` is `aria-label`.

    >>> tag("a", "x & y", href="#top", title=None)
    '<a href="#top">x &amp; y</a>'
    >>> tag("img", alt='"')
    '<img alt="&quot;">'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{joined(content)}</{name}>")


def joined(parts: Iterable[Content], between: str = "") -> Html:
    return Html(between.join(escaped(part) for part in parts))


def number(value: float | None, text: str) -> Html:
    """`text` for people, with the exact `value` for programs; a dash for None, which was not measured."""
    if value is None:
        return Html(NOTHING)
    return tag("data", text, value=f"{value!r}" if math.isfinite(value) else str(value))


def lines(text: str) -> Html:
    """A block of code, its lines kept."""
    return tag("pre", tag("code", joined(text.splitlines(), "\n")), tabindex="0")


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Content]],
    marked: frozenset[int] = frozenset(),
    stacks: bool = False,
) -> Html:
    """A table with headers for its columns and rows (the first cell); a column `>...` is right-aligned.

    `marked`: rows that stand out. Wide tables are moved sideways within the page; where one `stacks`, a narrow screen
    has the cells of a row below its first, each with the name of its column.
    """
    names = [name.removeprefix(">") for name in columns]
    heads = [
        tag("th", name, scope="col", class_="n" if given.startswith(">") else None)
        for name, given in zip(names, columns, strict=True)
    ]
    labels = [name if stacks else None for name in names[1:]]
    right = ["n" if name.startswith(">") else None for name in columns]
    body = []
    for i, (first, *others) in enumerate(rows):
        cells = [tag("th", first, scope="row")]
        cells += [
            tag("td", cell, class_=kind, data_label=label)
            for cell, kind, label in zip(others, right[1:], labels, strict=True)
        ]
        body.append(tag("tr", *cells, class_="marked" if i in marked else None))
    made = tag("table", tag("caption", caption), tag("thead", tag("tr", *heads)), tag("tbody", *body))
    return tag("div", made, class_="wide stacks" if stacks else "wide", role="region", aria_label=caption, tabindex="0")


def pairs(rows: Iterable[tuple[str, Content]]) -> Html:
    """A list of names with what each of them is; rows without a value are left out."""
    shown = [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows if value]
    return tag("dl", *shown)


def folded(summary: str, *content: Content) -> Html:
    """`content` behind a line that opens it, without a script."""
    return tag("details", tag("summary", summary), *content)


def section(part: Section) -> Html:
    verdict = tag("p", part.verdict, class_="verdict") if part.verdict else None
    return tag("section", tag("h2", part.title, id=f"{part.name}-title"), verdict, *part.body,
               id=part.name, aria_labelledby=f"{part.name}-title")  # fmt: skip
