"""The entry point: every way to fail is one line and an exit code; stdout is for results only."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import pytest

import edgecnn.networks.zoo
from edgecnn.cli import main
from edgecnn.cli._result import overwrite
from runtimes.base import BadInput, CheckFailed, EdgeError, Inconclusive, Unavailable
from runtimes.device.process import plain

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = sorted(p.stem for p in (ROOT / "edgecnn/cli").glob("*.py") if not p.name.startswith("_"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def edgecnn_process(*args: str | bytes, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edgecnn", *args]
    settings = {"env": ENVIRONMENT, "capture_output": True, "timeout": 60, **options}
    return subprocess.run(command, **settings)  # type: ignore[call-overload,no-any-return]


def raising(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


# ------------------------------------------------------------------------------------------------- one line, one code
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CheckFailed("m: too far"), 1, "error: m: too far"),
        (BadInput("m: wrong"), 2, "error: m: wrong"),
        (Inconclusive("m: noisy"), 3, "error: m: noisy"),
        (Unavailable("cuda: missing"), 4, "error: cuda: missing"),
        (EdgeError("m: bug"), 5, "error: m: bug"),
        (MemoryError(), 2, "error: out of memory; use a smaller batch, fewer images or a smaller input"),
        (PermissionError(13, "Permission denied", "x.onnx"), 2, "error: x.onnx: Permission denied; "),
        (KeyboardInterrupt(), 130, "error: interrupted; nothing half-written was left behind"),
        (click.UsageError("no such thing"), 2, "error: no such thing; see `edgecnn models --help`"),
        (ValueError("1\n2\x1b[31m"), 5, "error: bug in edgecnn: ValueError: 1\\n2\\x1b[31m; set EDGECNN_DEBUG=1"),
        (
            ImportError("libtorch_cpu.so: failed to map segment", name="torch._C"),
            4,
            "error: torch: cannot be loaded (libtorch_cpu.so: failed to map segment); install it again",
        ),
        (ImportError("cannot import name 'x'", name="edgecnn.road"), 5, "error: bug in edgecnn: ImportError: cannot"),
        (RecursionError("deep"), 5, "error: bug in edgecnn: RecursionError: deep"),
        (SystemExit(7), 7, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_error_is_one_line_and_its_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(edgecnn.networks.zoo, "list_models", raising(error))
    assert main(["models"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == (1 if line else 0)
    assert "Traceback" not in err


def test_a_long_message_stays_under_300_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(edgecnn.networks.zoo, "list_models", raising(ValueError("x" * 5000)))
    assert main(["models"]) == 5
    err = capsys.readouterr().err
    assert len(err.rstrip("\n")) < 300
    assert err.rstrip().endswith("set EDGECNN_DEBUG=1 for the traceback")


def test_debug_adds_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EDGECNN_DEBUG", "1")
    monkeypatch.setattr(edgecnn.networks.zoo, "list_models", raising(BadInput("m: wrong")))
    assert main(["models"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: m: wrong\n")
    assert "Traceback" in err


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["bennch"], r"bennch: unknown command; did you mean bench\?"),
        (["models", "--jsn"], r"--jsn: unknown option; did you mean --json\? see `edgecnn models --help`"),
        (["export", "lenet5", "-o", "x", "--wights", "w"], r"--wights: unknown option; did you mean --weights.*"),
        (["bench"], r"MODEL: is missing; see `edgecnn bench --help`"),
        (["fold", "m.onnx"], r"--output: is missing; see `edgecnn fold --help`"),
        (["bench", "m", "--batch", "0"], r"--batch: 0 is not in the range x>=1; see .*"),
        (["bench", "m", "--seed", "-1"], r"--seed: -1 is not in the range 0<=x.*; see .*"),
        (["bench", "m", "--threads", "99999999999"], r"--threads: 99999999999 is not in the range 1<=x<=1024; see .*"),
        (["export", "lenet5", "-o", "x", "--opset", "new"], r"--opset: 'new' is not a valid integer; see .*"),
        (["fold", "a", "b", "-o", "c"], r"b: more than the command takes; see `edgecnn fold --help`"),
        (["models", "a", "b"], r"a b: more than the command takes; see `edgecnn models --help`"),
        (["fold", "a", "--force=3"], r"--force: does not take a value; see `edgecnn.* --help`"),
        (["fold", "a", "-o"], r"-o: requires an argument; see `edgecnn.* --help`"),
        (["run\x1b[2J"], r"run\\x1b\[2J: unknown command; did you mean run\?"),
    ],
)
def test_usage_errors_are_one_line_with_the_nearest(
    args: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"error: {line}\n", err), err


def test_a_file_that_may_not_be_read_is_told_in_our_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may read everything
    path = tmp_path / "it's.jpg"
    path.write_bytes(b"x")
    assert main(["verify", str(path)]) == 2
    assert capsys.readouterr().err == f"error: {path}: no permission to read it; change its mode or owner\n"


def test_no_sentence_of_the_overview_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("\n")[2]  # below the line of the usage


def test_no_arguments_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgecnn {edgecnn.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_a_sentence_an_example_and_groups(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    first = shown.split("\n\n")[1].strip()
    assert first.endswith(".")
    assert first[0].isupper()
    assert re.search(rf"^Example:\n  edgecnn {name}\b", shown, re.MULTILINE)
    assert re.search(r"^General:\n  --json", shown, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_parses(name: str) -> None:
    """The example of a help text is a valid command line: its options exist and its values have the right type."""
    import shlex

    from edgecnn.cli._click import Command, group

    command = group.get_command(click.Context(group), name)
    assert isinstance(command, Command)
    words = shlex.split(command.example)
    assert words[:2] == ["edgecnn", name]
    command.make_context(name, words[2:])


# ---------------------------------------------------------------------------------------------------- stdout, stderr
def test_json_is_one_document_whatever_libraries_print(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = edgecnn.networks.zoo.list_models

    def noisy() -> object:
        print("python noise")
        os.write(1, b"C++ noise\n")
        subprocess.run([sys.executable, "-c", "print('child noise')"], check=True)
        return real()

    monkeypatch.setattr(edgecnn.networks.zoo, "list_models", noisy)
    assert main(["models", "--json"]) == 0
    out, err = capfd.readouterr()
    assert [row["name"] for row in json.loads(out)["models"]] == [row.name for row in real()]
    assert "python noise" in err


def test_noise_of_the_process_never_reaches_stdout() -> None:
    """At the level of file descriptors, as C++ code and child processes print."""
    script = (
        "import os, sys, subprocess, edgecnn.networks.zoo as z; from edgecnn.cli import main; real = z.list_models\n"
        "def noisy():\n"
        "    print('python noise'); os.write(1, b'C++ noise\\n'); subprocess.run(['echo', 'child noise'])\n"
        "    return real()\n"
        "z.list_models = noisy; sys.argv = ['edgecnn', 'models', '--json']; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 0
    assert json.loads(done.stdout)["models"]
    assert [word in done.stderr for word in (b"python noise", b"C++ noise", b"child noise")] == [True] * 3


def test_json_has_no_nan_and_no_infinity() -> None:
    """RFC 8259, section 6: such numbers cannot be written."""
    value = {
        "a": float("nan"),
        "b": [float("inf"), 1.5],
        "c": np.float32(2),
        "d": np.arange(2),
        "e": Path("x"),
        3: (1,),
    }
    assert plain(value) == {"a": None, "b": [None, 1.5], "c": 2.0, "d": [0, 1], "e": "x", "3": [1]}
    assert json.dumps(plain(value), allow_nan=False)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "words",
    ["diff a.onnx b.onnx --snr-db", "check a.onnx b.onnx --top1", "run b.edge a.png --min-score",
     "quantize a.onnx --calib random -o b.onnx --search-budget", "quantize a.onnx --calib random -o b.onnx --max-drop",
     "simplify a.onnx -o b.onnx --timeout", "bench a.onnx --tolerance", "evaluate a.onnx --data digits --min-metric",
     "decode a.onnx -o b.onnx --iou", "train lenet5 -o b.safetensors --rate"],
)  # fmt: skip
def test_an_option_that_is_a_number_is_a_finite_one(words: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, option = words.split()[0], words.split()[-1]
    assert main([*words.split(), text]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"error: {option}: {text} is not .*; see `edgecnn {command} --help`\n", error)


@pytest.mark.parametrize(
    ("words", "kind"), [(["inspect", ""], "network"), (["build", "lenet5", "-o", "b.edge", "--calib", "random",
                                                        "--provider", ""], "provider"), ([""], "command")],
)  # fmt: skip
def test_an_empty_name_is_called_so(words: list[str], kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"error: '' (an empty name): unknown {kind}; known: ")


def test_the_page_ends_with_the_verdict_and_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert lines[-1] == "again: edgecnn models"
    assert re.match(r"\d+ networks", lines[-2])


@pytest.mark.parametrize(
    ("args", "more"),
    [
        (["fold", "a.onnx", "-o", "b.onnx"], ["--force"]),
        (["fold", "a.onnx", "--output=b.onnx"], ["--force"]),
        (["demo"], ["--force"]),
        (["profile", "a.onnx", "--plot", "a.png"], ["--force"]),
        (["profile", "a.onnx", "--csv=a.csv"], ["--force"]),
        (["run", "b.edge", "a.png", "--save", "out"], ["--force"]),
        (["run", "b.edge", "a.png", "--save=out"], ["--force"]),
        (["diff", "a.onnx", "b.onnx", "--reproducer", "out"], ["--force"]),
        (["profile", "a.onnx", "--threads", "1"], []),
        (["build", "lenet5", "-o", "b.edge", "--force"], []),
        (["verify", "b.edge"], []),
    ],
)
def test_the_command_to_repeat_may_overwrite_what_it_wrote(args: list[str], more: list[str]) -> None:
    assert overwrite(args) == more


# ------------------------------------------------------------------------------------- signals, pipes, foreign places
WAITING = (
    "import sys, time, edgecnn.networks.zoo as z; from edgecnn.cli import main\n"
    "def wait():\n    print('ready', file=sys.stderr, flush=True); time.sleep(30)\n"
    "z.list_models = wait; sys.argv = ['edgecnn', 'models']; sys.exit(main())"
)
ENDINGS = [
    ("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "the terminal was closed"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "words"), ENDINGS)
def test_signals_end_with_one_line(name: str, code: int, words: str) -> None:
    heard = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, which bequeaths it
    child = subprocess.Popen([sys.executable, "-c", WAITING], stdout=-1, stderr=-1, env=ENVIRONMENT, preexec_fn=heard)
    assert child.stderr is not None
    assert child.stderr.readline() == b"ready\n"
    child.send_signal(getattr(signal, name))
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out) == (code, b"")
    assert err.decode() == f"error: {words}; nothing half-written was left behind\n"


def test_a_signal_while_a_module_is_imported_is_no_broken_package() -> None:
    """An extension that is being initialized makes an ImportError of whatever is raised meanwhile."""
    script = (
        "import os, signal; from runtimes.device import process\n"
        "def work():\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    except BaseException as error: raise ImportError('initialization failed', name='numpy') from error\n"
        "raise SystemExit(process.run(work, process.explain, False))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert (done.returncode, done.stderr) == (143, "error: terminated; nothing half-written was left behind\n")


def test_what_nohup_started_outlives_the_terminal() -> None:
    script = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{WAITING}"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=-1, stderr=-1, env=ENVIRONMENT)
    assert child.stderr is not None
    assert child.stderr.readline() == b"ready\n"
    child.send_signal(signal.SIGHUP)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=20)
    assert child.returncode == 143


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = edgecnn_process("models", stdout=writer, stderr=subprocess.PIPE, capture_output=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("number", [1, 2])
def test_streams_that_the_caller_closed(number: int, tmp_path: Path) -> None:
    """`edgecnn ... >&-`: no traceback, and nothing that was meant for stderr lands on stdout."""
    command = f'"{sys.executable}" -m edgecnn models --json {number}>&-; echo $?; '
    command += f'"{sys.executable}" -m edgecnn nope {number}>&-; echo $?'
    done = subprocess.run(["sh", "-c", command], capture_output=True, env=ENVIRONMENT, timeout=60)
    assert b"Traceback" not in done.stderr
    if number == 1:
        assert done.stdout.split() == [b"0", b"2"]
        assert done.stderr.startswith(b"error: nope")
    else:
        assert done.stdout.rstrip().endswith(b"}\n0\n2")
        assert done.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a Linux device")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = edgecnn_process("models", "--json", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 2
    assert re.fullmatch(rb"error: .*No space left on device.*\n", done.stderr)


@pytest.mark.parametrize("coerce", ["0", "1"])
def test_the_c_locale_and_names_that_are_not_utf8(tmp_path: Path, coerce: str) -> None:
    environment = {**ENVIRONMENT, "LC_ALL": "C", "PYTHONCOERCECLOCALE": coerce, "PYTHONUTF8": "0"}
    name = os.fsencode(tmp_path) + b"/\xff\xe9.onnx"
    done = edgecnn_process("bench", name, env=environment)
    assert done.returncode == 2
    assert done.stderr.endswith(b": no such file; check the name\n")
    assert done.stderr.isascii()
    assert edgecnn_process("models", env=environment).returncode == 0
    assert edgecnn_process("--help", env=environment).returncode == 0


def test_no_colour_in_pipes_and_with_no_color() -> None:
    assert b"\x1b" not in edgecnn_process("models").stdout
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal (not on Windows)")
    coloured, plain_text = (_on_terminal(pty, {"TERM": "xterm", **extra}) for extra in ({}, {"NO_COLOR": "1"}))
    assert b"\x1b[" in coloured
    assert re.search(rb"\x1b\[[0-9;]*3[0-7]m", plain_text) is None
    assert b"lenet5" in coloured
    assert b"lenet5" in plain_text


def _on_terminal(pty: object, extra: dict[str, str], columns: int = 60) -> bytes:
    """stdout of `edgecnn models` on a pseudo-terminal of `columns`."""
    master, slave = pty.openpty()  # type: ignore[attr-defined]
    environment = {k: v for k, v in ENVIRONMENT.items() if k not in ("NO_COLOR", "COLUMNS")}
    command = [sys.executable, "-m", "edgecnn", "models"]
    child = subprocess.Popen(command, stdout=slave, env={**environment, "COLUMNS": str(columns), **extra})
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux's word for the end of a terminal
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert child.wait(timeout=10) == 0
    return shown


def test_a_narrow_terminal_folds_and_loses_nothing() -> None:
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal (not on Windows)")
    lines = re.sub(rb"\x1b\[[0-9;]*m", b"", _on_terminal(pty, {"TERM": "xterm"}, columns=60)).decode().splitlines()
    assert max(len(line) for line in lines[:-2]) <= 60
    assert "…" not in "".join(lines)


def test_nothing_is_written_into_the_home(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would put an identifier there; who sets its variable otherwise keeps it."""
    environment = {key: value for key, value in ENVIRONMENT.items() if key != "ORT_DISABLE_TELEMETRY"}
    assert edgecnn_process("doctor", env={**environment, "HOME": str(tmp_path)}).stdout
    assert list(tmp_path.rglob("*")) == []
