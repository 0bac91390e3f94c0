"""Names and numbers as people read them, in a table or a sentence. Test: tests/test_report.py."""

from __future__ import annotations

import math


def safe(text: str) -> str:
    """`text` with control characters and lone surrogates escaped.

    >>> safe("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def number(value: object) -> str:
    """A cell: three significant digits for floats, thousands separated for integers, `-` for None.

    >>> [number(x) for x in (None, True, 1234567, 0.0001234, 12.3456, 999.7, 1234.5, float("inf"))]
    ['-', 'yes', '1,234,567', '0.000123', '12.3', '1,000', '1,234', 'inf']
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")
    return str(value)
