"""The house holds: imports point down, the device stays light, foreign libraries have one door, pieces are small."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from small_nets import conv_net, save

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("runtimes", "exporters", "edgecnn")
"""From the ground up: a floor imports itself and those before it."""
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
DEVICE = {"numpy", "onnxruntime"}
ONE_DOOR = {
    "click": "edgecnn/cli/",
    "matplotlib": "edgecnn/plots/_canvas.py",
    "onnxsim": "exporters/",
    "rich": "edgecnn/report.py",
    "safetensors": "edgecnn/networks/weights.py",
}
"""A foreign library and the file (or folder) that may import it; onnxsim from exactly one file."""
SMALL_FILE, SMALL_FUNCTION = 250, 15
MOST_LINES, MOST_FUNCTION_LINES = 320, 45
LARGE_SHARE = 0.12
"""Most functions are under 15 lines (house rule 16): at most this share is longer."""


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All of `path`, walked once for all tests."""
    return tuple(ast.walk(parsed(path)))


def called(node: ast.Call) -> str:
    """The last name of what is called: `f` in `a.f()`."""
    return getattr(node.func, "attr", "") or getattr(node.func, "id", "")


@functools.cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """(top-level package, line) of every import in `path`, also those inside functions; not under TYPE_CHECKING."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    hidden = {
        id(inner)
        for node in nodes(path)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in nodes(path):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            yield str(node.module).partition(".")[0], node.lineno
        elif isinstance(node, ast.Call) and called(node).endswith("import_module") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant):
                yield str(name.value).partition(".")[0], node.lineno


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_point_down(path: Path) -> None:
    own = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = {name: line for name, line in imports(path) if name in FLOORS[own + 1 :]}
    assert not above


def uses(path: Path) -> set[str]:
    """The files of the house whose names `path` imports, wherever it does: in functions and for types too."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for dotted in found if (name := dotted.replace(".", "/") + ".py") in NAMES}


def test_no_files_use_each_other_in_a_circle() -> None:
    """What is understood last can be read last: every file builds on files that stand without it."""
    left = {name: uses(path) for path, name in zip(FILES, NAMES, strict=True)}
    while settled := [name for name, needs in left.items() if not (needs - {name}) & left.keys()]:
        for name in settled:
            del left[name]
    assert not left, "in a circle, or above one"


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "runtimes")], ids=str)
def test_the_device_needs_only_numpy_and_onnxruntime(path: Path) -> None:
    foreign = {name for name, _ in imports(path)} - set(sys.stdlib_module_names) - DEVICE - {"runtimes"}
    assert foreign <= ({"PIL"} if path.name in ("images.py", "pictures.py") else set())


def test_the_device_loads_pillow_only_to_use_it() -> None:
    """`images` and `pictures` may import it in a function: a device may be without."""
    names = ", ".join(f"runtimes.imaging.{name}" for name in ("images", "pictures", "shown"))
    script = f"import sys, {names}; assert 'PIL' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)


def test_the_tools_floors_test_can_fail(tmp_path: Path) -> None:
    """The scanner sees imports at the top, in functions and by name, and leaves annotations alone."""
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import a.b\ndef f():\n    from c import d\n    importlib.import_module('e.f')\n"
        "if TYPE_CHECKING:\n    import g\n"
    )
    assert {name for name, _ in imports(probe)} == {"a", "c", "e"}


def test_foreign_libraries_have_one_door() -> None:
    users = defaultdict(set)
    for path, name in zip(FILES, NAMES, strict=True):
        for package, _ in imports(path):
            users[package].add(name)
    for package, door in ONE_DOOR.items():
        assert all(name.startswith(door) for name in users[package]), (package, sorted(users[package]))
    assert len(users["onnxsim"]) == 1
    assert len(users["onnxscript"] | users["onnx_ir"]) <= 1
    torch_below = {name for name in users["torch"] if name.startswith("exporters")}
    assert torch_below == {"exporters/torch_export.py", "exporters/torch_forms.py"}


# ---------------------------------------------------------------------------------------------- what a command loads
HEAVY = ("torch", "onnx", "onnxsim", "onnxscript", "onnxruntime", "numpy", "rich", "PIL", "sklearn")


def loaded(*args: str) -> tuple[int, set[str]]:
    """(exit code, heavy modules in sys.modules afterwards) of `edgecnn ARGS` in a fresh process."""
    script = (
        "import sys, json; from edgecnn.cli import main; code = main(sys.argv[1:]); "
        f"print(json.dumps([code, [m for m in {HEAVY!r} if m in sys.modules]]), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, env=environment, timeout=60)
    code, names = json.loads(done.stderr.splitlines()[-1])
    return code, set(names)


def test_help_loads_nothing_heavy() -> None:
    assert loaded("--help") == (0, set())
    assert loaded("quantize", "--help") == (0, set())
    assert loaded("--version") == (0, set())


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        (["models"], {"numpy", "rich"}),
        (["models", "--json"], {"numpy"}),
        (["inspect", "MODEL"], {"numpy", "rich", "onnx"}),
        (["bench", "MODEL", "--iterations", "6", "--json"], {"numpy", "onnxruntime"}),
        (["profile", "MODEL", "--iterations", "2", "--json"], {"numpy", "onnx", "onnxruntime"}),
        (["check", "MODEL", "MODEL"], {"numpy", "rich", "onnx", "onnxruntime"}),
        (["diff", "MODEL", "MODEL"], {"numpy", "rich", "onnx", "onnxruntime"}),
        (["fold", "MODEL", "-o", "OUT"], {"numpy", "rich", "onnx", "onnxruntime"}),
        (["simplify", "MODEL", "-o", "OUT"], {"numpy", "rich", "onnx", "onnxruntime"}),
        (["quantize", "MODEL", "-o", "OUT", "--calib", "random:2"], {"numpy", "rich", "onnx", "onnxruntime", "PIL"}),
        (["doctor"], {"numpy", "rich", "onnxruntime"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_commands_load_what_they_need(command: list[str], allowed: set[str], tmp_path: Path) -> None:
    """`run` and `verify` are held to the same in tests/test_predict.py, where there is a bundle."""
    places = {"MODEL": str(save(conv_net(), tmp_path / "net.onnx")), "OUT": str(tmp_path / "out.onnx")}
    code, names = loaded(*(places.get(word, word) for word in command))
    assert code == 0
    assert names <= allowed


def test_help_loads_few_modules_beside_those_of_click() -> None:
    """What starting costs is measured by bench/startup.py."""

    def modules(code: str) -> set[str]:
        script = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, text=True)
        return set(done.stderr.split())

    more = modules("from edgecnn.cli import main\nmain(['--help'])") - modules("import click")
    assert "edgecnn.cli.build" in more
    assert len(more) <= 90, sorted(more)  # the standard library of Python 3.13 brings 82, that of 3.11 some 70


# ------------------------------------------------------------------------------------------------------- house style
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_module_opens_with_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(parsed(path))
    assert docstring
    assert len(docstring.splitlines()[0]) <= 120


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines of code: neither signature, docstring, comments nor blank lines) of every function in `path`."""
    lines = path.read_text("utf-8").splitlines()
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None
            body = node.body[1:] if documented else node.body
            code = lines[body[0].lineno - 1 : node.end_lineno] if body else []
            yield f"{path.name}:{node.lineno} {node.name}", sum(bool(re.match(r"\s*[^\s#]", line)) for line in code)


def test_pieces_are_small() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in sizes.items() if count > MOST_LINES} == {}
    assert sum(count > SMALL_FILE for count in sizes.values()) <= len(sizes) * 0.1
    found = [entry for path in FILES for entry in functions(path)]
    assert [entry for entry in found if entry[1] > MOST_FUNCTION_LINES] == []
    assert sum(count > SMALL_FUNCTION for _, count in found) <= len(found) * LARGE_SHARE


def test_only_the_command_line_prints() -> None:
    """The library returns records. A child process talks to its parent over stdout, and says so by its name."""
    talkers = {"runtimes/execution/fresh.py", "exporters/isolation/probe.py", "edgecnn/models/__main__.py"}
    command_lines = ("edgecnn/cli/", "runtimes/device/")
    for path, name in zip(FILES, NAMES, strict=True):
        prints = [n.lineno for n in nodes(path) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
        assert not prints or name in talkers or name.startswith(command_lines) or name.endswith("__main__.py"), name


def test_every_test_file_belongs_to_something() -> None:
    """A test path named in a module's docstring exists."""
    for path in FILES:
        for name in re.findall(r"tests/test_\w+\.py", path.read_text("utf-8")):
            assert (ROOT / name).exists(), f"{path.relative_to(ROOT)} names {name}"


def test_the_wheel_holds_the_data_files() -> None:
    """Files that are not Python and are read at run time stand in pyproject's package-data."""
    import fnmatch
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]
    tracked = [p for f in FLOORS for p in (ROOT / f).rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    for path in tracked:
        floor, *rest = path.relative_to(ROOT).parts
        assert any(fnmatch.fnmatch("/".join(rest), pattern) for pattern in patterns[floor]), path


@pytest.mark.parametrize(
    ("system", "machine", "wheel"),
    [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("win32", "AMD64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("win32", "ARM64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("darwin", "x86_64", "onnxruntime"),
    ],
)
def test_every_machine_gets_one_onnx_runtime(system: str, machine: str, wheel: str) -> None:
    """Markers know no `not`: a wrong one is found by pip alone, when it is too late."""
    import tomllib

    from packaging.requirements import Requirement

    lines = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    place = {"sys_platform": system, "platform_machine": machine}
    wanted = [r.name for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate(place)]
    assert [name for name in wanted if name.startswith("onnxruntime")] == [wheel]


@pytest.mark.parametrize("name", ["runtimes", "exporters"])
def test_a_foreign_package_of_the_same_name_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    command = [sys.executable, "-c", "import edgecnn"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
    assert f"ImportError: {tmp_path / name}: a foreign package hides edgecnn's own `{name}`" in done.stderr
