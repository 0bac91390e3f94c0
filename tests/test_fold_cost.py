"""The fold of VGG-19-BN (575 MB): under 3 s of CPU time, under 1.5 times the file of extra memory (bench/fold.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_vgg19_bn_folds_within_its_limits() -> None:
    """1.0 s and 1.22 times were seen; the result itself is 1.0 times."""
    sys.path.insert(0, str(BENCH))
    try:
        from fold import MEMORY_LIMIT, SECONDS_LIMIT, measure
    finally:
        sys.path.remove(str(BENCH))
    (cost,) = measure(rounds=1)
    assert cost.folded == 16
    assert cost.cpu_seconds < SECONDS_LIMIT
    assert cost.extra_ratio < MEMORY_LIMIT
