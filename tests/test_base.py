"""The error tree's exit codes and its one safe line; the words that all floors share."""

import subprocess
import sys

import pytest

from runtimes import base

EXIT_CODES = {"EdgeError": 5, "CheckFailed": 1, "BadInput": 2, "Inconclusive": 3, "Unavailable": 4}


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_every_error_has_its_exit_code(name: str, code: int) -> None:
    error = getattr(base, name)
    assert issubclass(error, base.EdgeError)
    assert error.exit_code == code


def test_no_error_class_is_forgotten_in_the_table() -> None:
    found = {n for n, v in vars(base).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert found == EXIT_CODES.keys()


@pytest.mark.parametrize("nasty", ["a\nb", "a\x1b[31mb", "a\rb", "a\u202eb", "a\udcffb", "a\x00b"])
def test_a_message_is_one_line_without_control_characters(nasty: str) -> None:
    message = str(base.BadInput(f"{nasty}: is bad"))
    assert message.isprintable()
    assert message.startswith("a\\")
    message.encode()  # no lone surrogate left


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    message = str(base.BadInput("start" + "x" * 5000 + "end"))
    assert len(message) <= base.MESSAGE_LIMIT
    assert message.startswith("start")
    assert message.endswith("end")


def test_the_silent_track_gives_back_what_it_got() -> None:
    items = [1, 2, 3]
    assert base.silent(items, "counting") is items


def test_the_ground_floor_starts_without_numpy_and_onnxruntime() -> None:
    code = (
        "import sys, runtimes.base, runtimes.plugins, runtimes.files; "
        "print([m for m in ('numpy', 'onnxruntime', 'onnx', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    "module",
    [
        "session",
        "parity",
        "latency",
        "machine",
        "imaging.preprocess",
        "bundle",
        "census",
        "proof.archive",
        "providers.cuda",
    ],
)
def test_no_module_of_the_device_imports_more_than_numpy(module: str) -> None:
    """onnxruntime comes when a session is opened; torch, onnx, PIL and click never do."""
    code = (
        f"import sys, runtimes.{module}; print([m for m in ('onnxruntime', 'onnx', 'torch', 'PIL', 'click', 'rich', "
        "'exporters', 'edgecnn') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
