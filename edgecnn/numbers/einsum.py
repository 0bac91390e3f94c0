"""The multiply-adds of an einsum: its operands meet pair by pair, from the left, as runtimes compute it.

    nkp,pok->npo        n k p o: k is summed, for each n, p and o
    nchw,nc->nchw       0: nothing is summed, it only scales

An index that one operand has alone, and nobody behind needs, is summed before they meet; one of size 1 in an operand is
stretched to the other's. Test: tests/test_einsum.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Sizes = tuple[int, ...]


def einsum_macs(equation: str, inputs: Sequence[Sizes | None]) -> int | None:
    """Multiply-adds of `equation` over operands of these shapes; None where one is unknown, or does not fit.

    >>> einsum_macs("ij,jk", [(2, 3), (3, 4)]), einsum_macs("nchw,nc->nchw", [(1, 2, 3, 3), (1, 2)])
    (24, 0)
    """
    known = [sizes for sizes in inputs if sizes is not None]
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if len(known) < len(inputs) or len(terms) != len(known):
        return None
    indices = [_indices(term, len(sizes)) for term, sizes in zip(terms, known, strict=True)]
    length: dict[str, int] = {}
    for names, sizes in zip(indices, known, strict=True):
        if len(names) != len(sizes):
            return None
        for name, size in zip(names, sizes, strict=True):
            length[name] = max(length.get(name, 1), size)
    everywhere = [name for names in indices for name in names]
    dots = {name for name in everywhere if name.startswith(".")}
    once = {name for name in everywhere if everywhere.count(name) == 1}
    wanted = dots | set(result.replace(".", "")) if arrow else dots | once
    return _pairwise([set(names) for names in indices], wanted, length)


def _pairwise(operands: list[set[str]], wanted: set[str], length: dict[str, int]) -> int:
    left, total = operands[0], 0
    for i, right in enumerate(operands[1:], start=1):
        later = wanted.union(*operands[i + 1 :])
        met = (left & (right | later)) | (right & (left | later))
        if met - later:
            total += math.prod(length[name] for name in met)
        left = met & later
    return total


def _indices(term: str, rank: int) -> list[str]:
    """The index of each axis; those that `...` stands for are called `.0` and so on, counted from the last."""
    before, dots, after = term.partition("...")
    count = rank - len(before) - len(after)
    return [*before, *(f".{i}" for i in reversed(range(count if dots else 0))), *after]
