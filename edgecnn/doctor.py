"""What this machine has and what is in the way. Imports none of the packages that it names in this process.

A problem is `error` (edgecnn cannot work), `warning` (slow, or a trap) or `note`. Each says what to do about it.
Test: tests/test_doctor.py.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import runtimes.providers
from edgecnn.loading import why_not_loaded
from runtimes import plugins
from runtimes.base import Unavailable, counted
from runtimes.machine import ORT_WHEELS, Machine, describe

REQUIRED = ("numpy", "onnx", "onnxscript", "onnxsim", "torch", "click", "rich", "pillow", "safetensors")
OPTIONAL = ("torchvision", "timm")


LEVELS = ("error", "warning", "note")


@dataclass(frozen=True)
class Problem:
    level: str
    message: str


@dataclass(frozen=True)
class Provider:
    """One provider: does it run here, and if not, why."""

    name: str
    works: bool
    cause: str


@dataclass(frozen=True)
class Examination:
    """`packages`: name -> version, None where it is not installed."""

    python: str
    packages: Mapping[str, str | None]
    providers: tuple[Provider, ...]
    machine: Machine
    problems: tuple[Problem, ...]

    @property
    def failure(self) -> Unavailable | None:
        """What the command line exits with: None unless something stops edgecnn from working."""
        errors = [problem.message for problem in self.problems if problem.level == "error"]
        return Unavailable(errors[0]) if errors else None

    @property
    def verdict(self) -> str:
        """Every line that is shown is counted as what it is called there."""
        count = Counter(problem.level for problem in self.problems)
        found = [counted(count[level], level) for level in LEVELS if count[level]]
        words = " and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]]))
        worse = count.total() > count["note"]
        return f"{words} found." if worse else f"Nothing is in the way{f'; {words}' if words else ''}."

    def to_dict(self) -> dict[str, Any]:
        return {
            "python": self.python,
            "packages": dict(self.packages),
            "providers": [asdict(provider) for provider in self.providers],
            "cpu": self.machine.to_dict(),
            "problems": [asdict(problem) for problem in self.problems],
        }


def doctor() -> Examination:
    """Examine this machine; changes nothing, loads no model, raises nothing."""
    packages = {name: version(name) for name in (*REQUIRED, *ORT_WHEELS, *OPTIONAL)}
    providers = tuple(map(_provider, plugins.names(runtimes.providers)))
    machine = describe()
    problems = [
        *package_problems(packages),
        *optional_problems(packages),
        *machine_problems(machine),
        *disk_problems(shutil.disk_usage),
    ]
    problems += [Problem("note", p.cause) for p in providers if not p.works]
    return Examination(platform.python_version(), packages, providers, machine, tuple(problems))


def version(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_problems(packages: Mapping[str, str | None]) -> Iterable[Problem]:
    """What is wrong with the set of installed packages."""
    for name in REQUIRED:
        if packages.get(name) is None:
            yield Problem("error", f"{name}: is not installed; run `pip install {name}`")
    wheels = [name for name in ORT_WHEELS if packages.get(name)]
    if not wheels:
        yield Problem("error", "onnxruntime: is not installed; run `pip install onnxruntime`")
    if len(wheels) > 1:
        yield _several({name: folder_of(name) for name in wheels}, imported_from())
    if wheels and importlib.util.find_spec("onnxruntime.capi") is None:
        yield Problem("error", f"{wheels[0]}: its files are gone; run `pip install --force-reinstall {wheels[0]}`")
    for name in ("onnxruntime-gpu", "onnxruntime"):
        if packages.get(name) and _newer("1.22", str(packages[name])):
            yield Problem("warning", f"{name}: {packages[name]} is older than 1.22; run `pip install -U {name}`")


def optional_problems(packages: Mapping[str, str | None]) -> Iterable[Problem]:
    """Optional packages that are installed and do not load, which is a trap for who names a network of theirs."""
    installed = [name for name in OPTIONAL if packages.get(name)]
    for name, cause in why_not_loaded(installed).items():
        beside = f"beside torch {packages.get('torch') or '(none)'}"
        advice = f"{name}:NAME is no SOURCE here; install the build for this torch, or uninstall it"
        yield Problem(
            "warning", f"{name}: {packages[name]} is installed and does not load {beside} ({cause}); {advice}"
        )


def _several(folders: Mapping[str, Path | None], imported: Path | None) -> Problem:
    """Of wheels of ONNX Runtime, by their folders: they overwrite each other, or one is found before the others."""
    names = list(folders)
    used = [name for name in names if folders[name] is not None and folders[name] == imported]
    if len(used) == 1:
        hidden = " and ".join(f"{name} in {folders[name]}" for name in names if name not in used)
        return Problem(
            "warning",
            f"{used[0]}: is imported, from {imported}; it hides {hidden}; run `python -m pip uninstall` with the one "
            "that you do not want, or take its folder out of PYTHONPATH",
        )
    return Problem(
        "warning",
        f"{' and '.join(names)}: hide each other, they share one folder; "
        f"run `pip uninstall -y {' '.join(names)}` and then `pip install {names[0]}`",
    )


def folder_of(distribution: str) -> Path | None:
    """Where the files of a wheel of ONNX Runtime lie, as its metadata says; None where there is none."""
    try:
        return Path(str(importlib.metadata.distribution(distribution).locate_file("onnxruntime"))).resolve()
    except importlib.metadata.PackageNotFoundError:
        return None


def imported_from() -> Path | None:
    """The folder that `import onnxruntime` takes."""
    spec = importlib.util.find_spec("onnxruntime")
    return Path(spec.origin).resolve().parent if spec is not None and spec.origin else None


def machine_problems(machine: Machine) -> Iterable[Problem]:
    """What in the processor and its limits makes models slow, or int8 inexact."""
    x86 = re.search(r"x86_64|amd64|i[3-6]86", machine.os, re.IGNORECASE) is not None
    if x86 and "vnni" not in machine.isa:
        yield Problem(
            "warning",
            f"{machine.cpu}: has no VNNI instructions; int8 gains less, and its sums saturate: check accuracy here",
        )
    if not x86 and "dotprod" not in machine.isa and "neon" in machine.isa:
        yield Problem("warning", f"{machine.cpu}: has no dot-product instructions; int8 gains little here")
    if machine.threads < machine.cores:
        yield Problem("note", f"{machine.threads} of {machine.cores} cores may be used here (affinity or quota)")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > machine.threads:
        yield Problem("warning", f"OMP_NUM_THREADS={asked}: {machine.threads} threads can run at once; unset it")
    if 0 < machine.memory_mb < 3000:
        yield Problem(
            "warning", f"memory: {machine.memory_mb} MB may be used; exporting a large network needs about 3,000"
        )


def disk_problems(usage: Callable[[str], Sequence[int]]) -> Iterable[Problem]:
    """Too little room where temporary files go."""
    import tempfile

    try:
        folder = tempfile.gettempdir()
        free = usage(folder)[2]
    except OSError as error:
        yield Problem("error", f"temporary folder: {error.strerror or error}; set TMPDIR to one that can be written")
        return
    if free < 500_000_000:
        yield Problem(
            "warning", f"{folder}: {free // 10**6} MB free; large models need more, set TMPDIR to another place"
        )


def _provider(name: str) -> Provider:
    try:
        plugins.load(runtimes.providers, name, "provider").require()
    except Unavailable as error:
        return Provider(name, False, str(error))
    except Exception as error:  # a broken driver may raise anything: that is a finding here, not a failure
        return Provider(name, False, f"{name}: {type(error).__name__}: {error}")
    return Provider(name, True, "")


def _newer(wanted: str, have: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text)[:2]]

    return numbers(wanted) > numbers(have)
