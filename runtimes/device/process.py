"""A command as a process: one document or page on stdout, one line and an exit code for every way to fail.

    0    done and verified                      4    a provider or package that was asked for is missing
    1    a check that was asked for fails       5    a bug in edgecnn
    2    bad usage or bad input                 130  Ctrl-C    141  the reader of our output went away
    3    inconclusive                           143  SIGTERM  129  SIGHUP

`edgecnn` and `python NAME.edge` both live by this; only the standard library is imported. JSON has no NaN and no
infinity (RFC 8259, section 6): such numbers are written as `null`. Test: tests/test_cli_main.py.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, TextIO

from runtimes.base import BadInput, CheckFailed, EdgeError, one_line
from runtimes.device.page import Page

DEBUG_VARIABLE = "EDGECNN_DEBUG"
OWN = ("edgecnn", "exporters", "runtimes")
"""Packages of which a failing import is a bug."""
SIGNALLED = 128
INTERRUPTED: list[BaseException] = []
"""What ended a command, with all that it holds: to give back millions of objects one by one takes longer than whoever
waits for the end of the process has patience, and the line is said."""
Explain = Callable[[BaseException], tuple[int, str]]


class Terminated(BaseException):
    """A signal that ends the process. Not an Exception: nothing between here and `run` swallows it, `finally`s run."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.number = number

    @property
    def words(self) -> str:
        return "terminated" if self.number == signal.SIGTERM else "the terminal was closed"


@dataclass(frozen=True)
class Result:
    """`document` is the JSON form, `draw` the form for people, `verdict` its last line; `failure` is raised after.

    Without a verdict nothing is drawn. `warnings` go to stderr, a line each; so do `failures`, of which the last is
    raised.
    """

    document: Mapping[str, Any]
    draw: Callable[[Page], None]
    verdict: str
    failure: EdgeError | None = None
    warnings: Sequence[str] = ()
    failures: Sequence[EdgeError] = ()


def run(work: Callable[[], int], explain: Explain, own: bool) -> int:
    """The exit code of `work`, or that of what leaves it, after its one line; never raises, never prints a traceback.

    With EDGECNN_DEBUG=1 the traceback of any failure follows its one line. `own`: the process is ours to set up.
    """
    _open_closed_streams()
    with _own_process_settings(own):
        return outcome(work, explain)


def outcome(work: Callable[[], int], explain: Explain) -> int:
    """As `run`, in a process that is set up."""
    heard: list[int] = []
    try:
        with _terminate_by_exception(heard):
            code = work()
            sys.stdout.flush()
            return code
    except BaseException as error:  # a module that is being imported makes an ImportError of a signal
        code = _say(Terminated(heard[0]) if heard and isinstance(error, ImportError) else error, explain)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        if code > SIGNALLED:
            INTERRUPTED[:] = [error]
        return code


def carried_out(work: Callable[[], Result], as_json: bool) -> Result:
    """What `work` gives back; whatever it prints meanwhile goes to stderr. A failed check is a document too."""
    try:
        with results_only():
            return work()
    except CheckFailed as failed:
        if as_json:
            print_json({"passed": False, **failed.document, "error": str(failed)})
        raise


def show(result: Result, as_json: bool, page: Callable[[TextIO], Page], again: str) -> None:
    """Print `result` of the command `again` on stdout, then raise its failure if it has one."""
    warn(result.warnings)
    if as_json:
        print_json(result.document)
    elif result.verdict:
        drawn = page(sys.stdout)
        result.draw(drawn)
        drawn.verdict(result.verdict)
        drawn.again(again)
    sys.stdout.flush()
    failed = [*result.failures, *([result.failure] if result.failure is not None else [])]
    warn([str(error) for error in failed[:-1]], "error")
    if failed:
        raise failed[-1]


def warn(lines: Sequence[str], kind: str = "warning") -> None:
    """Each of `lines` on stderr, which may be closed."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        for line in lines:
            print(f"{kind}: {one_line(line)}", file=sys.stderr)


def print_json(document: Mapping[str, Any]) -> None:
    """The one JSON document of a command, on stdout."""
    json.dump(plain(document), sys.stdout, indent=2, allow_nan=False)
    print(flush=True)


def line_by_line() -> Callable[[Any], None]:
    """What prints `to_dict()` of anything as one line of JSON on stdout as it is now, wherever that points later."""
    stream = sys.stdout
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stdout is no file, e.g. in a test
        stream = open(os.dup(stream.fileno()), "w", encoding="utf-8")  # noqa: SIM115  (until the process ends)

    def tell(one: Any) -> None:
        print(json.dumps(plain(one.to_dict()), allow_nan=False), file=stream, flush=True)

    return tell


def one_or_the_other(as_json: bool, jsonl: object) -> None:
    """Raise `BadInput` where both kinds of JSON are asked for."""
    if as_json and jsonl:
        raise BadInput("--jsonl: is a document a line, and --json one of all; give one of them")


def plain(value: Any) -> Any:
    """`value` in JSON's own types: paths and numpy scalars converted, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return plain(value.tolist() if hasattr(value, "tolist") else str(value))


def explain(error: BaseException) -> tuple[int, str]:
    """(exit code, line without the leading `error: `) of anything that can leave a command; "" prints nothing."""
    code, text = _explain(error)
    return code, one_line(text)


def _explain(error: BaseException) -> tuple[int, str]:
    match error:
        case Terminated():
            return 128 + error.number, f"{error.words}; {_left(error)}"
        case EdgeError():
            return error.exit_code, str(error)
        case KeyboardInterrupt():
            return 130, f"interrupted; {_left(error)}"
        case BrokenPipeError():
            return 141, ""
        case SystemExit():
            return (error.code, "") if isinstance(error.code, int) else (5, str(error.code or ""))
        case MemoryError():
            return 2, "out of memory; use a smaller batch, fewer images or a smaller input"
        case Exception() if type(error).__name__ == "EncodeError":  # of protobuf, which is not imported here
            return 2, "the graph with its weights: larger than 2 GiB, which no ONNX tool takes; take a smaller network"
        case ImportError() if (package := (error.name or "").partition(".")[0]) not in OWN:
            return 4, f"{package or 'a package'}: cannot be loaded ({error}); install it again, or give it more memory"
        case OSError():
            return 2, f"{_subject(error)}: {error.strerror or error}; free the place or choose another"
    return 5, f"bug in edgecnn: {type(error).__name__}: {error}; set EDGECNN_DEBUG=1 for the traceback"


def _left(error: BaseException) -> str:
    """What an interruption left: nothing, unless a note says otherwise."""
    return "; ".join(getattr(error, "__notes__", ())) or "nothing half-written was left behind"


def _subject(error: OSError) -> str:
    name = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes) else "input or output"


def _say(error: BaseException, explain: Explain) -> int:
    """Print the one line for `error` and return the exit code."""
    code, line = explain(error)
    if isinstance(error, OSError):
        _drop_stdout()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr may be closed, or nobody's
        if line:
            print(f"error: {line}", file=sys.stderr)
        if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
            import traceback

            traceback.print_exception(error)
    return code


def _drop_stdout() -> None:
    """Point stdout at nothing: what it still holds would fail again when the interpreter closes it, with noise."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _open_closed_streams() -> None:
    """Put the null device where the caller closed stdout or stderr (`>&-`).

    The next file that is opened would get that number, and with it whatever C++ code prints there.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (until the process ends)


def ending() -> set[signal.Signals]:
    """The signals that end a command beside Ctrl-C: SIGTERM, and SIGHUP where nobody (`nohup`) said to ignore it."""
    hangup = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has none
    return {signal.SIGTERM} if signal.getsignal(hangup) == signal.SIG_IGN else {signal.SIGTERM, hangup}


@contextlib.contextmanager
def _terminate_by_exception(heard: list[int]) -> Iterator[None]:
    def on_terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not hit what cleans up
        heard.append(number)
        raise Terminated(number)

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ValueError):  # not the main thread: whoever runs us there owns the signals
            for number in ending():
                stack.callback(signal.signal, number, signal.signal(number, on_terminate))
        yield


@contextlib.contextmanager
def _own_process_settings(own: bool) -> Iterator[None]:
    """What only the real command may set: no foreign warnings among the lines, and stdout that can print any name."""
    if own:
        import warnings

        # Without it `import onnxruntime` writes an identifier and a database of events into HOME.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="backslashreplace")
    yield


@contextlib.contextmanager
def results_only() -> Iterator[None]:
    """Inside, whatever Python code, C++ code or a child process prints to stdout comes out on stderr.

    The exporter, the simplifier and ONNX Runtime all print on stdout now and then; one such line breaks `--json`.
    """
    sys.stdout.flush()
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # stdout is no file, e.g. in a test
            _swap_descriptor(stack)
        yield


def _swap_descriptor(stack: contextlib.ExitStack) -> None:
    stream = sys.__stdout__
    if stream is None:
        return
    number = stream.fileno()
    kept = os.dup(number)
    stack.callback(os.close, kept)
    stack.callback(os.dup2, kept, number)
    stack.callback(stream.flush)  # runs first: what a library left in the buffer must not come out later
    os.dup2(2, number)
