"""Shapes of samples in which a size may be open: the length of a signal, the sides of a volume.

Test: tests/test_open_length.py.
"""

from __future__ import annotations

from collections.abc import Sequence

OPEN = -1
"""In the place of a size that may be any: every array has its own."""


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """
    >>> fits((2, 100), (2, OPEN)), fits((3, 100), (2, OPEN)), fits((2,), (2, OPEN))
    (True, False, False)
    """
    return len(shape) == len(wanted) and all(b in (OPEN, a) for a, b in zip(shape, wanted, strict=True))


def listed(sizes: Sequence[int | str]) -> str:
    """
    >>> listed(("N", 2, OPEN))
    '[N, 2, any]'
    """
    return f"[{', '.join('any' if size == OPEN else str(size) for size in sizes)}]"
