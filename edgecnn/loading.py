"""Does an installed package load? Asked in a process of its own, where it may be slow, crash or never end.

    torchvision built for another torch: its metadata is there, `import torchvision` raises, and nobody says so before
    a network is named

Only what is optional is asked: what edgecnn needs is loaded as soon as it works. Test: tests/test_doctor.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

PATIENCE_S = 60.0
"""torch behind torchvision takes 2 to 10 s, more from a cold disk."""
LONGEST = 160
"""Characters of a cause."""


def why_not_loaded(names: Sequence[str], patience_s: float = PATIENCE_S) -> dict[str, str]:
    """Name -> why the package does not load, of those `names` that do not; all are tried at once."""
    tried = {name: _started(name) for name in names}
    found = {name: _cause(process, patience_s) for name, process in tried.items()}
    return {name: cause for name, cause in found.items() if cause}


def _started(name: str) -> subprocess.Popen[str]:
    """A process that imports `name` from where this one would; -P keeps out what lies in the current folder."""
    path = os.pathsep.join(dict.fromkeys(entry for entry in sys.path if entry))
    return subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-c", f"import {name}"], env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip


def _cause(process: subprocess.Popen[str], patience_s: float) -> str:
    try:
        _, said = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"it was not done after {patience_s:.0f} s"
    if process.returncode == 0:
        return ""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if process.returncode < 0 or not lines:
        return f"its process ended with code {process.returncode}"
    return lines[-1].partition(": ")[2][:LONGEST] or lines[-1][:LONGEST]
