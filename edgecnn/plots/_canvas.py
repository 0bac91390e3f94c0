"""The one door to matplotlib: a figure in the house's look, drawn off screen, written whole in the format of its name.

Files are the same bytes for the same numbers: no dates, no random identifiers. Test: tests/test_plots_canvas.py.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from runtimes.base import BadInput
from runtimes.files import check_output, write_atomic

FORMATS = (".png", ".svg", ".pdf")
COLOURS = ("#1f5fa8", "#d1622b", "#3b8f5a", "#8a4fa3", "#b8962e", "#5b6770")
"""Told apart also by the colour-blind; for the models of a plot in the order given."""
DOTS_PER_INCH = 120


def check_plot(path: Path, force: bool = False) -> Path:
    """`path`, if a picture can be written there; raises `BadInput` before any long work when not."""
    if path.suffix.lower() not in FORMATS:
        raise BadInput(f"{path}: is no picture's name; end it with {', '.join(FORMATS)}")
    return check_output(path, force)


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """(figure, axes) of `width` x `height` inches, `rows` x `columns` plots; `axes` is one where there is one."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "edgecnn"
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(rows, columns, **options)
    for each in made.axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(True, color="0.92", zorder=0)
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
