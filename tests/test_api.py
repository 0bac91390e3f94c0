"""Every command has a Python call of the same name, and every option is one of its arguments; `load` is no command."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import click
import numpy as np
import pytest

from edgecnn import api
from edgecnn.cli._click import Command, group
from exporters.pack import pack
from runtimes import base
from runtimes.session import open_session
from small_nets import conv_net

ROOT = Path(__file__).resolve().parent.parent
NAMES = group.list_commands(click.Context(group))
WITHOUT_COMMAND = ["load"]
"""Calls that return what stays open, which a command cannot."""
ONLY_SHOWN = {"inspect": {"layers"}, "run": {"jsonl"}}
"""Options that choose what is printed, not what is computed."""
NOT_OPTIONS = {"track", "tell"}
SPELLED_OUT = {("build", "threads")}
"""The call says None for what the help spells out: one thread."""


@pytest.mark.parametrize("name", NAMES)
def test_options_are_arguments_of_the_call(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert isinstance(command, Command)
    options = {p.name for p in command.params if p.expose_value} - ONLY_SHOWN.get(name, set())
    arguments = set(inspect.signature(getattr(api, name)).parameters)
    assert options == arguments - NOT_OPTIONS


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_the_same(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert isinstance(command, Command)
    needed = [word for p in command.params if p.required for word in _spelled(p)]
    given = command.make_context(name, needed).params
    arguments = inspect.signature(getattr(api, name)).parameters
    for option in given.keys() & arguments.keys() - {p.name for p in command.params if p.required}:
        default = arguments[option].default
        same = (given[option] or None) == (default or None) or str(given[option]) == str(default)
        assert same or (name, option) in SPELLED_OUT, (option, given[option], default)


def _spelled(param: click.Parameter) -> list[str]:
    return ["x"] if isinstance(param, click.Argument) else [param.opts[-1], "x"]


def test_the_calls_are_the_commands() -> None:
    assert sorted(api.HOMES) == sorted([*NAMES, *WITHOUT_COMMAND])
    assert sorted(api.__all__) == sorted(dir(api)) == sorted([*api.HOMES, *api.ERRORS])
    with pytest.raises(AttributeError, match="buld"):
        _ = api.buld  # type: ignore[attr-defined]


def test_the_errors_are_here_too() -> None:
    """Every class of the tree in runtimes/base.py, so that a caller needs one import."""
    tree = {c.__name__: c for c in vars(base).values() if isinstance(c, type) and issubclass(c, base.EdgeError)}
    assert {name: getattr(api, name) for name in api.ERRORS} == tree
    with pytest.raises(api.BadInput, match="no such file"):
        api.verify("none.edge")


def test_type_checkers_see_what_is_there() -> None:
    """The imports under TYPE_CHECKING name the same homes as HOMES."""
    text = (ROOT / "edgecnn/api.py").read_text()
    for name, home in {**api.HOMES, **api.ERRORS}.items():
        module, function = home.split(":")
        assert f"    from {module} import {function} as {name}\n" in text


def test_importing_the_facade_imports_nothing_heavy() -> None:
    script = (
        "import sys; from edgecnn import api; api.bench; print(sorted({'torch', 'onnx', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def device_bundle(folder: Path) -> Path:
    net, images = conv_net(channels=8, size=8), np.zeros((1, 3, 8, 8), np.float32)
    about = {
        "name": "made", "task": "classification", "labels": [], "preprocess": None, "created_by": "edgecnn 0",
        "chosen": "float", "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8]},
        "output": {"name": "y", "dtype": "float32", "shape": ["N", 10]},
    }  # fmt: skip
    pack(folder / "net.edge", net, about, [images], [open_session(net)({"x": images})["y"]], 0.0)
    return folder / "net.edge"


@pytest.mark.parametrize(
    ("track", "line"),
    [
        (lambda items, label: None, "^track: returned a NoneType for 'answering'; give a function of .items, label. "),
        (None, "^track: is a NoneType; give a function"),
    ],
)
def test_a_track_that_cannot_be_walked_through_is_told(track: object, line: str, tmp_path: Path) -> None:
    bundle = device_bundle(tmp_path)
    for run in (partial(api.run, bundle), api.load(bundle).run):
        with pytest.raises(api.BadInput, match=line):
            run(np.zeros((3, 8, 8), np.float32), track=track)  # type: ignore[arg-type]
    seen = []
    api.run(bundle, np.zeros((2, 3, 8, 8), np.float32), track=lambda items, label: seen.append(label) or items)
    assert seen == ["answering"]


def test_a_call_is_one_object_and_can_be_sent_to_a_process() -> None:
    for name in api.HOMES:
        assert pickle.loads(pickle.dumps(getattr(api, name))) is getattr(api, name)
