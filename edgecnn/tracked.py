"""A caller's `track`, looked at when it is used: what cannot be walked through is told in one line.

Test: tests/test_api.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from runtimes.base import BadInput


def walked(track: Any) -> Any:
    """`track`, which returns an iterable or raises `BadInput`, as this does for what is no function."""
    advice = "give a function of (items, label) that returns an iterable of the items"
    if not callable(track):
        raise BadInput(f"track: is a {type(track).__name__}; {advice}")

    def walking(items: Sequence[Any], label: str) -> Iterable[Any]:
        found = track(items, label)
        if not isinstance(found, Iterable):
            raise BadInput(f"track: returned a {type(found).__name__} for {label!r}; {advice}")
        return found

    return walking
