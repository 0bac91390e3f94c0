"""What disturbed a measurement, read from the system's own counters before and after it.

    others     CPU time that other processes got            /proc/stat: busy - our own, of all CPUs
    steal      CPU time that the hypervisor gave to others  /proc/stat: steal
    throttled  time that the control group's quota stopped  cgroup cpu.stat: throttled_usec (v1: throttled_time)
    thermal    times that a core was slowed for its heat    cpu*/thermal_throttle/*_throttle_count
    clock      MHz of the cores, before and after           cpu*/cpufreq/scaling_cur_freq
    load       runnable processes, mean of the last minute  getloadavg

None stands for a counter that cannot be read here (another system, a container, a virtual machine).
Source: Linux kernel documentation, filesystems/proc.rst ("/proc/stat"), cgroup-v2.rst ("cpu.stat"), pm/cpufreq.rst.
Test: tests/test_noise.py.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtimes.base import counted
from runtimes.machine import cgroup_folders

OTHERS_PERCENT, STEAL_PERCENT, MHZ_CHANGE = 10.0, 1.0, 0.05
"""From here on a disturbance is named in words; all numbers are always in the record."""
SHORTEST_S = 0.5
"""The kernel counts in hundredths of a second: a shorter spell gives no percentages."""


@dataclass(frozen=True)
class Counters:
    """One look: seconds since some beginning, events, MHz; `busy_s` and `steal_s` are summed over `cpus`."""

    wall_s: float
    own_s: float
    cpus: int | None = None
    busy_s: float | None = None
    steal_s: float | None = None
    throttled_s: float | None = None
    thermal_events: int | None = None
    mhz: float | None = None
    load: float | None = None


@dataclass(frozen=True)
class Noise:
    """Between two looks. Percentages are of all CPUs' time, `throttled_percent` of the wall time; `load` is before."""

    load: float | None
    others_percent: float | None
    steal_percent: float | None
    throttled_percent: float | None
    thermal_events: int | None
    mhz_before: float | None
    mhz_after: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def seen(self) -> bool:
        """Whether the counters of other processes could be read: not in a short spell, nor on every system."""
        return self.others_percent is not None or self.steal_percent is not None

    @property
    def causes(self) -> tuple[str, ...]:
        """The disturbances worth a word, in words."""
        return tuple(self._causes())

    def _causes(self) -> Iterator[str]:
        if (self.others_percent or 0) >= OTHERS_PERCENT:
            yield f"other processes used {self.others_percent:.0f} % of the CPUs"
        if (self.steal_percent or 0) >= STEAL_PERCENT:
            yield f"the hypervisor took {self.steal_percent:.0f} % away (steal)"
        if self.throttled_percent:
            yield f"the control group's quota stopped us {self.throttled_percent:.0f} % of the time"
        if self.thermal_events:
            yield f"the processor was throttled {counted(self.thermal_events, 'time')} because it was hot"
        if self.mhz_before and self.mhz_after and abs(self.mhz_after / self.mhz_before - 1) > MHZ_CHANGE:
            yield f"the clock went from {self.mhz_before:.0f} to {self.mhz_after:.0f} MHz"


def look(root: Path = Path("/")) -> Counters:
    """The counters now; costs a few files' reading."""
    cpus, busy, steal = _stat(_text(root / "proc/stat"))
    return Counters(
        time.perf_counter(), time.process_time(), cpus, busy, steal, _throttled(root), _thermal(root), _mhz(root),
        _load(),
    )  # fmt: skip


def between(before: Counters, after: Counters) -> Noise:
    """What happened from one look to the other."""
    wall = after.wall_s - before.wall_s
    wall = wall if wall >= SHORTEST_S else 0.0
    all_cpus = wall * (before.cpus or 0)
    own = after.own_s - before.own_s
    busy, steal = _rise(before.busy_s, after.busy_s), _rise(before.steal_s, after.steal_s)
    return Noise(
        before.load,
        None if busy is None else _percent(busy - own, all_cpus),
        _percent(steal, all_cpus),
        _percent(_rise(before.throttled_s, after.throttled_s), wall),
        None if (events := _rise(before.thermal_events, after.thermal_events)) is None else int(events),
        before.mhz,
        after.mhz,
    )


def _rise(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _percent(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else min(100.0, max(0.0, 100 * part / whole))


def _stat(text: str) -> tuple[int | None, float | None, float | None]:
    """(CPUs, busy seconds, stolen seconds) of /proc/stat; busy is user, nice, system and interrupts."""
    cpus = len(re.findall(r"^cpu\d+ ", text, re.MULTILINE))
    found = re.search(r"^cpu +(.+)$", text, re.MULTILINE)
    if found is None or not cpus:
        return None, None, None
    ticks = [int(word) for word in found[1].split()]
    user, nice, system, _, _, interrupts, soft, steal = [*ticks, *[0] * 8][:8]
    second = os.sysconf("SC_CLK_TCK")
    return cpus, (user + nice + system + interrupts + soft) / second, steal / second


def _throttled(root: Path) -> float | None:
    """The largest count of any level: the levels are nested, so that they count the same stop more than once."""
    seen: list[float] = []
    for folder in cgroup_folders(root, "cpu"):
        for unit, pattern in ((1e6, r"^throttled_usec (\d+)$"), (1e9, r"^throttled_time (\d+)$")):
            found = re.search(pattern, _text(folder / "cpu.stat"), re.MULTILINE)
            seen += [int(found[1]) / unit] if found else []
    return max(seen, default=None)


def _thermal(root: Path) -> int | None:
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = [int(text) for text in map(_text, files) if text.strip().isdigit()]
    return sum(counts) if counts else None


def _mhz(root: Path) -> float | None:
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [int(text) / 1000 for text in map(_text, files) if text.strip().isdigit()]
    return statistics.median(clocks) if clocks else None


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # not on Windows
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
