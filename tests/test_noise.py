"""Noise is what the system's own counters say: made-up trees of /proc and /sys, read before and after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtimes.timing import noise
from runtimes.timing.noise import Counters, Noise, between, look

STAT = "cpu  1000 200 300 5000 50 10 20 {steal} 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\nintr 5\n"
CPU = "sys/devices/system/cpu/cpu{n}/"
CALM = Noise(0.5, 1.0, 0.0, 0.0, 0, 2000.0, 2000.0)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_every_counter_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_CLK_TCK": 100}[name])
    group = "sys/fs/cgroup/box/cpu.stat"
    found = look(tree(tmp_path, {
        "proc/stat": STAT.format(steal=40), "proc/self/cgroup": "0::/box\n",
        group: "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n",
        CPU.format(n=0) + "thermal_throttle/core_throttle_count": "3\n",
        CPU.format(n=1) + "thermal_throttle/package_throttle_count": "4\n",
        CPU.format(n=0) + "cpufreq/scaling_cur_freq": "2000000\n",
        CPU.format(n=1) + "cpufreq/scaling_cur_freq": "3000000\n",
    }))  # fmt: skip
    assert (found.cpus, found.busy_s, found.steal_s) == (2, 15.3, 0.4)  # (1000 + 200 + 300 + 10 + 20) / 100
    assert (found.throttled_s, found.thermal_events, found.mhz) == (2.5, 7, 2500.0)


def test_the_older_control_groups_count_nanoseconds(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "2:cpu:/box\n", "sys/fs/cgroup/cpu/box/cpu.stat": "throttled_time 1500000000\n"}
    assert look(tree(tmp_path, files)).throttled_s == 1.5


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert (found.cpus, found.busy_s, found.steal_s, found.throttled_s) == (None,) * 4
    assert (found.thermal_events, found.mhz) == (None, None)
    nothing = between(found, replace(found, wall_s=found.wall_s + 9))
    assert nothing == Noise(found.load, None, None, None, None, None, None)
    assert nothing.causes == ()
    assert not nothing.seen


def test_counters_that_hold_no_number_are_left_out(tmp_path: Path) -> None:
    """A processor that is off, or a virtual one, has the file and nothing to say in it."""
    found = look(tree(tmp_path, {
        CPU.format(n=0) + "thermal_throttle/core_throttle_count": "3\n",
        CPU.format(n=1) + "thermal_throttle/core_throttle_count": "\n",
        CPU.format(n=0) + "cpufreq/scaling_cur_freq": "2000000\n",
        CPU.format(n=1) + "cpufreq/scaling_cur_freq": "<unknown>\n",
    }))  # fmt: skip
    assert (found.thermal_events, found.mhz) == (3, 2000.0)


def test_one_of_the_counters_is_enough_to_have_seen_the_machine() -> None:
    assert replace(CALM, steal_percent=None).seen
    assert replace(CALM, others_percent=None).seen
    assert not replace(CALM, others_percent=None, steal_percent=None).seen


def test_shares_are_of_the_time_between() -> None:
    """Two CPUs for 10 s: 20 s. We used 8 s of the 13 busy ones, 1 s was stolen, the quota stopped us for 2 s."""
    before = Counters(100.0, 5.0, 2, 1000.0, 3.0, 7.0, 4, 2000.0, 0.7)
    after = Counters(110.0, 13.0, 2, 1013.0, 4.0, 9.0, 6, 1500.0, 2.0)
    assert between(before, after) == Noise(0.7, 25.0, 5.0, 20.0, 2, 2000.0, 1500.0)
    assert between(before, after).seen
    short = between(before, replace(after, wall_s=100.4))
    assert (short.others_percent, short.steal_percent, short.throttled_percent) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ()),
        ({"others_percent": 45.0}, ("other processes used 45 % of the CPUs",)),
        ({"steal_percent": 3.0}, ("the hypervisor took 3 % away (steal)",)),
        ({"throttled_percent": 12.0}, ("the control group's quota stopped us 12 % of the time",)),
        ({"thermal_events": 2}, ("the processor was throttled 2 times because it was hot",)),
        ({"mhz_after": 1200.0}, ("the clock went from 2000 to 1200 MHz",)),
        ({"others_percent": 9.0, "steal_percent": 0.5, "mhz_after": 2090.0}, ()),
        ({"mhz_after": 2110.0}, ("the clock went from 2000 to 2110 MHz",)),
    ],
)
def test_a_disturbance_has_a_name(changes: dict[str, float], words: tuple[str, ...]) -> None:
    assert replace(CALM, **changes).causes == words  # type: ignore[arg-type]


def test_this_machine_can_be_looked_at() -> None:
    seen = between(look(), look())
    assert set(seen.to_dict()) >= {"load", "others_percent", "steal_percent", "throttled_percent", "thermal_events"}
    if Path("/proc/stat").exists():
        assert (look().cpus or 0) >= 1
        assert noise.look().busy_s is not None
