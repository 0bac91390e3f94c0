"""Random data, which is used only where a user spells it: how many samples, and what they are called.

    random, random:N        -->  N samples (32), `random[i]`; what is in them the caller makes, each from its own seed

Test: tests/test_data.py, tests/test_several.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from edgecnn.data.samples import Samples
from runtimes.base import Array, BadInput, counted

RANDOM = "random"
RANDOM_SAMPLES = 32
MAX_RANDOM_SAMPLES = 100_000


def noise(
    spec: str, seed: int, made: Callable[[int], Array], others: Mapping[str, Callable[[int], Array]] | None = None
) -> Samples:
    """The samples that `spec` asks for, of which `made` makes one, and `others` what further inputs are fed."""
    found = re.fullmatch(rf"{RANDOM}(?::(\d{{1,9}}))?", spec, re.ASCII)
    count = int(found[1] or RANDOM_SAMPLES) if found else 0
    if not 1 <= count <= MAX_RANDOM_SAMPLES:
        raise BadInput(f"{spec}: write random or random:N with N from 1 to {MAX_RANDOM_SAMPLES:,}")
    ids = tuple(f"{RANDOM}[{i}]" for i in range(count))
    about = f"random noise ({counted(count, 'sample')}, seed {seed})"
    return Samples(about, ids, made, as_is=True, made=True, others=others or {})
