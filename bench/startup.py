"""What `edgecnn --help` costs beside a bare `import click`: whole processes, interleaved.

    python bench/startup.py [ROUNDS]

The limit is 2.5; tests/test_architecture.py holds what does not depend on the machine, the modules that are loaded.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLICK = [sys.executable, "-c", "import click"]
HELP = [sys.executable, "-m", "edgecnn", "--help"]
LIMIT = 2.5


@dataclass(frozen=True)
class Startup:
    """Medians in milliseconds of wall time, and the median of the ratios of neighbours."""

    click_ms: float
    help_ms: float
    ratio: float
    rounds: int


def once(command: list[str]) -> float:
    """Milliseconds from start to end of one process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return 1000 * (time.perf_counter() - begin)


def measure(rounds: int = 51) -> Startup:
    """Run both commands in turn `rounds` times; the first pair only fills the caches and is not counted."""
    pairs = [(once(CLICK), once(HELP)) for _ in range(rounds + 1)][1:]
    clicks, helps = zip(*pairs, strict=True)
    ratio = statistics.median(help_ms / click_ms for click_ms, help_ms in pairs)
    return Startup(statistics.median(clicks), statistics.median(helps), ratio, rounds)


if __name__ == "__main__":
    result = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 51)
    print(json.dumps(asdict(result)))
    sys.exit(0 if result.ratio <= LIMIT else 1)
