"""Threads follow the affinity mask and the control group's quota; nothing crashes where a fact cannot be found."""

import ctypes
import json
import os
import platform
import struct
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtimes import machine

G = "sys/fs/cgroup/"
BOX = G + "cpuacct,cpu/box/"
V2 = "0::/user.slice/app\n"
V1 = "4:memory:/box\n2:cpuacct,cpu:/box\n"


def tree(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "cpus"),
    [
        (V2, {G + "user.slice/app/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {G + "user.slice/app/cpu.max": "max 100000\n"}, None),
        (V2, {G + "user.slice/cpu.max": "200000 100000\n"}, 2.0),  # the parent's limit holds too
        (V2, {G + "user.slice/app/cpu.max": "max 100000", G + "cpu.max": "50000 100000"}, 0.5),
        (V2, {G + "cpu.max": "300000 100000\n"}, 3.0),  # inside a container the group's path is not its own
        (V2, {}, None),
        (V1, {BOX + "cpu.cfs_quota_us": "250000\n", BOX + "cpu.cfs_period_us": "100000\n"}, 2.5),
        (V1, {G + "cpu/cpu.cfs_quota_us": "100000\n", G + "cpu/cpu.cfs_period_us": "50000\n"}, 2.0),
        (V1, {G + "cpu/cpu.cfs_quota_us": "-1\n", G + "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (V1, {G + "memory/box/cpu.cfs_quota_us": "1\n", G + "memory/box/cpu.cfs_period_us": "1\n"}, None),
        ("nonsense\n", {G + "cpu.max": "garbage"}, None),
        (V2, {G + "cpu.max": "100000 0\n"}, None),
        ("0::/../../etc\n", {G + "cpu.max": "100000 100000\n"}, 1.0),
    ],
)  # fmt: skip
def test_the_control_groups_quota(tmp_path: Path, cgroup: str, files: dict[str, str], cpus: float | None) -> None:
    assert machine.cgroup_cpus(tree(tmp_path, cgroup, files)) == cpus


@pytest.mark.parametrize(
    ("mask", "quota", "threads"),
    [(8, "max", 8), (8, "400000", 4), (8, "150000", 1), (8, "50000", 1), (2, "400000", 2), (1, "max", 1)],
)
def test_threads_are_the_smaller_of_mask_and_quota(tmp_path, monkeypatch, mask: int, quota: str, threads: int) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(mask)), raising=False)
    assert machine.default_threads(tree(tmp_path, V2, {G + "cpu.max": f"{quota} 100000\n"})) == threads


def test_without_an_affinity_mask_all_cpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 6)
    assert machine.default_threads(tmp_path) == 6
    monkeypatch.setattr(machine.os, "cpu_count", lambda: None)
    assert machine.default_threads(tmp_path) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks on this system")
def test_a_process_pinned_to_one_cpu_gets_one_thread() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from runtimes.machine import default_threads; print(default_threads())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"sse2"}, ()),
        ({"avx2", "fma"}, ("avx2",)),
        ({"avx2", "avx_vnni"}, ("avx2", "vnni")),
        ({"avx2", "avx512f", "avx512_vnni", "amx_int8"}, ("avx2", "avx512", "vnni", "amx")),
        ({"asimd", "asimddp", "i8mm", "sve"}, ("neon", "dotprod", "i8mm", "sve")),
    ],
)
def test_instruction_sets_in_our_words(flags: set[str], words: tuple[str, ...]) -> None:
    assert machine.isa(flags) == words


X86 = "processor : 0\nmodel name\t: Some CPU @ 2GHz\nphysical id\t: 0\ncore id\t: {}\nflags\t\t: fpu avx2\n\n"


def test_processor_facts_are_read_from_cpuinfo() -> None:
    text = "".join(X86.format(core) for core in (0, 1, 0, 1))  # two cores with two threads each
    assert machine._cpu_name(text) == "Some CPU @ 2GHz"
    assert machine._cpu_flags(text) == {"fpu", "avx2"}
    assert machine._physical_cores(text) == 2


ARM = "processor\t: {}\nFeatures\t: fp asimd asimddp\nCPU implementer\t: {}\nCPU variant\t: 0x4\nCPU part\t: {}\n\n"


@pytest.mark.parametrize(
    ("cores", "rest", "board", "name"),
    [
        (
            ["0x41 0xd0b"] * 4,
            "Model\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
            "",
            "Cortex-A76, Raspberry Pi 5 Model B Rev 1.0",
        ),
        (["0x41 0xd42"], "", "NVIDIA Jetson Orin Nano\0", "Cortex-A78AE, NVIDIA Jetson Orin Nano"),
        (["0x41 0xd05", "0x41 0xd05", "0x41 0xd0b"], "Hardware\t: RK3588\n", "", "Cortex-A55 + Cortex-A76, RK3588"),
        (["0x41 0xd4f"], "", "", "Neoverse-V2"),
        (["0x61 0x022"], "", "", "ARM core 0x61/0x022"),
    ],
)
def test_arm_cores_have_names_where_linux_gives_numbers(cores: list[str], rest: str, board: str, name: str) -> None:
    text = "".join(ARM.format(i, *core.split()) for i, core in enumerate(cores)) + rest
    assert machine._cpu_name(text, board) == name
    assert machine.isa(machine._cpu_flags(text)) == ("neon", "dotprod")
    assert machine._physical_cores(text) == 0, "Linux does not tell: the logical ones count"


def test_this_machine_is_described() -> None:
    found = machine.describe()
    assert found.python == platform.python_version()
    assert found.numpy == version("numpy")
    assert found.onnxruntime.count(".") >= 1
    assert found.threads == machine.default_threads() >= 1
    assert found.cores >= 1
    assert found.memory_mb > 256
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_agrees_with_the_kernel() -> None:
    kilobytes = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    assert machine.describe().memory_mb <= kilobytes // 1024


def test_the_control_groups_memory_limit_counts(tmp_path: Path) -> None:
    assert machine.memory_bytes(tree(tmp_path, V2, {G + "user.slice/memory.max": "268435456\n"})) == 2**28
    v1 = tree(tmp_path / "v1", V1, {G + "memory/box/memory.limit_in_bytes": "134217728\n"})
    assert machine.memory_bytes(v1) == 2**27


@pytest.mark.parametrize(
    ("system", "arch", "answers", "words"),
    [
        ("Darwin", "arm64", {"hw.optional.arm.FEAT_DotProd": "1"}, ("neon", "dotprod")),
        ("Darwin", "x86_64", {"machdep.cpu.features": "SSE", "machdep.cpu.leaf7_features": "AVX2"}, ("avx2",)),
    ],
)  # fmt: skip
def test_macos_answers_by_sysctl(monkeypatch: pytest.MonkeyPatch, system, arch, answers, words) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: system)
    monkeypatch.setattr(machine.platform, "machine", lambda: arch)
    monkeypatch.setattr(machine, "_sysctl", lambda *keys: " ".join(answers.get(key, "") for key in keys))
    assert machine.isa(machine._cpu_flags("")) == words


def test_sysctl_is_asked_on_macos_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command, **options):
        asked.append(command)
        return SimpleNamespace(stdout="Apple M3\n")

    monkeypatch.setattr(machine.subprocess, "run", run)
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    assert machine._cpu_name("") == "Apple M3"
    monkeypatch.setattr(machine.platform, "system", lambda: "FreeBSD")
    assert machine._sysctl("machdep.cpu.brand_string") == ""
    assert asked == [["sysctl", "-n", "machdep.cpu.brand_string"]]


def test_windows_answers_through_kernel32(monkeypatch: pytest.MonkeyPatch) -> None:
    """MEMORYSTATUSEX is 64 bytes: length and load (DWORD), then the bytes of physical memory and six more."""

    def status(pointer) -> int:
        fields = struct.unpack("<II7Q", bytes(pointer._obj))
        assert fields[0] == 64, "Windows refuses a structure that does not say its length"
        pointer._obj[1] = 8 * 2**30
        return 1

    kernel32 = SimpleNamespace(GlobalMemoryStatusEx=status, IsProcessorFeaturePresent=lambda number: number in (40, 41))
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
    monkeypatch.setattr(machine.platform, "system", lambda: "Windows")
    monkeypatch.delattr(machine.os, "sysconf", raising=False)
    monkeypatch.setattr(machine, "_text", lambda path: "")
    found = machine.describe()
    assert found.isa == ("avx2", "avx512")
    assert found.memory_mb == 8 * 1024
    assert found.os.startswith("Windows ")


def test_a_machine_that_tells_nothing_does_not_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """No /proc, no sysctl program, no sysconf names, no installed metadata."""
    monkeypatch.setattr(machine, "_text", lambda path: "")
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(machine.subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(FileNotFoundError("sysctl")))
    monkeypatch.setattr(machine, "_version", lambda name: "")
    monkeypatch.delattr(machine.os, "sysconf")
    found = machine.describe()
    assert (found.isa, found.memory_mb, found.onnxruntime) == ((), 0, "")
    assert found.cores >= 1
