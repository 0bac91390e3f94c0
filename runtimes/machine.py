"""Which machine a number was measured on, and how many threads this process may use there.

    threads = min(CPUs in the affinity mask, CPU time the control group grants per unit of time), at least 1

One thread too many is dear: on a machine limited to one CPU, ONNX Runtime's default took 15.9 ms where one thread took
7.3 ms. Only the standard library; a fact that cannot be found is an empty string or 0, never an error.
Source: Linux kernel documentation, cgroup-v2.rst ("cpu.max") and scheduler/sched-bwc.rst. Test: tests/test_machine.py.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ORT_WHEELS = ("onnxruntime-gpu", "onnxruntime", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-rocm")
_ISA = {  # our word: the kernel's and Apple's words for it
    "avx2": {"avx2"},
    "avx512": {"avx512f"},
    "vnni": {"avx512_vnni", "avx512vnni", "avx_vnni"},
    "amx": {"amx_int8"},
    "neon": {"asimd", "neon", "advsimd"},
    "dotprod": {"asimddp", "feat_dotprod"},
    "i8mm": {"i8mm", "feat_i8mm"},
    "sve": {"sve"},
}
_ARM_CORES = {  # part (bits 4 to 15 of MIDR_EL1, in each core's reference manual): Arm's name for it
    "Cortex": "d03 A53, d04 A35, d05 A55, d07 A57, d08 A72, d09 A73, d0a A75, d0b A76, d0d A77, d41 A78, d42 A78AE, "
    "d44 X1, d46 A510, d47 A710, d48 X2, d4b A78C, d4d A715, d4e X3, d80 A520, d81 A720, d82 X4, d87 A725",
    "Neoverse": "d0c N1, d40 V1, d49 N2, d4a E1, d4f V2, d84 V3",
}


@dataclass(frozen=True)
class Machine:
    """`cores` counts physical cores, `threads` is `default_threads()`, `memory_mb` is 2**20 bytes that may be used."""

    cpu: str
    isa: tuple[str, ...]
    cores: int
    threads: int
    memory_mb: int
    os: str
    python: str
    numpy: str
    onnxruntime: str

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "isa": list(self.isa)}


def describe() -> Machine:
    """This machine, as far as it can be known."""
    cpuinfo = _text(Path("/proc/cpuinfo"))
    return Machine(
        cpu=_cpu_name(cpuinfo, _text(Path("/proc/device-tree/model"))),
        isa=isa(_cpu_flags(cpuinfo)),
        cores=_physical_cores(cpuinfo) or os.cpu_count() or 1,
        threads=default_threads(),
        memory_mb=memory_bytes() // 2**20,
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        numpy=_version("numpy"),
        onnxruntime=next((v for v in map(_version, ORT_WHEELS) if v), ""),
    )


def default_threads(root: Path = Path("/")) -> int:
    """Threads that can really run at once: the affinity mask, cut to the control group's quota, at least 1."""
    quota = cgroup_cpus(root)
    cpus = affinity()
    return max(1, min(cpus, int(quota)) if quota is not None else cpus)


def affinity() -> int:
    """How many logical CPUs this process may be scheduled on."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on macOS and Windows
        return os.cpu_count() or 1


def cgroup_cpus(root: Path = Path("/")) -> float | None:
    """CPUs that the control groups (v1 or v2) grant this process, the tightest level counting; None without a limit."""
    limits: list[float] = []
    for folder in cgroup_folders(root, "cpu"):
        quota, period = [*_text(folder / "cpu.max").split(), "", ""][:2]
        if not quota:
            quota, period = (_text(folder / f"cpu.cfs_{what}_us").strip() for what in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(period):  # "max" (v2) and -1 (v1) mean no limit
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def isa(flags: set[str]) -> tuple[str, ...]:
    """The instruction sets that matter for a CNN, in our words, out of a set of lower-case processor flags.

    >>> isa({"sse2", "avx2", "avx512f", "avx512_vnni"})
    ('avx2', 'avx512', 'vnni')
    """
    return tuple(name for name, words in _ISA.items() if words & flags)


def cgroup_folders(root: Path, controller: str) -> list[Path]:
    """Every level from this process's group up to the top, for v2 and for v1's `controller`."""
    folders: list[Path] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        homes = [f"sys/fs/cgroup/{controllers}", f"sys/fs/cgroup/{controller}"] if controllers else ["sys/fs/cgroup"]
        parts = [part for part in path.split("/") if part and part != ".."]
        folders += [root.joinpath(home, *parts[:n]) for home in homes for n in range(len(parts), -1, -1)]
    return folders


def _cpu_name(cpuinfo: str, board: str = "") -> str:
    """Linux names x86 processors; of ARM it has numbers of the cores, and the `board` that the firmware names."""
    if found := re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE):
        return found[1].strip()
    maker = re.search(r"^(?:Model|Hardware|Processor)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    told = (_arm_cores(cpuinfo), board.strip("\0 \n") or (maker[1].strip() if maker else ""))
    return ", ".join(filter(None, told)) or _sysctl("machdep.cpu.brand_string") or platform.processor()


def _arm_cores(cpuinfo: str) -> str:
    """`Cortex-A55 + Cortex-A76`; a core of another maker is `ARM core 0x61/0x022`, its maker and part."""
    lines = re.findall(r"^CPU (?:implementer|part)\s*:\s*0x(\w+)$", cpuinfo, re.MULTILINE)
    return " + ".join(dict.fromkeys(map(_arm_core, lines[::2], lines[1::2])))


def _arm_core(maker: str, part: str) -> str:
    for family, parts in _ARM_CORES.items():
        if maker == "41" and (found := re.search(rf"{part} (\w+)", parts)):
            return f"{family}-{found[1]}"
    return f"ARM core 0x{maker}/0x{part}"


def _cpu_flags(cpuinfo: str) -> set[str]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if found:
        return set(found[1].lower().split())
    if platform.system() == "Windows":
        return _windows_flags()
    flags = _sysctl("machdep.cpu.features", "machdep.cpu.leaf7_features").lower().split()
    if platform.machine() == "arm64":
        arm = {"feat_dotprod": "hw.optional.arm.FEAT_DotProd", "feat_i8mm": "hw.optional.arm.FEAT_I8MM"}
        flags += ["neon"] + [word for word, key in arm.items() if _sysctl(key) == "1"]
    return set(flags)


def _windows_flags() -> set[str]:
    import ctypes

    asked = {"avx2": 40, "avx512f": 41, "neon": 19, "asimddp": 43}  # PF_* of processthreadsapi.h
    kernel32 = getattr(ctypes, "windll").kernel32  # noqa: B009  (absent from the type stubs elsewhere)
    return {name for name, number in asked.items() if kernel32.IsProcessorFeaturePresent(number)}


def _sysctl(*keys: str) -> str:
    """Values of these keys on macOS, one after the other; "" elsewhere."""
    if platform.system() != "Darwin":
        return ""
    try:
        return subprocess.run(["sysctl", "-n", *keys], capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _physical_cores(cpuinfo: str) -> int:
    sockets = re.findall(r"^physical id\s*:\s*(\d+)$.*?^core id\s*:\s*(\d+)$", cpuinfo, re.MULTILINE | re.DOTALL)
    apple = _sysctl("hw.physicalcpu")
    return len(set(sockets)) or (int(apple) if apple.isdigit() else 0)


def memory_bytes(root: Path = Path("/")) -> int:
    """What this process may use at most: the machine's memory, or what its control group allows."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        physical = _windows_memory()
    files = ("memory.max", "memory.limit_in_bytes")
    limits = [_text(folder / name).strip() for folder in cgroup_folders(root, "memory") for name in files]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])


def _windows_memory() -> int:
    import ctypes

    if platform.system() != "Windows":
        return 0
    status = (ctypes.c_ulonglong * 8)()  # MEMORYSTATUSEX: two DWORDs (length, load), then total physical bytes
    ctypes.cast(status, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(status)
    getattr(ctypes, "windll").kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # noqa: B009
    return int(status[1])


def _version(distribution: str) -> str:
    import importlib.metadata  # a sixth of the time that a process takes to start with ONNX Runtime

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
