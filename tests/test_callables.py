"""A user's code is found, asked and called; whatever it does, the user learns where in one line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from torch import nn

from edgecnn.networks import callables
from runtimes.base import BadInput

CODE = """
import sys
from torch import nn
import helper
print("noise while importing")

class Net(nn.Linear):
    def __init__(self):
        print("noise while building")
        super().__init__(helper.WIDTH, 2)

def boom():
    raise ValueError("first line\\nsecond line")

def deep():
    return helper.fail()

def leave():
    sys.exit(3)

def seven():
    return 7

def later():
    import helper_of_later
    return nn.Identity()

number = 7
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "helper.py").write_text("WIDTH = 5\ndef fail():\n    raise KeyError('inner')\n")
    (tmp_path / "helper_of_later.py").write_text("")
    (tmp_path / "nets.py").write_text(CODE)
    return str(tmp_path / "nets.py")


@pytest.fixture(autouse=True)
def _forget_helpers() -> None:
    for name in ("helper", "helper_of_later"):
        sys.modules.pop(name, None)


def test_what_users_print_goes_to_stderr(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = callables.call(callables.find(code, "Net"), "nets")
    assert isinstance(module, nn.Linear)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "noise while importing\nnoise while building\n"


def test_neighbours_are_importable_while_the_code_runs_and_only_then(code: str) -> None:
    before = list(sys.path)
    found = callables.find(code, "later")
    assert isinstance(callables.call(found, "nets:later"), nn.Identity)
    assert sys.path == before


def test_no_byte_code_is_left_beside_the_users_file(code: str) -> None:
    callables.find(code, "Net")
    cache = Path(code).parent / "__pycache__"
    assert not cache.exists() or not list(cache.glob("nets*"))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("boom", "raised ValueError at nets.py line 13: first line; mend the code"),
        ("deep", "raised KeyError at helper.py line 3: 'inner'; mend the code"),
        ("leave", "raised SystemExit at nets.py line 19: 3; mend the code"),
        ("seven", "returned an int, not an nn.Module; name a callable that does"),
    ],
)
def test_what_users_raise_is_told_with_the_line(code: str, name: str, complaint: str) -> None:
    with pytest.raises(BadInput) as caught:
        callables.call(callables.find(code, name), f"nets.py:{name}")
    assert str(caught.value) == f"nets.py:{name}: {complaint}"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("Nett", "nets.py:Nett: unknown callable; did you mean Net?"),
        ("number", "nets.py:number: is a int; name a callable"),
    ],
)
def test_names_that_are_no_callables(code: str, name: str, complaint: str) -> None:
    with pytest.raises(BadInput) as caught:
        callables.find(code, name)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def Net(:\n", r"is not Python: .* \(line 1\)"),
        ("\0", "is not Python|cannot contain null|null bytes"),
        ("import no_such_package_4711", "raised ModuleNotFoundError at nets.py line 1: No module named"),
        ("1 / 0", "raised ZeroDivisionError at nets.py line 1"),
    ],
)
def test_files_that_do_not_run(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "nets.py").write_text(text)
    with pytest.raises(BadInput, match=complaint):
        callables.find(str(tmp_path / "nets.py"), "Net")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "nets.py")
    with pytest.raises(BadInput, match="is a pipe"):
        callables.find(str(tmp_path / "nets.py"), "Net")


def test_interrupts_pass_through(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("def Net():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        callables.call(callables.find(str(tmp_path / "nets.py"), "Net"), "nets")


def test_the_default_number_of_classes() -> None:
    def has(num_classes: int = 12) -> None: ...

    def told(num_classes: int) -> None: ...

    def lacks(width: int = 3) -> None: ...

    assert callables.default_classes(has) == 12
    assert callables.default_classes(told) == callables.TELL_CLASSES
    assert callables.default_classes(lacks) is None
    assert callables.default_classes(dict) is None
