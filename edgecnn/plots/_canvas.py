"""The one door to matplotlib: a figure in the house's look, drawn off screen, written whole in the format of its name.

Files are the same bytes for the same numbers: no dates, no random identifiers. Test: tests/test_plots_canvas.py.
"""

from __future__ import annotations

import html
import io
import logging
import re
from pathlib import Path
from typing import Any

from runtimes.base import BadInput
from runtimes.files import check_output, write_atomic
from runtimes.words import safe

FORMATS = (".png", ".svg", ".pdf")
COLOURS = ("#1f5fa8", "#d1622b", "#3b8f5a", "#8a4fa3", "#b8962e", "#5b6770")
"""Told apart also by the colour-blind; for the models of a plot in the order given."""
DOTS_PER_INCH = 120
GRID = "#ebebeb"


def check_plot(path: Path, force: bool = False) -> Path:
    """`path`, if a picture can be written there; raises `BadInput` before any long work when not."""
    if path.suffix.lower() not in FORMATS:
        raise BadInput(f"{path}: is no picture's name; end it with {', '.join(FORMATS)}")
    return check_output(path, force)


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """(figure, axes) of `width` x `height` inches, `rows` x `columns` plots; `axes` is one where there is one."""
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)  # a font cache that it cannot keep is no user's matter
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "edgecnn"
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(rows, columns, **options)
    for each in made.axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(True, color=GRID, zorder=0)
        each.set_axisbelow(True)
    return made, axes


def render(made: Any, suffix: str) -> bytes:
    """`made` (of `figure`) as the bytes of a file that ends with `suffix` (one of `FORMATS`)."""
    undated = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix.lower()]
    stream = io.BytesIO()
    made.savefig(stream, format=suffix.lower()[1:], dpi=DOTS_PER_INCH, metadata=undated)
    return stream.getvalue()


def save(made: Any, path: Path) -> None:
    """Write `made` to `path`, whole or not at all."""
    write_atomic(path, render(made, path.suffix))


def literal(name: str) -> str:
    """A label that matplotlib takes as it is: no `$`, no leading underscore, not too long."""
    text = name if len(name) <= 60 else f"...{name[-57:]}"
    text = "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")
    return text.encode("utf-8", "replace").decode().replace("_", "\u200b_", 1) if text.startswith("_") else text


def inline_svg(made: Any, name: str, description: str) -> str:
    """`made` (of `figure`) as an <svg> element for a page that colours it: text, lines and `COLOURS` are CSS variables.

    Its text is text, in the page's font. `name` keeps its identifiers apart from those of other figures;
    `description` is what a screen reader says.
    """
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        made.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", r"<svg \1 role=\"img\" aria-label=\"{}\">", text, count=1)
    text = text.replace("xlink:href", "href")
    text = re.sub(r"(<[^>]*?(?:\bid=\"|url\(#|href=\"#))", rf"\g<1>{name}-", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*|DejaVu Sans", "var(--sans)", text)
    painted = {"#000000": "currentColor", GRID: "var(--line)"}
    painted |= {colour: f"var(--c{i})" for i, colour in enumerate(COLOURS)}
    text = re.sub("|".join(painted), lambda found: painted[found[0]], text)
    return text.replace("{}", html.escape(safe(description)), 1).strip()
