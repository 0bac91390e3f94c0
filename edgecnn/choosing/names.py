"""What the graphs of a race are called, and what a name means that does not say it.

    plain int8                 without rewrites; a yardstick only           int8, mixed     what the search led to
    portable                   without rewrites, for others                 mixed (more float)    within the budget
    mixed (u8 layers float)    int8, but for layers in slow unsigned weights, which are in float

Test: tests/test_keeper.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PLAIN, AGAIN, PORTABLE, EXACT = "plain int8", "mixed (more float)", "portable", "mixed (u8 layers float)"
MEANING: Mapping[str, str] = {
    EXACT: "layers whose sums are exact only with slow, unsigned weights are in float",
}


def meanings(names: Iterable[str]) -> tuple[str, ...]:
    """One sentence for each of `names` that needs one."""
    return tuple(f"{name}: {MEANING[name]}" for name in names if name in MEANING)
