"""`python NAME.edge run|verify|settle|bench`: a bundle that uses, proves and measures itself, without edgecnn.

    NAME.edge (a zip)  --Python-->  __main__.py  -->  main  -->  runtimes, from the same file

Answers, JSON, exit codes and error lines are those of `edgecnn run NAME.edge` and so on, whose work is done by the same
modules. numpy and ONNX Runtime are imported when a command needs them. Test: tests/test_device_bundle.py.
"""

from __future__ import annotations

import functools
import importlib
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from runtimes import plugins
from runtimes.base import BadInput, Unavailable
from runtimes.device import process
from runtimes.device.arguments import USES, parser
from runtimes.device.damage import undamaged
from runtimes.device.page import PlainPage
from runtimes.device.process import Result
from runtimes.execution.watch import watched

HELP, VERSION, PROBE = ("-h", "--help"), ("--version",), "_probe"
NEEDED = ("numpy", "onnxruntime")


def main(args: Sequence[str] | None = None, name: str | None = None) -> int:
    """Run `python NAME ARGS` (default: the process's own) and return its exit code; never raises."""
    bundle, given = sys.argv[0] if name is None else name, list(sys.argv[1:] if args is None else args)
    return process.run(lambda: _run(bundle, given, own=args is None), process.explain, own=args is None)


def _run(bundle: str, args: list[str], own: bool) -> int:
    program = shlex.join(["python", bundle])
    command = args[0] if args else ""
    if command in HELP:
        sys.stdout.write(_help(program))
    elif command == PROBE:
        undamaged(bundle, command, _probe)
    elif command in ("", *VERSION):
        undamaged(bundle, command, lambda: _about(bundle, program, only_version=command in VERSION))
    elif command not in USES:
        raise BadInput(f"{plugins.unknown(command, USES, 'command')}; see `{program} --help`")
    else:
        given = parser(program, command).parse_args(args[1:])
        writes = getattr(given, "save", None) or getattr(given, "output", None)
        again = shlex.join([*args, *(["--force"] if writes and not given.force else [])])
        work = functools.partial(_answer, bundle, command, given, f"{program} {again}")
        return watched(bundle, lambda: process.outcome(work, process.explain)) if own else work()
    return 0


def _answer(bundle: str, command: str, given: Namespace, again: str) -> int:
    """Carry out `command` of `bundle` and print what comes out; `again` is how it was called."""
    _import(*NEEDED)
    given.each = process.line_by_line() if getattr(given, "jsonl", False) else None
    work = {"run": _predict, "verify": _verify, "bench": _bench, "settle": _settle}[command]
    done = process.carried_out(lambda: undamaged(bundle, command, lambda: work(bundle, given)), given.json)
    process.show(done, given.json, PlainPage, again)
    return 0


def _help(program: str) -> str:
    lines = [
        f"usage: {program} [COMMAND] [ARGUMENTS]",
        "",
        "A network with its preprocessing, labels and proof. Without a command it says what it is.",
        "",
        *(f"  {name:8}{what}" for name, what in USES.items()),
        "",
        f"`{program} COMMAND --help` lists the arguments. Exit codes: 0 done and verified, 1 a check fails,",
        "2 bad input, 3 inconclusive, 4 missing part, 5 bug.",
    ]
    return "\n".join(lines) + "\n"


def _import(*names: str) -> None:
    """Raise `Unavailable` where a package is missing or cannot be loaded."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == name
            cause = "is not installed" if missing else f"cannot be imported ({error})"
            raise Unavailable(f"{name}: {cause}; `{sys.executable} -m pip install {' '.join(NEEDED)}`") from error


def _about(bundle: str, program: str, only_version: bool) -> None:
    _import("numpy")
    from runtimes.device.about import described, made
    from runtimes.proof.prediction import open_bundle

    opened, page = open_bundle(Path(bundle)), PlainPage(sys.stdout)
    if only_version:
        return page.note(made(opened))
    page.pairs(described(opened))
    shown = "ARRAYS.npz" if opened.several else "ARRAY.npy" if opened.preprocess is None else "IMAGE..."
    page.go_on(f"{program} {words}" for words in (f"run {shown}", "verify", "bench"))


def _predict(bundle: str, given: Namespace) -> Result:
    from runtimes.device.tables import predicted
    from runtimes.imaging.shown import of_file
    from runtimes.proof.prediction import How, gathered, opened_to_run, ready_of, run, slim

    process.one_or_the_other(given.json, given.jsonl)
    opened = opened_to_run(Path(bundle), given.input_shape)
    images = gathered(given.inputs, lambda file: of_file(Path(file), ready_of(opened), bundle), str)
    how = How(
        given.provider, given.threads, given.require_all, given.top, given.min_score, given.save, given.force,
        given.each or slim,
    )  # fmt: skip
    report = run(opened, images, how, bundle)
    verdict = "" if given.jsonl else report.verdict
    return Result(
        report.to_dict(), lambda page: predicted(page, report), verdict, None, report.warnings, report.failures
    )


def _verify(bundle: str, given: Namespace) -> Result:
    from runtimes.device.tables import verified
    from runtimes.proof.verification import verify

    report = verify(bundle, given.provider, given.threads, own_code=None)
    return Result(report.to_dict(), lambda page: verified(page, report), report.verdict, report.failure)


def _bench(bundle: str, given: Namespace) -> Result:
    from runtimes.device.bench import bench
    from runtimes.device.tables import benched

    report = bench(bundle, given)
    return Result(report.to_dict(), lambda page: benched(page, report), report.verdict, report.failure)


def _settle(bundle: str, given: Namespace) -> Result:
    from runtimes.device.tables import settled
    from runtimes.proof.settling import settle

    report = settle(bundle, given.output, provider=given.provider, threads=given.threads, force=given.force,
                    seed=given.seed)  # fmt: skip
    return Result(report.to_dict(), lambda page: settled(page, report), report.verdict)


def _probe() -> None:
    """The side of the child that `bench` asks about one model."""
    from runtimes.device.bench import probed
    from runtimes.execution.fresh import reply

    reply(probed)
