"""Every fenced block of the README is executed, or is output that is compared with what really comes out."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from edgecnn.networks.weights import load_weights

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
KINDS = ("sh", "python", "text")
"""`sh` and `python` are executed in order in one folder; `text` is what the block before it printed."""
NETS = """
from torch import nn

class Net(nn.Sequential):
    input_shape = (3, 32, 32)
    labels = ("cat", "dog")

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2),
        )
"""


@dataclass(frozen=True)
class Block:
    kind: str
    line: int
    text: str

    @property
    def commands(self) -> list[str]:
        """Shell lines, continued ones joined."""
        joined = self.text.replace("\\\n", " ")
        return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def blocks() -> list[Block]:
    text = README.read_text("utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], text[: m.start()].count("\n") + 1, m[2]) for m in found]


def test_every_fence_is_of_a_known_kind() -> None:
    text = README.read_text("utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(blocks())
    assert {block.kind for block in blocks()} <= set(KINDS)
    for block in blocks():
        if block.kind == "text":
            assert not re.search(r"^\s*(\$|edgecnn|pip|python)\s", block.text, re.MULTILINE), f"line {block.line}"


def setups() -> list[tuple[Block, list[str]]]:
    """The set-up blocks, each one line of three parts: make the environment, install, run."""
    found = [block for block in blocks() if "pip install" in block.text]
    return [(block, block.commands[0].replace(".venv/bin/", "").split(" && ")) for block in found]


def test_the_setup_is_what_the_continuous_integration_runs() -> None:
    """These blocks need a package index: their installing part is run, letter for letter, by .ci/run."""
    assert [parts[2] for _, parts in setups()] == ["edgecnn demo", "pytest"]
    for block, (venv, install, _) in setups():
        assert len(block.commands) == 1
        assert venv == "python3 -m venv .venv"
        assert f"\n{install}\n" in (ROOT / ".ci/run").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """What a user has: a network of their own, its weights, photographs, and `edgecnn` on the path."""
    place = tmp_path_factory.mktemp("readme")
    (place / "nets.py").write_text(NETS)
    names: dict[str, object] = {}
    exec(NETS, names)
    torch.manual_seed(0)
    torch.save(names["Net"]().state_dict(), place / "w.pt")  # type: ignore[operator]
    (place / "photos").mkdir()
    for picture in sorted(photos.iterdir()):
        Image.open(picture).resize((64, 64)).save(place / "photos" / picture.name)
    (place / "bin").mkdir()
    for name, means in (("edgecnn", f'"{sys.executable}" -m edgecnn'), ("python", f'"{sys.executable}"')):
        shim = place / "bin" / name
        shim.write_text(f'#!/bin/sh\nexec {means} "$@"\n')
        shim.chmod(0o755)
    return place


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def execute(block: Block, folder: Path) -> str:
    """Run `block` in `folder` and return what it printed on stdout; a command that fails, fails here."""
    printed = ""
    scripts = block.commands if block.kind == "sh" else [block.text]
    for script in scripts:
        shell = ["bash", "-euo", "pipefail", "-c", script] if block.kind == "sh" else [sys.executable, "-c", script]
        done = subprocess.run(shell, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"README line {block.line}: {script}\n{done.stdout}{done.stderr}"
        printed += done.stdout
    return printed


def shape_of(text: str) -> set[str]:
    """Lines with numbers as `#` and runs of spaces as one: what is the same on every machine.

    Rows of the race and drawn digits are left out: which graph wins depends on the processor.
    """
    lines = (re.sub(r"[\d.,]*\d(e[-+]\d+)?", "#", line) for line in text.splitlines())
    kept = (re.sub(r"\s+", " ", line).strip() for line in lines)
    return {
        re.sub(r"# [kM]?B\b", "# B", line)
        for line in kept
        if not re.match(r"(> )?(plain int#|int#|mixed|float)\s|[░▒▓█─#]", line)
    }


def seconds_of_children() -> float:
    """CPU time of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def kept_its_promise(demo: Path, cpu_seconds: float) -> None:
    """What is said of the demo: under two minutes (45 s on one core), and a network that knows the digits."""
    _, about = load_weights(demo / "weights.safetensors")
    assert about is not None
    assert about.model == "resnet8_w32"
    assert about.test_score is not None
    assert about.test_score >= 0.98
    assert cpu_seconds < 120


@pytest.mark.slow
def test_all_blocks_run_in_order(folder: Path) -> None:
    """One folder, one reader, from the first block to the last (for installing, and pytest itself, see above)."""
    last = ""
    runs = {block.line: parts[2] for block, parts in setups()}
    for block in blocks():
        if block.kind == "text":
            assert shape_of(block.text) <= shape_of(last), f"README line {block.line} shows what nobody prints"
        elif block.line in runs:
            before = seconds_of_children()
            last = execute(Block("sh", block.line, runs[block.line]), folder) if runs[block.line] != "pytest" else ""
            if runs[block.line] == "edgecnn demo":
                kept_its_promise(folder / "edgecnn-demo", seconds_of_children() - before)
        else:
            last = execute(block, folder)


def test_the_table_of_commands_is_complete() -> None:
    """One row a command, and its words are those of the help."""
    import click

    from edgecnn.cli._click import group

    names = group.list_commands(click.Context(group))
    rows = re.findall(r"^\| `edgecnn (\w+)[^|]*` \|", README.read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == names


def test_the_python_block_is_short() -> None:
    """That of the device is in docs/device.md (test_device_bundle)."""
    (workshop,) = [block.text for block in blocks() if block.kind == "python"]
    assert "from edgecnn import api" in workshop
    assert len(workshop.splitlines()) <= 20


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_what_the_pages_import_exists(page: Path) -> None:
    for text in re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    inside = f"{node.module}.{alias.name}"
                    assert hasattr(module, alias.name) or importlib.util.find_spec(inside), inside


def test_links_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text("utf-8")):
        assert (ROOT / target).exists(), target
