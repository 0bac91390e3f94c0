"""What the graphs of a race are called, and what a name means that does not say it.

    plain int8                 without rewrites; a yardstick only           int8, mixed     what the search led to
    int8 (saturating)          the same, its weights as they were           portable        without rewrites, for others
    mixed (u8 layers float)    the same, slow unsigned layers in float      mixed (more float)    within the budget

Test: tests/test_keeper.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PLAIN, AGAIN, PORTABLE, EXACT = "plain int8", "mixed (more float)", "portable", "mixed (u8 layers float)"
SATURATED = "int8 (saturating)"
MEANING: Mapping[str, str] = {
    SATURATED: "some sums of two 8-bit products exceed 16 bits on this CPU and are cut off; it is often faster, and "
    "may win where it holds --max-drop; a smaller --max-drop asks for the exact one",
    EXACT: "layers whose sums are exact only with slow, unsigned weights are in float",
}


def meanings(names: Iterable[str]) -> tuple[str, ...]:
    """One sentence for each of `names` that needs one."""
    return tuple(f"{name}: {MEANING[name]}" for name in names if name in MEANING)
