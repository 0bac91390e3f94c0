"""`edgecnn doctor`: what it says is true here, and each trap it knows is found when it is there."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest

from edgecnn import doctor as doctors
from edgecnn.cli import main
from edgecnn.doctor import Problem, disk_problems, doctor, machine_problems, optional_problems, package_problems
from edgecnn.loading import why_not_loaded
from runtimes.base import Unavailable
from runtimes.machine import Machine

FINE = dict.fromkeys(doctors.REQUIRED, "9.9") | {"onnxruntime": "1.31.1"}
VNNI = Machine("Xeon", ("avx2", "avx512", "vnni"), 2, 2, 24_000, "Linux 6 x86_64", "3.11", "2.4", "1.31")


def test_it_tells_the_truth_about_this_machine() -> None:
    found = doctor()
    assert found.python == platform.python_version()
    assert found.packages["torch"] == importlib.metadata.version("torch")
    works = {provider.name: provider.works for provider in found.providers}
    assert works["cpu"]
    assert set(works) >= {"cpu", "cuda"}
    if works["cuda"]:
        assert "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    assert found.failure is None


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        ("", "Nothing is in the way."),
        ("note", "Nothing is in the way; 1 note."),
        ("note warning", "1 warning and 1 note found."),
        ("warning error note warning note", "1 error, 2 warnings and 2 notes found."),
        ("error", "1 error found."),
    ],
)
def test_the_verdict_counts_every_line_by_its_name(levels: str, verdict: str) -> None:
    problems = tuple(Problem(level, "x") for level in levels.split())
    assert replace(doctor(), problems=problems).verdict == verdict


def test_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.keys() == {"python", "packages", "providers", "cpu", "problems"}
    assert {"name", "works", "cause"} == set(document["providers"][0])
    assert {"cpu", "isa", "cores", "threads"} <= document["cpu"].keys()


def test_nothing_is_in_the_way_of_a_good_machine() -> None:
    assert list(package_problems(FINE)) == []
    assert list(machine_problems(VNNI)) == []


def wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel of ONNX Runtime, as far as its metadata goes, in `folder`."""
    for made in (module := folder / "onnxruntime", info := folder / f"{name.replace('-', '_')}-{version}.dist-info"):
        made.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (module / "__init__.py").write_text("")
    return folder


def test_of_two_wheels_in_two_folders_the_one_that_is_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where PYTHONPATH, or the user's own site-packages, holds another."""
    gpu, cpu = wheel(tmp_path / "a", "onnxruntime-gpu", "1.30.0"), wheel(tmp_path / "b", "onnxruntime", "1.31.0")
    monkeypatch.delitem(sys.modules, "onnxruntime")  # find_spec would ask the one that is loaded
    names = {gpu: "onnxruntime-gpu", cpu: "onnxruntime"}
    for first, second in ((gpu, cpu), (cpu, gpu)):
        monkeypatch.setattr(sys, "path", [str(first), str(second), *sys.path])
        importlib.invalidate_caches()
        found = [p for p in package_problems({**FINE, "onnxruntime-gpu": "1.30.0"}) if "hide" in p.message]
        what = f"{names[first]}: is imported, from {first / 'onnxruntime'}; "
        what += f"it hides {names[second]} in {second / 'onnxruntime'}; run"
        assert [(p.level, p.message.startswith(what)) for p in found] == [("warning", True)]


def test_of_two_wheels_in_one_folder_none_can_be_relied_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(wheel(tmp_path, "onnxruntime-gpu", "1.30.0"), "onnxruntime", "1.31.0")
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    (found,) = (p for p in package_problems({**FINE, "onnxruntime-gpu": "1.30.0"}) if "hide" in p.message)
    what = "onnxruntime-gpu and onnxruntime: hide each other, they share one folder; run `pip uninstall -y"
    assert found.message.startswith(what)


@pytest.mark.parametrize(
    ("changes", "level", "message"),
    [
        ({"torch": None}, "error", "torch: is not installed; run `pip install torch`"),
        ({"onnxruntime": None}, "error", "onnxruntime: is not installed"),
        ({"onnxruntime": "1.19.2"}, "warning", "onnxruntime: 1.19.2 is older than 1.22"),
    ],
)
def test_problems_of_packages(changes: dict[str, str | None], level: str, message: str) -> None:
    found = list(package_problems({**FINE, **changes}))
    assert [(p.level, p.message.startswith(message)) for p in found] == [(level, True)]


def test_a_runtime_whose_files_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left after one of two wheels was uninstalled: the metadata is there, the module is empty."""
    monkeypatch.setattr(doctors.importlib.util, "find_spec", lambda name: None)
    assert ["its files are gone" in p.message for p in package_problems(FINE)] == [True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"isa": ("avx2",)}, "has no VNNI instructions"),
        ({"isa": ("neon",), "os": "Linux 6 aarch64"}, "has no dot-product instructions"),
        ({"threads": 1}, "1 of 2 cores may be used here"),
        ({"memory_mb": 1000}, "1000 MB may be used"),
    ],
)
def test_problems_of_the_machine(changes: dict[str, object], message: str) -> None:
    (problem,) = machine_problems(replace(VNNI, **changes))  # type: ignore[arg-type]
    assert message in problem.message


def test_an_arm_machine_needs_no_vnni() -> None:
    assert list(machine_problems(replace(VNNI, isa=("neon", "dotprod"), os="Darwin 24 arm64"))) == []


def test_threads_of_openmp_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert ["OMP_NUM_THREADS=64" in p.message for p in machine_problems(VNNI)] == [True]


def test_a_full_or_missing_temporary_folder() -> None:
    def missing(folder: str) -> tuple[int, int, int]:
        raise FileNotFoundError(2, "No such file or directory", folder)

    assert list(disk_problems(lambda folder: (0, 0, 10**12))) == []
    assert ["MB free" in p.message for p in disk_problems(lambda folder: (0, 0, 10**6))] == [True]
    assert [p.level for p in disk_problems(missing)] == ["error"]


def test_an_error_is_exit_4(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = doctors.version
    monkeypatch.setattr(doctors, "version", lambda name: None if name == "torch" else real(name))
    assert main(["doctor"]) == Unavailable.exit_code
    assert capsys.readouterr().err == "error: torch: is not installed; run `pip install torch`\n"


def test_a_broken_provider_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("libcuda.so.1: wrong ELF class")

    monkeypatch.setattr(doctors.plugins, "load", lambda *args: SimpleNamespace(require=broken))
    assert all(not p.works and "wrong ELF class" in p.cause for p in doctor().providers)


# --------------------------------------------------------------------------------- optional packages that do not load
def package(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package `name`, version 0.29.1, installed in `folder`, which child processes look into as well."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text)
    info = folder / f"{name}-0.29.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.29.1\n")
    monkeypatch.syspath_prepend(str(folder))


NMS = 'import sys\nprint("noise")\nraise RuntimeError("operator torchvision::nms does not exist")\n'


def test_an_optional_package_that_does_not_load_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package(tmp_path, "torchvision", NMS, monkeypatch)
    package(tmp_path, "timm", "", monkeypatch)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    torch = importlib.metadata.version("torch")
    said = (
        f"torchvision: 0.29.1 is installed and does not load beside torch {torch} (operator torchvision::nms does not "
        "exist); torchvision:NAME is no SOURCE here; install the build for this torch, or uninstall it"
    )
    assert f"warning: {said}" in printed
    assert "Nothing is in the way" not in printed
    assert "timm: " not in printed, "it loads"
    assert main(["doctor", "--json"]) == 0
    assert {"level": "warning", "message": said} in json.loads(capsys.readouterr().out)["problems"]
    assert "torchvision" not in sys.modules


CAUSES = {
    "a module that is missing": ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
    "an error without words": ("raise ValueError", "ValueError"),
    "a crash": (
        "import os, signal, sys\nprint('Fatal: x', file=sys.stderr, flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)",
        "its process ended with code -11",
    ),
    "an exit": ("raise SystemExit(3)", "its process ended with code 3"),
    "no end": ("import time\nwhile True: time.sleep(1)", "it was not done after 3 s"),
}


@pytest.mark.parametrize(("text", "cause"), CAUSES.values(), ids=CAUSES)
def test_why_a_package_does_not_load(text: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "odd_package", text, monkeypatch)
    assert why_not_loaded(["odd_package"], 3.0) == {"odd_package": cause}


def test_what_is_not_installed_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a file of that name in the current folder taken for it."""
    (tmp_path / "torchvision.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctors, "why_not_loaded", lambda names: pytest.fail("asked") if names else {})
    assert list(optional_problems({**FINE, "torchvision": None, "timm": None})) == []
    package(tmp_path / "site", "json_like", "", monkeypatch)
    (tmp_path / "json_like.py").write_text("raise RuntimeError")
    assert why_not_loaded(["json_like"]) == {}
